"""A run out of turn: the row is due now, its request is kept, and nothing is begun by accident."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from db.errors import InvalidInput, InvalidTransition, NotFound, Refused
from db.filters import WorkFilter
from db.pages import PageRequest
from db.records import JSONObject, OperatorEvent
from db.work import (
    LEASE,
    JobName,
    JobSummary,
    Work,
    WorkState,
    claimed,
    failed,
    finished,
    new_work,
)
from gateway.auth.principal import Operator
from gateway.services.work import WorkService
from tests.gateway import RunningGateway
from workers.queue import catalogue

WARM, PROVISION, REMOVE = (
    JobName.WARM_REVOCATIONS,
    JobName.PROVISION_TENANT,
    JobName.REMOVE_TENANT,
)
HOUR = timedelta(hours=1)


async def run(gateway: RunningGateway, job: JobName, slug: str | None = None) -> Work:
    """Nothing is done about what it rings for."""
    with gateway.queue.held():
        return await gateway.gateway.work.run(gateway.call(Operator()), job, slug)


async def put(gateway: RunningGateway, work: Work, payload: JSONObject | None = None) -> Work:
    async with gateway.gateway.storage.registry_unit() as unit:
        assert await unit.work.add(work)
        await unit.work.seal(work.key, payload)
    return work


async def rows(gateway: RunningGateway) -> list[Work]:
    page = await gateway.gateway.work.page(PageRequest(first=100), WorkFilter())
    return list(page.items)


async def events(gateway: RunningGateway) -> list[OperatorEvent]:
    """Newest first."""
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest(first=100))
    return list(page.items)


def waiting(gateway: RunningGateway, job: JobName = WARM, slug: str | None = None) -> Work:
    """Queued an hour ago, for in an hour."""
    now = gateway.clock.now
    return new_work(job, now - HOUR, slug, after=now + HOUR)


def running_row(gateway: RunningGateway, job: JobName = WARM, slug: str | None = None) -> Work:
    now = gateway.clock.now
    claim = claimed(new_work(job, now, slug, after=now), "w1", now)
    assert claim is not None
    return claim


def given_up(gateway: RunningGateway, job: JobName, slug: str | None = None) -> Work:
    now = gateway.clock.now
    return failed(running_row(gateway, job, slug), now, "blocked", most_attempts=1, again_at=None)


async def test_a_job_that_waits_is_due_now_and_the_request_is_kept(
    gateway: RunningGateway,
) -> None:
    before = await put(gateway, replace(waiting(gateway), attempts=3, fence=9))
    work = await run(gateway, WARM)
    assert work == replace(before, run_after=gateway.clock.now, attempts=0)
    assert await rows(gateway) == [work]
    assert gateway.queue.waiting == ["warm_revocations"]
    [event] = await events(gateway)
    assert (event.action, event.tenant, event.metadata) == (
        "job.requested", None, {"job": "warm_revocations"},
    )  # fmt: skip
    assert (event.timestamp, event.ip_address) == (gateway.clock.now, "192.0.2.1")


async def test_a_job_that_no_worker_has_ever_seen_gets_its_row(gateway: RunningGateway) -> None:
    work = await run(gateway, WARM)
    assert work == new_work(WARM, gateway.clock.now, after=gateway.clock.now)
    assert await rows(gateway) == [work]
    assert [event.action for event in await events(gateway)] == ["job.requested"]


async def test_what_has_been_waiting_too_long_does_not_look_as_if_it_had_just_come(
    gateway: RunningGateway,
) -> None:
    since = gateway.clock.now - HOUR
    before = await put(gateway, new_work(WARM, since, after=since))
    assert await run(gateway, WARM) == before
    assert [event.action for event in await events(gateway)] == ["job.requested"]


async def test_what_runs_is_left_alone_and_answered_as_it_is(gateway: RunningGateway) -> None:
    for before in (running_row(gateway), running_row(gateway, PROVISION, "acme")):
        await put(gateway, before)
        gateway.clock.advance(1)
        assert await run(gateway, before.job, before.tenant) == before
        assert before in await rows(gateway)
    assert await events(gateway) == []
    assert gateway.queue.waiting == []


async def test_what_ran_on_a_worker_that_is_gone_is_rung_for(gateway: RunningGateway) -> None:
    before = await put(gateway, running_row(gateway))
    gateway.clock.advance(LEASE.total_seconds())
    assert await run(gateway, WARM) == before
    assert gateway.queue.waiting == ["warm_revocations"]
    assert await events(gateway) == []


@pytest.mark.parametrize("job", [WARM, JobName.MIGRATE_FLEET, JobName.PURGE_AUDIT_EVENTS])
async def test_what_failed_or_is_done_is_run_anew(gateway: RunningGateway, job: JobName) -> None:
    now = gateway.clock.now
    await put(gateway, given_up(gateway, job))
    gateway.clock.advance(60)
    work = await run(gateway, job)
    assert (work.state, work.attempts, work.run_after) == (
        WorkState.QUEUED, 0, gateway.clock.now,
    )  # fmt: skip
    assert (work.last_error, work.finished_at) == ("blocked", now)
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.work.save(finished(running_row(gateway, job), now, {}, None))
    assert (await run(gateway, job)).state is WorkState.QUEUED


async def test_a_tenant_s_work_that_failed_is_tried_anew_with_what_belongs_to_it(
    gateway: RunningGateway,
) -> None:
    for job in (PROVISION, REMOVE):
        before = await put(gateway, given_up(gateway, job, "acme"), {"sealed": True})
        gateway.clock.advance(60)
        work = await run(gateway, job, "acme")
        assert work == replace(
            before, state=WorkState.QUEUED, attempts=0, run_after=gateway.clock.now
        )
        async with gateway.gateway.storage.registry_unit() as unit:
            assert await unit.work.unseal(work.key) == {"sealed": True}
    assert [(event.action, event.tenant, event.metadata) for event in await events(gateway)] == [
        ("job.requested", "acme", {"job": "remove_tenant"}),
        ("job.requested", "acme", {"job": "provision_tenant"}),
    ]
    assert gateway.queue.waiting == ["provision_tenant:acme", "remove_tenant:acme"]


async def test_a_tenant_that_is_made_can_be_hurried_on(gateway: RunningGateway) -> None:
    before = await put(gateway, waiting(gateway, PROVISION, "acme"))
    work = await run(gateway, PROVISION, "acme")
    assert work == replace(before, run_after=gateway.clock.now)


async def test_no_time_of_grace_is_skipped(gateway: RunningGateway) -> None:
    before = await put(gateway, waiting(gateway, REMOVE, "acme"))
    gateway.clock.advance(HOUR.total_seconds() - 1)
    with pytest.raises(InvalidTransition, match="and not before") as refusal:
        await run(gateway, REMOVE, "acme")
    assert refusal.value.path == ("tenant",)
    assert await rows(gateway) == [before]
    assert await events(gateway) == []
    assert gateway.queue.waiting == []
    gateway.clock.advance(1)
    assert await run(gateway, REMOVE, "acme") == before
    assert gateway.queue.waiting == ["remove_tenant:acme"]


@pytest.mark.parametrize("job", [PROVISION, REMOVE])
@pytest.mark.parametrize("state", [WorkState.DONE, WorkState.CANCELLED])
async def test_what_is_over_for_a_tenant_is_not_begun_again(
    gateway: RunningGateway, job: JobName, state: WorkState
) -> None:
    """A tenant that was called back must not be removed by a slip of the hand."""
    before = await put(gateway, replace(waiting(gateway, job, "acme"), state=state))
    gateway.clock.advance(2 * HOUR.total_seconds())
    with pytest.raises(InvalidTransition):
        await run(gateway, job, "acme")
    assert await rows(gateway) == [before]
    assert await events(gateway) == []
    assert gateway.queue.waiting == []


@pytest.mark.parametrize(
    ("job", "slug", "refusal", "path"),
    [
        (PROVISION, None, InvalidInput, "tenant"),
        (REMOVE, None, InvalidInput, "tenant"),
        (WARM, "acme", InvalidInput, "tenant"),
        (JobName.MIGRATE_FLEET, "", InvalidInput, "tenant"),
        (PROVISION, "acme", NotFound, "tenant"),
        (REMOVE, "globex", NotFound, "tenant"),
        (PROVISION, "", NotFound, "tenant"),
        (PROVISION, "ACME", NotFound, "tenant"),
        (REMOVE, "a\x00b", NotFound, "tenant"),
        (REMOVE, "pg_x", NotFound, "tenant"),
        (REMOVE, "' or 1=1 --", NotFound, "tenant"),
        (REMOVE, "a" * 10_000, NotFound, "tenant"),
    ],
)
async def test_no_row_is_made_for_what_cannot_be_meant(
    gateway: RunningGateway,
    job: JobName,
    slug: str | None,
    refusal: type[Refused],
    path: str,
) -> None:
    """Nobody's tables are made without an administrator who was told of it."""
    known = await put(gateway, waiting(gateway, PROVISION, "globex"))
    with pytest.raises(refusal) as refused:
        await run(gateway, job, slug)
    assert refused.value.path == (path,)
    assert await rows(gateway) == [known]
    assert await events(gateway) == []
    assert gateway.queue.waiting == []


async def test_a_job_that_is_not_on_the_list_is_not_found(gateway: RunningGateway) -> None:
    short = [each for each in catalogue() if each.name is not WARM]
    service = WorkService(gateway.gateway.storage, gateway.queue, short)
    with pytest.raises(NotFound) as refusal:
        await service.run(gateway.call(Operator()), WARM)
    assert refusal.value.path == ("job",)
    assert [each.listed.name for each in await service.jobs(gateway.clock.now)] == [
        name for name in JobName if name is not WARM
    ]
    assert (await rows(gateway), await events(gateway)) == ([], [])


async def test_asked_for_by_several_at_once_it_is_one_row(gateway: RunningGateway) -> None:
    service, call = gateway.gateway.work, gateway.call(Operator())
    with gateway.queue.held():
        made = await asyncio.gather(*(service.run(call, WARM) for _ in range(4)))
    assert [work.key for work in made] == ["warm_revocations"] * 4
    assert await rows(gateway) == [made[0]]
    assert [event.action for event in await events(gateway)] == ["job.requested"] * 4


async def test_what_is_asked_for_is_done(gateway: RunningGateway) -> None:
    await gateway.gateway.work.run(gateway.call(Operator()), JobName.ENSURE_AUDIT_PARTITIONS)
    [work] = await rows(gateway)
    assert work.succeeded_at == gateway.clock.now
    assert work.report == {"seen": 0, "changed": 0, "failures": {}}
    assert work.run_after > gateway.clock.now


async def _standing(gateway: RunningGateway, job: JobName) -> tuple[JobSummary, float]:
    [found] = [
        each
        for each in await gateway.gateway.work.jobs(gateway.clock.now)
        if each.listed.name is job
    ]
    return found.summary, found.lag_seconds


async def test_every_job_has_a_line_in_the_order_of_the_list(gateway: RunningGateway) -> None:
    lines = await gateway.gateway.work.jobs(gateway.clock.now)
    assert [line.listed for line in lines] == list(catalogue())
    assert [line.summary for line in lines] == [JobSummary(job=each.name) for each in catalogue()]
    assert {line.lag_seconds for line in lines} == {0.0}


async def test_a_line_tells_how_long_the_longest_waiting_has_waited(
    gateway: RunningGateway,
) -> None:
    await put(gateway, waiting(gateway, PROVISION, "acme"))
    await put(gateway, given_up(gateway, PROVISION, "globex"))
    summary, lag = await _standing(gateway, PROVISION)
    assert (summary.queued, summary.failed, lag) == (1, 1, 0.0)
    assert summary.last is not None
    assert summary.last.tenant == "globex"
    gateway.clock.advance(HOUR.total_seconds() + 90.5)
    assert (await _standing(gateway, PROVISION))[1] == 90.5
    assert (await _standing(gateway, WARM))[1] == 0.0


async def test_rows_are_found_by_what_they_are_for(gateway: RunningGateway) -> None:
    await put(gateway, waiting(gateway, PROVISION, "acme"))
    failed_row = await put(gateway, given_up(gateway, REMOVE, "acme"))
    await put(gateway, waiting(gateway))
    service = gateway.gateway.work
    filter = WorkFilter(state=(WorkState.FAILED,), tenant="acme")
    assert (await service.page(PageRequest(), filter)).items == (failed_row,)
    assert (await service.count(filter), await service.count(WorkFilter())) == (1, 3)
