"""One row is run by one worker, and what came of it is saved by whoever still holds it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from db.contract import Storage
from db.errors import MigrationFailed, NotFound
from db.registry import RegistryUnit
from db.revocations import NoCache
from db.settings import StorageSettings
from db.work import LEASE, JobName, Work, WorkState, requeued
from tests.contract.cast import NOW, after
from tests.workers.harness import Bell, Clock, Pulse, queue
from workers.jobs import Job
from workers.run import Runner, worker_name
from workers.schedules import Daily, Every
from workers.state import Report, State

JOB = JobName.MIGRATE_FLEET
OTHER = JobName.TAIL_REVOCATIONS
Body = Callable[[State, datetime], Awaitable[Report]]


async def nothing(state: State, now: datetime) -> Report:
    return Report()


class Stuck:
    """A job that ends when it is told to stop, and not before."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.stopped = asyncio.Event()

    async def __call__(self, state: State, now: datetime) -> Report:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
        return Report()


@dataclass
class Scene:
    """A storage, a clock that stands, and runners with a list of their own."""

    settings: StorageSettings
    storage: Storage
    clock: Clock

    def runner(
        self, body: Body, *, name: str = "one", pulse: Pulse | None = None, **job: Any
    ) -> Runner:
        return Runner(
            settings=self.settings,
            storage=self.storage,
            cache=NoCache(),
            doorbell=Bell(),
            clock=self.clock,
            name=name,
            pause=pulse or Pulse(),
            jobs={
                JOB: Job(**{"name": JOB, "run": body, "timeout_seconds": 60, "reason": "", **job})
            },
        )

    async def queued(self) -> None:
        await queue(self.storage, JOB, self.clock())

    async def row(self) -> Work:
        work = await self.storage.registry.work.get(JOB.value)
        assert work is not None
        return work


@pytest.fixture
async def scene(settings: StorageSettings, storage: Storage) -> Scene:
    made = Scene(settings, storage, Clock(NOW))
    await made.queued()
    return made


async def test_what_went_well_is_kept_with_its_counts_and_the_next_time(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        assert (now, state.work.state, state.work.worker) == (NOW, WorkState.RUNNING, "one")
        state.advance(3, 3)
        scene.clock.advance(1.5)
        return Report(seen=3, changed=2)

    with capture_logs() as logs:
        ended = await scene.runner(body, schedule=Daily(hour=2, minute=17)).run(JOB.value)

    assert ended == await scene.row()
    assert ended == Work(
        key=JOB.value,
        job=JOB,
        state=WorkState.QUEUED,
        run_after=NOW.replace(day=18, hour=2, minute=17, second=0, microsecond=0),
        created_at=NOW,
        fence=1,
        progress={"done": 3, "total": 3},
        report={"seen": 3, "changed": 2, "failures": {}},
        started_at=NOW,
        finished_at=after(1.5),
        succeeded_at=after(1.5),
        ms=1500,
    )
    assert logs == [
        {
            "event": "job done",
            "log_level": "info",
            "job": JOB,
            "tenant": None,
            "attempt": 1,
            "ms": 1500,
            "seen": 3,
            "changed": 2,
        }
    ]


async def test_what_is_not_due_is_not_run(scene: Scene) -> None:
    runner = scene.runner(nothing)
    await runner.run(JOB.value)
    done = await scene.row()

    assert done.state is WorkState.DONE
    assert await runner.run(JOB.value) is None
    assert await scene.row() == done


@pytest.mark.parametrize(
    "key", ["provision_tenant:nobody", "paint_the_shed", "paint_the_shed:acme"]
)
async def test_a_row_that_is_gone_and_a_job_of_a_newer_program_are_left_alone(
    key: str, scene: Scene
) -> None:
    before = await scene.row()

    assert await scene.runner(Stuck()).run(key) is None
    assert await scene.row() == before


async def test_two_workers_never_run_one_row_at_once(scene: Scene) -> None:
    ran: list[str | None] = []
    go = asyncio.Event()

    async def body(state: State, now: datetime) -> Report:
        ran.append(state.work.worker)
        await go.wait()
        return Report()

    workers = [
        asyncio.create_task(scene.runner(body, name=f"{n}").run(JOB.value)) for n in range(4)
    ]
    refused, working = await asyncio.wait(workers, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    while len(refused) < 3:
        more, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        refused |= more
    go.set()
    (winner,) = working
    ended = await winner

    assert [task.result() for task in refused] == [None] * 3
    assert len(ran) == 1
    assert ended is not None
    assert (ended.state, ended.fence) == (WorkState.DONE, 1)


async def test_a_heartbeat_keeps_the_claim_and_tells_how_far_the_job_is(scene: Scene) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    pulse = Pulse()

    async def body(state: State, now: datetime) -> Report:
        state.advance(1, 10)
        begun.set()
        await go.wait()
        return Report()

    running = asyncio.create_task(scene.runner(body, pulse=pulse).run(JOB.value))
    await begun.wait()
    assert (await scene.row()).lease_until == NOW + LEASE
    await pulse.beat()
    told = await scene.row()
    assert told.progress == {"done": 1, "total": 10}

    scene.clock.advance(1)
    await pulse.beat()
    assert await scene.row() == told, "nothing is new, and the claim is young"

    for _ in range(5):
        scene.clock.advance(LEASE.total_seconds() / 3)
        await pulse.beat()
        held = await scene.row()
        assert held.lease_until == scene.clock() + LEASE
        assert not held.due(scene.clock())

    go.set()
    ended = await running
    assert ended is not None
    assert ended.state is WorkState.DONE


async def test_a_worker_that_was_taken_for_dead_is_stopped_and_saves_nothing(scene: Scene) -> None:
    pulse, stuck, later = Pulse(), Stuck(), Stuck()
    slow = asyncio.create_task(scene.runner(stuck, name="slow", pulse=pulse).run(JOB.value))
    await stuck.begun.wait()
    scene.clock.advance(LEASE.total_seconds())
    other = asyncio.create_task(scene.runner(later, name="other").run(JOB.value))
    await later.begun.wait()
    claim = await scene.row()
    assert (claim.worker, claim.fence) == ("other", 2)

    pulse.go()
    assert await slow is None

    assert stuck.stopped.is_set()
    assert await scene.row() == claim
    assert not later.stopped.is_set()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


@pytest.mark.parametrize("end", ["well", "badly", "held"])
async def test_whatever_comes_of_a_lost_claim_is_not_saved(end: str, scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        scene.clock.advance(LEASE.total_seconds())
        await scene.runner(nothing, name="other", schedule=Every(10)).run(JOB.value)
        if end == "badly":
            raise NotFound("it is gone")
        if end == "held":
            async with state.storage.registry_unit() as unit:
                await state.hold(unit)
                raise AssertionError("it held what is another's")
        return Report(seen=7)

    ended = await scene.runner(body, name="slow").run(JOB.value)

    assert ended is None
    row = await scene.row()
    assert (row.fence, row.report, row.last_error) == (2, Report().to_json(), None)
    assert row.run_after == Every(10).after(scene.clock())


async def test_what_takes_too_long_is_stopped(scene: Scene) -> None:
    ended = await scene.runner(Stuck(), timeout_seconds=0).run(JOB.value)

    assert ended is not None
    assert (ended.state, ended.attempts) == (WorkState.QUEUED, 1)
    assert ended.last_error == "it did not end within 0 s"


async def test_what_fails_is_tried_again_later_each_time_and_then_left(scene: Scene) -> None:
    heard: list[tuple[Work, str, datetime]] = []

    async def body(state: State, now: datetime) -> Report:
        raise MigrationFailed("the table is busy")

    async def gave_up(unit: RegistryUnit, work: Work, error: str, now: datetime) -> None:
        assert await unit.work.get(work.key) == work
        heard.append((work, error, now))

    runner = scene.runner(body, most_attempts=4, gave_up=gave_up)
    waits = []
    for _ in range(3):
        ended = await runner.run(JOB.value)
        assert ended is not None
        assert ended.state is WorkState.QUEUED
        waits.append((ended.run_after - scene.clock()).total_seconds())
        scene.clock.now = ended.run_after
        assert not heard

    last = await runner.run(JOB.value)

    assert waits == [2, 4, 8]
    assert last is not None
    assert (last.state, last.attempts, last.succeeded_at) == (WorkState.FAILED, 4, None)
    assert last.last_error == "the table is busy"
    assert heard == [(last, "the table is busy", scene.clock())]


async def test_nothing_is_given_up_by_halves(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        raise MigrationFailed("the table is busy")

    async def gave_up(unit: RegistryUnit, work: Work, error: str, now: datetime) -> None:
        raise NotFound("whom it concerns is gone")

    runner = scene.runner(body, most_attempts=1, gave_up=gave_up)

    with pytest.raises(NotFound):
        await runner.run(JOB.value)

    assert (await scene.row()).state is WorkState.RUNNING
    scene.clock.advance(LEASE.total_seconds())
    assert (await scene.row()).due(scene.clock())


async def test_a_schedule_is_kept_by_what_fails_too(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        raise MigrationFailed("the table is busy")

    ended = await scene.runner(body, most_attempts=1, schedule=Every(3600)).run(JOB.value)

    assert ended is not None
    assert (ended.state, ended.attempts) == (WorkState.QUEUED, 0)
    assert ended.run_after == Every(3600).after(NOW)


async def test_of_an_unforeseen_error_only_its_kind_is_told(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        raise ValueError("canary")

    with capture_logs() as logs:
        ended = await scene.runner(body).run(JOB.value)

    assert ended is not None
    assert ended.last_error == "ValueError"
    assert [line["event"] for line in logs] == ["fault", "job failed"]
    assert "in body" in logs[0]["traceback"]
    assert "canary" not in str(logs).replace('raise ValueError("canary")', "")


async def test_what_could_not_be_done_is_named_and_the_report_kept(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        return Report(seen=1000, changed=998, failures={"acme": "busy", "globex": "gone"})

    with capture_logs() as logs:
        ended = await scene.runner(body).run(JOB.value)

    assert ended is not None
    assert (ended.state, ended.attempts) == (WorkState.QUEUED, 1)
    assert ended.last_error == "2 of 1000 failed: acme (busy), globex (gone)"
    assert ended.report == {
        "seen": 1000,
        "changed": 998,
        "failures": {"acme": "busy", "globex": "gone"},
    }
    assert (logs[0]["event"], logs[0]["seen"], logs[0]["changed"]) == ("job failed", 1000, 998)


async def test_an_error_is_never_longer_than_a_line(scene: Scene) -> None:
    async def body(state: State, now: datetime) -> Report:
        return Report(seen=5000, failures={f"tenant{n}": "x" * 99 for n in range(5000)})

    ended = await scene.runner(body).run(JOB.value)

    assert ended is not None
    assert ended.last_error is not None
    assert ended.last_error.startswith("5000 of 5000 failed: tenant0 (xxx")
    assert len(ended.last_error) == 500
    assert ended.last_error.endswith("…")


async def test_told_to_stop_a_worker_puts_its_row_back(scene: Scene) -> None:
    stuck = Stuck()
    running = asyncio.create_task(scene.runner(stuck).run(JOB.value))
    await stuck.begun.wait()
    claim = await scene.row()
    scene.clock.advance(5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert stuck.stopped.is_set()
    assert await scene.row() == replace(
        claim,
        state=WorkState.QUEUED,
        run_after=after(5),
        attempts=0,
        worker=None,
        lease_until=None,
    )


async def test_told_to_stop_after_it_was_taken_for_dead_it_puts_back_nothing_of_anothers(
    scene: Scene,
) -> None:
    stuck, later = Stuck(), Stuck()
    slow = asyncio.create_task(scene.runner(stuck, name="slow").run(JOB.value))
    await stuck.begun.wait()
    scene.clock.advance(LEASE.total_seconds())
    other = asyncio.create_task(scene.runner(later, name="other").run(JOB.value))
    await later.begun.wait()
    claim = await scene.row()

    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert await scene.row() == claim
    assert (claim.worker, later.stopped.is_set()) == ("other", False)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_whenever_it_is_told_to_stop_no_row_waits_for_its_lease_to_end(scene: Scene) -> None:
    """At the first step of its way, the second, and so on until it has come to its end."""
    steps, ended = 0, False
    while not ended:
        async with scene.storage.registry_unit() as unit:
            held = await unit.work.get(JOB.value)
            assert held is not None
            await unit.work.save(requeued(held, scene.clock()))
        running = asyncio.create_task(scene.runner(nothing).run(JOB.value))
        for _ in range(steps):
            await asyncio.sleep(0)
        ended = running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        row = await scene.row()
        assert row.state in (WorkState.QUEUED, WorkState.DONE), steps
        steps += 1
    assert row.state is WorkState.DONE
    assert steps > 3
    gc.collect()  # a task that nobody listened to would complain here


async def test_a_job_that_ends_its_workers_is_given_up_too(scene: Scene) -> None:
    for _ in range(4):
        stuck = Stuck()
        dead = asyncio.create_task(scene.runner(stuck, most_attempts=2).run(JOB.value))
        await stuck.begun.wait()
        claim = await scene.row()
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
        # As SIGKILL would have left it.
        async with scene.storage.registry_unit() as unit:
            await unit.work.save(claim)
        scene.clock.advance(LEASE.total_seconds())

    ended = await scene.runner(nothing, most_attempts=2).run(JOB.value)

    assert ended is not None
    assert (ended.state, ended.attempts) == (WorkState.FAILED, 5)
    assert ended.last_error == "its worker was gone before it ended, 4 times"


def test_no_two_workers_have_one_name() -> None:
    names = {worker_name() for _ in range(100)}

    assert len(names) == 100
    assert all(len(name) <= 128 for name in names)
