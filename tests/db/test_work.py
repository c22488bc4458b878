"""How a row of work moves from state to state: pure functions, every state and instant tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import String

from db.records import JSONObject
from db.tables import work as table
from db.work import (
    LEASE,
    JobName,
    JobSummary,
    Work,
    WorkState,
    cancelled,
    claimed,
    due_since,
    failed,
    finished,
    new_work,
    released,
    renewed,
    requeued,
    summarised,
    work_key,
)
from tests.contract.cast import MICROSECOND, NOW, after, new_row, whole_row
from tests.contract.values import works

OPEN = (WorkState.QUEUED, WorkState.RUNNING)
WAITING = new_work(JobName.PROVISION_TENANT, NOW, "acme", after=after(5))


def taken(work: Work, now: datetime = NOW, worker: str = "w1") -> Work:
    claim = claimed(work, worker, now)
    assert claim is not None
    return claim


RUNNING = taken(new_row())


def fail(work: Work, now: datetime = NOW, most: int = 5, again: datetime | None = None) -> Work:
    return failed(work, now, "blocked", most_attempts=most, again_at=again)


def test_a_key_is_the_job_and_its_tenant() -> None:
    assert work_key(JobName.WARM_REVOCATIONS) == "warm_revocations"
    assert work_key(JobName.PROVISION_TENANT, "acme") == "provision_tenant:acme"
    longest = max(len(work_key(job, "a" * 24)) for job in JobName)
    column = table.c.key.type
    assert isinstance(column, String)
    assert column.length is not None
    assert longest <= column.length


def test_a_new_row_waits_for_its_time_and_has_done_nothing() -> None:
    work = new_work(JobName.PROVISION_TENANT, NOW, "acme", after=after(5))
    assert work == Work(
        key="provision_tenant:acme",
        job=JobName.PROVISION_TENANT,
        state=WorkState.QUEUED,
        run_after=after(5),
        created_at=NOW,
        tenant="acme",
    )
    assert not work.due(after(5) - MICROSECOND)
    assert work.due(after(5))
    assert due_since(work) == after(5)


@pytest.mark.parametrize("state", [state for state in WorkState if state not in OPEN])
def test_what_is_closed_is_never_due_and_cannot_be_claimed(state: WorkState) -> None:
    work = new_row(state=state, run_after=after(-9), lease_until=after(-9))
    assert not work.due(after(10**6))
    assert claimed(work, "w", after(10**6)) is None


def test_a_claim_is_a_lease_from_now_with_a_new_fence() -> None:
    before = replace(WAITING, attempts=2, fence=7, progress={"done": 1}, report={"seen": 1})
    assert claimed(before, "w1", after(5) - MICROSECOND) is None
    claim = taken(before, after(6))
    assert claim == replace(
        before,
        state=WorkState.RUNNING,
        worker="w1",
        lease_until=after(6) + LEASE,
        attempts=3,
        fence=8,
        progress=None,
        started_at=after(6),
    )
    assert claim.held_by(claim)
    assert not before.held_by(before)
    assert taken(before, after(6)).lease_until == after(6) + LEASE
    short = claimed(before, "w1", after(6), timedelta(seconds=1))
    assert short is not None
    assert short.lease_until == after(7)


def test_a_row_is_claimed_again_when_its_lease_is_over_and_not_before() -> None:
    over = NOW + LEASE
    assert not RUNNING.due(over - MICROSECOND)
    assert claimed(RUNNING, "w2", over - MICROSECOND) is None
    second = taken(RUNNING, over, "w2")
    assert (second.fence, second.attempts, second.worker) == (2, 2, "w2")
    assert second.held_by(second)
    assert not second.held_by(RUNNING)
    assert due_since(RUNNING) == over
    assert replace(RUNNING, lease_until=None).due(NOW)
    assert due_since(replace(RUNNING, lease_until=None)) == NOW


def test_a_renewal_moves_the_lease_and_says_how_far_it_is() -> None:
    still = renewed(RUNNING, after(30), {"done": 3, "total": 9})
    assert still == replace(
        RUNNING, lease_until=after(30) + LEASE, progress={"done": 3, "total": 9}
    )
    assert still.held_by(RUNNING)
    assert renewed(RUNNING, NOW, None, timedelta(seconds=2)).lease_until == after(2)


def test_what_is_put_back_is_due_at_once_and_was_no_attempt() -> None:
    back = released(RUNNING, after(3))
    assert back == replace(
        RUNNING,
        state=WorkState.QUEUED,
        run_after=after(3),
        attempts=0,
        worker=None,
        lease_until=None,
    )
    assert back.due(after(3))
    assert not back.held_by(RUNNING)
    assert taken(back, after(3)).attempts == 1
    assert released(replace(RUNNING, attempts=0), NOW).attempts == 0


def test_what_ended_well_is_done_or_comes_again_by_its_schedule() -> None:
    run = replace(RUNNING, attempts=4, last_error="blocked", progress={"done": 9})
    done = finished(run, after(1.5), {"seen": 9}, None)
    assert done == replace(
        run,
        state=WorkState.DONE,
        attempts=0,
        worker=None,
        lease_until=None,
        report={"seen": 9},
        last_error=None,
        finished_at=after(1.5),
        succeeded_at=after(1.5),
        ms=1500,
    )
    assert finished(run, after(1.5), {"seen": 9}, after(60)) == replace(
        done, state=WorkState.QUEUED, run_after=after(60)
    )


def test_what_failed_is_tried_again_after_twice_as_long_each_time() -> None:
    delays: list[float] = []
    work = new_row()
    while len(delays) < 12:
        now = work.run_after
        work = fail(taken(work, now), now, most=10**9)
        assert work.state is WorkState.QUEUED
        assert (work.worker, work.lease_until, work.last_error) == (None, None, "blocked")
        delays.append((work.run_after - now).total_seconds())
    assert delays == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    late = fail(replace(RUNNING, attempts=10**6), NOW, most=10**9)
    assert late.run_after == after(300)


def test_what_failed_too_often_is_left_to_the_operator_or_to_its_schedule() -> None:
    run = replace(RUNNING, attempts=5, succeeded_at=after(-99), report={"seen": 1})
    given_up = fail(run, after(2))
    assert given_up == replace(
        run,
        state=WorkState.FAILED,
        worker=None,
        lease_until=None,
        report=None,
        last_error="blocked",
        finished_at=after(2),
        ms=2000,
    )
    assert given_up.succeeded_at == after(-99)
    assert fail(replace(run, attempts=4), after(2)).state is WorkState.QUEUED
    assert fail(replace(run, attempts=9), after(2)).state is WorkState.FAILED
    assert fail(run, after(2), again=after(60)) == replace(
        given_up, state=WorkState.QUEUED, run_after=after(60), attempts=0
    )
    report: JSONObject = {"seen": 3, "changed": 2, "failures": {"acme": "blocked"}}
    told = failed(run, NOW, "1 of 3", most_attempts=5, again_at=None, report=report)
    assert (told.report, told.last_error) == (report, "1 of 3")


def test_a_run_never_takes_less_than_no_time() -> None:
    """Two machines' clocks are not the same."""
    assert finished(RUNNING, after(-5), {}, None).ms == 0
    assert finished(replace(RUNNING, started_at=None), after(5), {}, None).ms == 0
    assert fail(RUNNING, after(0.0004)).ms == 0
    assert fail(RUNNING, after(0.0006)).ms == 1


@pytest.mark.parametrize("state", [s for s in WorkState if s is not WorkState.RUNNING])
def test_what_is_asked_for_anew_waits_with_all_its_attempts(state: WorkState) -> None:
    work = replace(whole_row(), state=state)
    assert requeued(work, after(7)) == replace(
        work, state=WorkState.QUEUED, run_after=after(7), attempts=0
    )
    assert cancelled(work) == replace(work, state=WorkState.CANCELLED)


def test_what_runs_is_neither_disturbed_nor_cancelled() -> None:
    assert requeued(RUNNING, after(-99)) is RUNNING
    assert cancelled(RUNNING) is None


transitions: st.SearchStrategy[Callable[[Work], Work | None]] = st.sampled_from([
    lambda work: claimed(work, "w", NOW),
    lambda work: renewed(work, NOW, {"done": 1}),
    lambda work: released(work, NOW),
    lambda work: finished(work, NOW, {}, None),
    lambda work: finished(work, NOW, {}, after(60)),
    lambda work: fail(work),
    lambda work: fail(work, most=1),
    lambda work: fail(work, again=after(60)),
    lambda work: requeued(work, NOW),
    cancelled,
])  # fmt: skip


@given(work=works(), change=transitions)
@settings(max_examples=60, deadline=None)
def test_what_a_row_is_for_never_changes_and_only_a_claim_raises_its_fence(
    work: Work, change: Callable[[Work], Work | None]
) -> None:
    made = change(work)
    if made is None:
        return
    assert (made.key, made.job, made.tenant, made.created_at) == (
        work.key,
        work.job,
        work.tenant,
        work.created_at,
    )
    claim = made.state is WorkState.RUNNING and made.started_at == NOW and made.fence != work.fence
    assert made.fence == work.fence + (1 if claim else 0)


# A row that runs has a lease, or was due when it was claimed.
possible = works().filter(lambda work: work.lease_until is not None or work.run_after <= NOW)


@given(rows=st.lists(possible, max_size=6, unique_by=lambda work: work.key))
@settings(max_examples=60, deadline=None)
def test_a_summary_counts_every_row_once(rows: list[Work]) -> None:
    lines = summarised(rows, NOW)
    assert [line.job for line in lines] == sorted({row.job for row in rows})
    closed = sum(row.state in (WorkState.DONE, WorkState.CANCELLED) for row in rows)
    assert sum(line.queued + line.running + line.failed for line in lines) == len(rows) - closed
    for line in lines:
        mine = [row for row in rows if row.job is line.job]
        assert (line.due_since is None) is (not any(row.due(NOW) for row in mine))
        assert line.due_since is None or line.due_since <= NOW
        assert (line.last is None) is (not any(row.finished_at for row in mine))
        assert line.last is None or line.last in mine


def test_a_summary_of_nothing_is_nothing() -> None:
    assert list(summarised([], NOW)) == []
    assert list(summarised([WAITING], NOW)) == [JobSummary(job=WAITING.job, queued=1)]
    assert list(summarised([WAITING], after(5))) == [
        JobSummary(job=WAITING.job, queued=1, due_since=after(5))
    ]
