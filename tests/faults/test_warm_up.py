"""The warm-up while workers are killed, the cache is emptied, and tokens are revoked all along."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
from db.clock import system_clock
from db.contract import Storage
from db.errors import Unavailable
from db.records import Revocation
from db.revocations import Revocations
from db.warmth import CLAIM, MARKER
from db.work import JobName, WorkState, new_work, work_key
from tests.contract.cast import ACME, new_agent, new_credential, new_tenant, put
from tests.db.postgres import execute, opened, settings_of
from tests.db.token import Token
from tests.servers.databases import Database
from tests.servers.process import end, launch
from tests.servers.valkey import Valkey
from tests.workers.harness import Bell
from workers import tailing, warming
from workers.state import State

_ROOT = Path(__file__).parents[2]
MANY = 400_000
SOME = 30_000
REVOCATIONS = 300
SECONDS = 120  # never reached: whoever waits longer waits for something that does not come


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[RedisRevocations]:
    made = RedisRevocations(valkey.url())
    yield made
    await made.close()


@pytest.fixture
async def others(valkey: Valkey) -> AsyncIterator[RedisRevocations]:
    made = RedisRevocations(valkey.url())
    yield made
    await made.close()


@contextmanager
def working(
    folder: Path, name: str, database: Database, valkey: Valkey
) -> Iterator[Callable[[], object]]:
    """A real worker, and how to kill it."""
    with (folder / f"{name}.log").open("wb") as output:
        process = launch(
            [sys.executable, "-m", "tests.faults.worker"],
            output=output,
            environment={
                "DATABASE_URL": database.app_url,
                "DATABASE_OWNER_URL": database.owner_url,
                "REDIS_URL": valkey.url(),
            },
            folder=_ROOT,
        )
    try:
        yield lambda: end(process, signal.SIGKILL)
    finally:
        end(process, signal.SIGTERM)


async def revoked_already(database: Database, count: int) -> None:
    await execute(
        database,
        "INSERT INTO acme_token_revocations (jti, expires_at, revoked_at)"
        " SELECT gen_random_uuid(), now() + interval '1 hour', now() - interval '1 hour'"
        f" FROM generate_series(1, {count})",
    )


async def loaded(redis: Redis) -> int:
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.eval("return #redis.call('KEYS', '{acme}:revoked:*')", 0)
        [count] = await pipeline.execute()
    return int(count)


async def until(happens: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(SECONDS):
        # Both things that are waited for are asked of a server, which takes its time.
        while not await happens():
            pass


async def test_a_worker_killed_half_way_leaves_no_marker_and_the_next_one_warms_up(
    database: Database, valkey: Valkey, cache: RedisRevocations, tmp_path: Path
) -> None:
    await revoked_already(database, MANY)
    async with Redis.from_url(valkey.url()) as redis:

        async def half_way() -> bool:
            return bool(await redis.dbsize() > MANY // 10)

        async def is_warm() -> bool:
            return (await cache.read([])).warm

        with working(tmp_path, "killed", database, valkey) as kill:
            await until(half_way)
            kill()
        assert await redis.get(CLAIM) is not None
        assert await redis.get(MARKER) is None
        assert not await is_warm()
        assert MANY // 10 - 1000 < await loaded(redis) < MANY
        with working(tmp_path, "next", database, valkey):
            await until(is_warm)
            assert await loaded(redis) == MANY
        async with opened(settings_of(database)) as storage:
            row = await storage.registry.work.get(work_key(JobName.WARM_REVOCATIONS))
        assert row is not None
        assert row.fence >= 2
        assert row.report is None or row.report["changed"] == MANY


@dataclass
class Torture:
    """Revokes through one connection pool what is checked through another."""

    storage: Storage
    mine: Revocations
    others: Revocations
    agent_id: UUID
    credential_id: UUID
    acknowledged: list[UUID] = field(default_factory=list)
    silent: list[UUID] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def goes_on(self) -> bool:
        """Until enough of everything has been seen."""
        wanted = ("warm", "cold", "warmed up", "broken off")
        return len(self.acknowledged) < REVOCATIONS or any(self.seen[what] < 5 for what in wanted)

    async def accepts(self, jti: UUID) -> bool:
        token = Token(jti, self.agent_id, self.credential_id, gen=(0, 0))
        return await self.others.accepts(new_tenant("acme"), token)

    async def revoke(self, chance: random.Random) -> None:
        while self.goes_on():
            now = system_clock()
            jti, ends = uuid4(), now + timedelta(hours=1)
            assert await self.accepts(jti), "it is not revoked yet"
            async with self.storage.unit(ACME) as unit:
                assert await unit.revocations.add(Revocation(jti, ends, now))
            if chance.random() < 0.3:
                # Its gateway dies between the commit and the publication.
                self.silent.append(jti)
                continue
            with suppress(Unavailable):
                await self.mine.publish_token(ACME, jti, ends, now, now)
                self.acknowledged.append(jti)
                assert not await self.accepts(jti)

    async def check(self, chance: random.Random) -> None:
        while self.goes_on():
            self.seen["warm" if await self.others.is_warm() else "cold"] += 1
            for jti in chance.sample(self.acknowledged, min(5, len(self.acknowledged))):
                assert not await self.accepts(jti), "an acknowledged revocation was believed away"
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_revocation_is_lost_to_a_warm_up_that_runs_meanwhile(
    database: Database,
    valkey: Valkey,
    cache: RedisRevocations,
    others: RedisRevocations,
    seed: int,
) -> None:
    await revoked_already(database, SOME)
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    settings = settings_of(database)
    chance = random.Random(seed)
    async with opened(settings) as storage, Redis.from_url(valkey.url()) as redis:
        await put(storage, ACME, agent, credential)
        torture = Torture(
            storage,
            Revocations(storage, cache),
            Revocations(storage, others),
            agent.agent_id,
            credential.credential_id,
        )
        row = new_work(JobName.WARM_REVOCATIONS, system_clock(), after=system_clock())
        state = State(settings, storage, cache, Bell(), row, lambda done, total: None)

        async def warm_up() -> None:
            while torture.goes_on():
                try:
                    await warming.run(state, system_clock())
                    torture.seen["warmed up"] += 1
                except Unavailable:
                    torture.seen["broken off"] += 1

        async def empty() -> None:
            while torture.goes_on():
                await asyncio.sleep(chance.uniform(0, 0.4))
                await redis.flushall()

        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for act in (warm_up(), empty(), torture.check(chance)):
                group.create_task(act)
            for _ in range(3):
                group.create_task(torture.revoke(chance))

        # What nobody published is put there by the tail, and then the cache alone refuses it all.
        await warming.run(state, system_clock())
        late = uuid4()
        ends = system_clock() + timedelta(hours=1)
        await put(storage, ACME, Revocation(late, ends, system_clock()))
        await tailing.run(state, system_clock())
        assert await torture.others.is_warm()
        gone = [ACME.revoked_key(jti) for jti in (*torture.acknowledged, *torture.silent, late)]
        found = await others.read(gone)
        assert (found.warm, set(found.values)) == (True, {b"1"})
        assert await loaded(redis) == SOME + len(gone)
        for jti in (*torture.acknowledged[-20:], *torture.silent[-20:], late):
            assert not await torture.accepts(jti)
        assert await torture.accepts(uuid4())
        queued = await storage.registry.work.get(work_key(JobName.WARM_REVOCATIONS))
        assert queued is None or queued.state is WorkState.QUEUED
