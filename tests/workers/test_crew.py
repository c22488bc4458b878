"""What one process runs at a time, and how it comes to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import pytest

from db.contract import Storage
from db.revocations import NoCache
from db.settings import StorageSettings
from db.work import JobName, Work, WorkState, work_key
from tests.contract.cast import NOW
from tests.workers.harness import Bell, Clock, Pulse, queue
from workers import main, reconcile
from workers.crew import PLACES, Crew
from workers.jobs import JOBS, Job
from workers.run import Runner
from workers.state import Report, State

FLEET = JobName.MIGRATE_FLEET
PROVISION = JobName.PROVISION_TENANT


class Shift:
    """A crew whose jobs end when the test says so."""

    def __init__(self, settings: StorageSettings, storage: Storage) -> None:
        self.go = asyncio.Event()
        self.begun: list[str] = []
        self.storage = storage

        async def body(state: State, now: datetime) -> Report:
            self.begun.append(state.work.key)
            await self.go.wait()
            return Report()

        def job(name: JobName, *, of_tenant: bool) -> Job:
            return Job(name=name, run=body, timeout_seconds=60, reason="", of_tenant=of_tenant)

        self.crew = Crew(
            Runner(
                settings=settings,
                storage=storage,
                cache=NoCache(),
                doorbell=Bell(),
                clock=Clock(NOW),
                name="test",
                pause=Pulse(),
                jobs={
                    FLEET: job(FLEET, of_tenant=False),
                    PROVISION: job(PROVISION, of_tenant=True),
                },
            )
        )

    async def take(self, key: str, patience: float | None = None) -> bool:
        name, _, tenant = key.partition(":")
        await queue(self.storage, JobName(name), NOW, tenant or None)
        return await self.crew.take(key, patience)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while True:
                if true():
                    return
                await asyncio.sleep(0.001)

    async def row(self, key: str) -> Work:
        work = await self.storage.registry.work.get(key)
        assert work is not None
        return work


@pytest.fixture
def shift(settings: StorageSettings, storage: Storage) -> Shift:
    return Shift(settings, storage)


async def test_jobs_of_tenants_wait_for_a_place_and_the_others_for_nothing(shift: Shift) -> None:
    first = [work_key(PROVISION, f"t{n}") for n in range(PLACES)]
    for key in first:
        assert await shift.take(key, 0)

    refused = await shift.take(work_key(PROVISION, "late"), 0)
    assert await shift.take(FLEET, 0)
    await shift.until(lambda: len(shift.begun) == PLACES + 1)

    assert not refused
    assert set(shift.begun) == {*first, FLEET}
    assert (await shift.row("provision_tenant:late")).state is WorkState.QUEUED
    waiting = asyncio.create_task(shift.take("provision_tenant:late"))
    shift.go.set()
    assert await waiting
    await shift.until(lambda: "provision_tenant:late" in shift.begun)
    await shift.crew.close(10)
    assert (await shift.row("provision_tenant:late")).state is WorkState.DONE


async def test_however_often_it_is_rung_for_a_row_waits_once_for_a_place(shift: Shift) -> None:
    for n in range(PLACES):
        assert await shift.take(work_key(PROVISION, f"t{n}"), 0)
    late = asyncio.create_task(shift.take("provision_tenant:late"))
    await shift.until(lambda: len(shift.begun) == PLACES)

    again = [asyncio.create_task(shift.crew.take("provision_tenant:late")) for _ in range(100)]
    async with asyncio.timeout(10):
        await asyncio.gather(*again)

    assert not late.done()
    shift.go.set()
    assert await late
    await shift.until(lambda: "provision_tenant:late" in shift.begun)
    await shift.crew.close(10)
    assert shift.begun.count("provision_tenant:late") == 1


async def test_a_row_that_runs_here_is_not_begun_again(shift: Shift) -> None:
    for _ in range(PLACES + 1):
        assert await shift.take("provision_tenant:acme", 0)
    await shift.until(lambda: bool(shift.begun))

    assert await shift.take("provision_tenant:globex", 0), "the others had kept no place"
    await shift.until(lambda: len(shift.begun) == 2)

    assert shift.begun == ["provision_tenant:acme", "provision_tenant:globex"]
    shift.go.set()
    await shift.crew.close(10)


async def test_what_ends_in_time_is_kept_when_the_process_ends(shift: Shift) -> None:
    await shift.take(FLEET)
    await shift.until(lambda: bool(shift.begun))
    closing = asyncio.create_task(shift.crew.close(10))
    await asyncio.sleep(0)
    shift.go.set()
    await closing

    assert (await shift.row(FLEET)).state is WorkState.DONE


async def test_what_does_not_end_in_time_is_put_back_and_nothing_more_is_taken(
    shift: Shift,
) -> None:
    await shift.take(FLEET)
    await shift.until(lambda: bool(shift.begun))
    await shift.crew.close(0)

    put_back = await shift.row(FLEET)
    assert (put_back.state, put_back.attempts, put_back.worker) == (WorkState.QUEUED, 0, None)
    assert not await shift.crew.take(FLEET)
    assert await shift.row(FLEET) == put_back


async def test_a_place_is_free_again_whatever_became_of_the_row(shift: Shift) -> None:
    shift.go.set()
    for n in range(3 * PLACES):
        # Of half of them there is no row at all.
        key = work_key(PROVISION, f"t{n}")
        async with asyncio.timeout(10):
            assert await (shift.take(key) if n % 2 else shift.crew.take(key))
    await shift.crew.close(10)

    assert len(shift.begun) == 3 * PLACES // 2
    assert (await shift.row("provision_tenant:t1")).state is WorkState.DONE


def test_calls_that_find_no_place_end_faster_than_they_are_rung_for() -> None:
    """Otherwise an hour in which every place is taken fills Redis with them."""
    rung = reconcile._BATCH + len(JOBS)
    assert rung / main._MOST_CALLS * main._PATIENCE < reconcile.SECONDS
