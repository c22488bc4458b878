"""Ringing: over Redis, where nothing but keys goes, and inside a process that is alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from db.contract import Storage
from db.errors import Misconfigured
from db.revocations import NoCache
from db.settings import StorageSettings
from db.work import JobName, WorkState, work_key
from tests.contract.cast import NOW, after
from tests.workers.harness import Clock, Pulse, queue
from workers.bell import QUEUE, ArqQueue
from workers.inline import InlineQueue
from workers.jobs import JOBS
from workers.queue import catalogue, open_queue

ROOT = Path(__file__).parents[2]
TAIL = JobName.TAIL_REVOCATIONS
PROVISION = work_key(JobName.PROVISION_TENANT, "acme")
NOWHERE = "redis://:canary@127.0.0.1:1/0"

_ALONE = """
import asyncio, sys
from gateway.settings import GatewaySettings
from gateway.wiring import assemble

async def main():
    gateway = await assemble(GatewaySettings.load())
    await gateway.queue.start()
    await gateway.queue.ring("tail_revocations")
    while await gateway.storage.registry.work.get("tail_revocations") is None:
        await asyncio.sleep(0.001)
    await gateway.close()
    print(*sorted({"arq", "asyncpg", "sqlalchemy"}.intersection(sys.modules)))

asyncio.run(main())
"""


async def rung(redis: Redis) -> list[str]:
    """The keys of the rows, in the order in which a worker hears of them."""
    ids = await redis.zrange(QUEUE, 0, -1)
    calls = [msgspec.json.decode(await redis.get(b"arq:job:" + each)) for each in ids]
    assert all(call["f"] == "work" for call in calls)
    return [call["a"][0] for call in calls]


async def test_a_bell_is_a_key_and_nothing_that_could_run(redis: Redis, redis_url: str) -> None:
    bell = ArqQueue(redis_url, Clock(NOW))

    await bell.ring(PROVISION)
    await bell.close()

    (each,) = await redis.zrange(QUEUE, 0, -1)
    call = msgspec.json.decode(await redis.get(b"arq:job:" + each))
    assert (call["f"], call["a"], call["k"]) == ("work", [PROVISION], {})


async def test_what_all_tenants_depend_on_is_heard_first(redis: Redis, redis_url: str) -> None:
    bell = ArqQueue(redis_url, Clock(NOW))

    await bell.ring(*(work_key(JobName.PROVISION_TENANT, f"t{n}") for n in range(3)), TAIL)
    await bell.close()

    assert (await rung(redis))[0] == TAIL
    assert len(await rung(redis)) == 4


async def test_rung_twice_in_a_moment_is_heard_once_and_later_again(
    redis: Redis, redis_url: str
) -> None:
    clock = Clock(NOW)
    bell = ArqQueue(redis_url, clock)

    await bell.ring(PROVISION, PROVISION)
    assert await rung(redis) == [PROVISION]
    # A worker that took it was killed: its mark is still there, and its id is never free again.
    (each,) = await redis.zrange(QUEUE, 0, -1)
    await redis.set(b"arq:in-progress:" + each, b"1")
    clock.advance(5)
    await bell.ring(PROVISION)
    await bell.close()

    assert await rung(redis) == [PROVISION, PROVISION]


async def test_a_bell_that_is_not_heard_is_no_error_and_is_told_once() -> None:
    bell = ArqQueue(NOWHERE, Clock(NOW))

    with capture_logs() as logs:
        await bell.start()
        for _ in range(3):
            await bell.ring(PROVISION)
        await bell.close()

    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "the queue's Redis does not answer")
    ]
    assert "canary" not in str(logs)


async def test_an_address_that_is_none_is_refused_without_being_told(
    settings: StorageSettings, storage: Storage
) -> None:
    wrong = settings.model_copy(update={"redis_url": "redis://:canary@host:port"})

    with pytest.raises(Misconfigured) as refused:
        open_queue(wrong, storage, NoCache(), Clock(NOW))

    assert "canary" not in str(refused.value)


async def test_where_there_is_a_redis_the_bell_is_there(
    settings: StorageSettings, storage: Storage, redis_url: str
) -> None:
    over_redis = settings.model_copy(update={"redis_url": redis_url})

    opened = [
        open_queue(chosen, storage, NoCache(), Clock(NOW)) for chosen in (over_redis, settings)
    ]

    assert [type(each) for each in opened] == [ArqQueue, InlineQueue]
    for each in opened:
        await each.close()


def inline(
    settings: StorageSettings, storage: Storage, pause: Callable[[float], Awaitable[None]]
) -> InlineQueue:
    return InlineQueue(settings, storage, NoCache(), Clock(NOW), pause=pause)


async def ended(storage: Storage, key: str) -> None:
    """Once a run of it has ended, well or badly."""
    async with asyncio.timeout(30):
        while True:
            work = await storage.registry.work.get(key)
            if work is not None and work.finished_at is not None:
                return
            await asyncio.sleep(0.001)


async def test_inside_the_process_what_is_rung_for_is_run_at_once(
    settings: StorageSettings, storage: Storage
) -> None:
    alone = inline(settings, storage, Pulse())
    key = await queue(storage, JobName.ENSURE_AUDIT_PARTITIONS, NOW)

    await alone.ring(key)
    await ended(storage, key)
    await alone.close()

    work = await storage.registry.work.get(key)
    assert work is not None
    assert work.report == {"seen": 2, "changed": 0, "failures": {}}
    assert await storage.registry.work.count() == 1, "nobody has looked for others"


async def test_inside_the_process_the_list_is_looked_through_again_and_again(
    settings: StorageSettings, storage: Storage
) -> None:
    pulse = Pulse()
    alone = inline(settings, storage, pulse)

    await alone.start()
    await alone.start()
    for job in JOBS.values():
        if job.at_start:
            await ended(storage, job.name)
    # Queued by another process, which rings elsewhere.
    key = await queue(storage, JobName.SWEEP_REVOCATIONS, after(-1))
    await pulse.beat()
    await ended(storage, key)
    await alone.close()

    for job in JOBS.values():
        work = await storage.registry.work.get(job.name)
        assert (work is not None) == (job.schedule is not None or job.at_start)


async def test_a_process_that_has_ended_runs_nothing_more(
    settings: StorageSettings, storage: Storage
) -> None:
    pulse = Pulse()
    alone = inline(settings, storage, pulse)
    key = await queue(storage, JobName.ENSURE_AUDIT_PARTITIONS, NOW)

    await alone.start()
    await alone.ring(key)
    await alone.close()
    left = await storage.registry.work.get(key)
    await alone.ring(key)
    pulse.go()
    await asyncio.sleep(0)

    assert left is not None
    assert left.worker is None
    assert left.state is WorkState.QUEUED
    assert await storage.registry.work.get(key) == left


def test_a_process_in_memory_loads_no_driver_and_no_arq() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", _ALONE],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines()[-1] == ""


def test_the_catalogue_is_the_list() -> None:
    lines = {line.name: line for line in catalogue()}

    assert list(lines) == list(JOBS) == list(JobName)
    assert lines[TAIL].schedule == "every 10 s"
    assert lines[JobName.PURGE_AUDIT_EVENTS].schedule == "daily at 03:07 UTC"
    assert lines[JobName.PROVISION_TENANT].schedule is None
    assert lines[JobName.PROVISION_TENANT].of_tenant
    assert all(line.reason for line in lines.values())
