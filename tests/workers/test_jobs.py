"""The list is whole, and every line of it can be kept."""

from __future__ import annotations

from db.work import LEASE, JobName
from workers.jobs import JOBS, job_name, of_tenant


def test_every_job_has_a_line_and_no_line_is_there_twice() -> None:
    assert list(JOBS) == list(JobName)
    assert all(job.name is name for name, job in JOBS.items())


def test_every_line_says_why() -> None:
    reasons = [job.reason for job in JOBS.values()]

    assert all(reasons)
    assert len(set(reasons)) == len(reasons)


def test_a_job_of_tenants_comes_when_it_is_asked_for_and_never_by_itself() -> None:
    for job in JOBS.values():
        assert not (job.of_tenant and (job.schedule or job.at_start)), job.name


def test_whoever_is_to_hear_of_the_end_hears_of_one() -> None:
    """A job with a schedule is never given up."""
    for job in JOBS.values():
        assert not (job.gave_up and job.schedule), job.name


def test_every_job_has_some_time_and_some_attempts() -> None:
    for job in JOBS.values():
        assert job.timeout_seconds > 0
        assert job.most_attempts > 0


def test_the_marker_of_the_cache_is_renewed_several_times_in_its_life() -> None:
    tail = JOBS[JobName.TAIL_REVOCATIONS]

    assert tail.at_start
    assert str(tail.schedule) == "every 10 s"
    assert tail.timeout_seconds < LEASE.total_seconds()


def test_a_key_says_whose_row_it_is() -> None:
    assert job_name("warm_revocations") is JobName.WARM_REVOCATIONS
    assert job_name("provision_tenant:acme") is JobName.PROVISION_TENANT
    assert job_name("paint_the_shed:acme") is None
    assert of_tenant("provision_tenant:acme")
    assert not of_tenant("warm_revocations")
    assert not of_tenant("paint_the_shed:acme")
