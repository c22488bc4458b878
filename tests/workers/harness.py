"""One job is queued and run, with the time passed in: what the tests of jobs begin with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from db.cache import RedisRevocations
from db.contract import Storage
from db.revocations import NoCache, RevocationCache
from db.settings import StorageSettings
from db.warmth import Opening, Warmth
from db.work import Doorbell, JobName, Work, claimed, new_work, requeued, work_key
from workers.run import Runner
from workers.state import State


class Clock:
    """Stands still unless it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


class Pulse:
    """What a heartbeat waits for: it beats when a test says so."""

    def __init__(self) -> None:
        self._waiting = asyncio.Event()
        self._beats = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self._waiting.set()
        await self._beats.wait()
        self._beats.clear()

    def go(self) -> None:
        self._waiting.clear()
        self._beats.set()

    async def beat(self) -> None:
        """Once, to the end of it."""
        async with asyncio.timeout(10):
            await self._waiting.wait()
            self.go()
            await self._waiting.wait()


@dataclass
class Bell:
    """Remembers for what it was rung."""

    rung: list[str] = field(default_factory=list)

    async def ring(self, *keys: str) -> None:
        self.rung += keys


class Passing(Warmth):
    """A second passes whenever the server is asked for its clock; `openings` is what it said."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.openings: list[Opening] = []

    async def look(self) -> Opening:
        return self._later(await super().look())

    async def claim(self) -> Opening:
        return self._later(await super().claim())

    async def hold(self, opening: Opening) -> Opening:
        return self._later(await super().hold(opening))

    def _later(self, opening: Opening) -> Opening:
        later = replace(opening, second=opening.second + len(self.openings))
        self.openings.append(later)
        return later


class PassingCache(RedisRevocations):
    """Whose `warmth` is a `Passing`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.warmth: Passing = Passing(self._ask)


async def queue(storage: Storage, job: JobName, now: datetime, tenant: str | None = None) -> str:
    """The key of the job's row, which is due at `now` unless it runs."""
    key = work_key(job, tenant)
    async with storage.registry_unit() as unit:
        if not await unit.work.add(new_work(job, now, tenant, after=now)):
            held = await unit.work.get(key)
            assert held is not None
            await unit.work.save(requeued(held, now))
    return key


async def perform(
    storage: Storage,
    settings: StorageSettings,
    job: JobName,
    now: datetime,
    tenant: str | None = None,
    *,
    cache: RevocationCache | None = None,
    doorbell: Doorbell | None = None,
) -> Work:
    """Queues the job for `now` and runs it once, by the program's own list; the row as it was
    left. A payload that was sealed beside the row before is there for the job."""
    key = await queue(storage, job, now, tenant)
    runner = Runner(
        settings=settings,
        storage=storage,
        cache=cache or NoCache(),
        doorbell=doorbell or Bell(),
        clock=Clock(now),
        name="test",
    )
    ended = await runner.run(key)
    assert ended is not None, f"{key} was not due, or its claim was lost"
    return ended


async def claim(
    storage: Storage, settings: StorageSettings, key: str, now: datetime, worker: str = "worker"
) -> State:
    """The row as a worker has it that then does nothing more by itself."""
    async with storage.registry_unit() as unit:
        row = await unit.work.get(key)
        held = row and claimed(row, worker, now)
        assert held is not None
        await unit.work.save(held)
    return State(settings, storage, NoCache(), Bell(), held, lambda *_: None)
