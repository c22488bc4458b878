"""The tail: what was cut of late is put there again, and only then does the lease go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from db.cache import NoCache, RedisRevocations
from db.clock import system_clock
from db.contract import Storage
from db.namespace import retired_key
from db.records import CredentialStatus, SigningKeyStatus
from db.settings import StorageSettings
from db.warmth import LEASE_SECONDS, MARKER
from db.work import JobName, Work, WorkState, claimed, new_work, work_key
from tests.contract.cast import (
    ACME,
    GLOBEX,
    new_agent,
    new_credential,
    new_revocation,
    new_tenant,
    put,
)
from tests.workers.harness import Bell, PassingCache, perform
from tests.workers.test_warming import add_key, end, held, set_tenant, warm_up
from workers import filling

NOW = system_clock()
MINUTE = timedelta(seconds=60)
WARM_UP = work_key(JobName.WARM_REVOCATIONS)


@pytest.fixture(autouse=True)
def this_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite takes longer than the minute that most of what is here has to live."""
    monkeypatch.setitem(globals(), "NOW", system_clock())


async def tail(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, bell: Bell | None = None
) -> Work:
    return await perform(
        storage, settings, JobName.TAIL_REVOCATIONS, NOW, cache=cache, doorbell=bell
    )


def changed(work: Work) -> object:
    assert work.last_error is None
    assert work.report is not None
    return work.report["changed"]


async def shorten(redis: Redis) -> int:
    """The lease is almost over; its end."""
    second, _ = await redis.time()
    await redis.expireat(MARKER, second + 10)
    return int(second + 10)


async def test_a_crash_between_commit_and_publication_is_repaired(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    await warm_up(storage, settings, cache, NOW)
    late = NOW - timedelta(seconds=119)
    agent = new_agent(token_generation=3, updated_at=late)
    credential = new_credential(agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=late)
    token = new_revocation(expires_at=NOW + MINUTE, revoked_at=late)
    await put(storage, ACME, agent, credential, token)
    await set_tenant(storage, GLOBEX, token_generation=9, updated_at=late)
    await add_key(storage, "old", SigningKeyStatus.RETIRED, late)
    assert await held(redis) == {}
    assert changed(await tail(storage, settings, cache)) == 5
    assert await redis.get(retired_key("old")) == b"1"
    assert {name: value for name, (value, _) in (await held(redis)).items()} == {
        ACME.agent_generation_key(agent.agent_id): b"3",
        ACME.revoked_key(credential.credential_id): b"1",
        ACME.revoked_key(token.jti): b"1",
        GLOBEX.tenant_generation_key: b"9",
    }


async def test_a_worker_whose_clock_is_ahead_repairs_it_too(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    token = new_revocation(expires_at=NOW + MINUTE, revoked_at=NOW)
    await put(storage, ACME, token)
    ahead = NOW + timedelta(hours=1)
    await perform(storage, settings, JobName.TAIL_REVOCATIONS, ahead, cache=cache)
    assert list(await held(redis)) == [ACME.revoked_key(token.jti)]


async def test_what_is_older_or_has_ended_is_left_to_the_warm_up(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    early = NOW - timedelta(seconds=121)
    agent = new_agent(token_generation=3, updated_at=early)
    await put(
        storage,
        ACME,
        agent,
        new_agent(updated_at=NOW),
        new_credential(agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=early),
        new_revocation(expires_at=NOW + MINUTE, revoked_at=early),
        new_revocation(expires_at=NOW - MINUTE, revoked_at=NOW),
    )
    await set_tenant(storage, ACME, token_generation=9, updated_at=early)
    await add_key(storage, "old", SigningKeyStatus.RETIRED, early)
    await add_key(storage, "new", SigningKeyStatus.SIGNING, NOW)
    assert changed(await tail(storage, settings, cache)) == 0
    assert await held(redis) == {}
    assert await redis.keys("revocations:key:*") == []


async def test_more_than_one_statement_gives_is_put_there_to_the_last(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "_STRETCH", 2)
    tokens = [new_revocation(expires_at=NOW + MINUTE, revoked_at=NOW) for _ in range(7)]
    agents = [new_agent(token_generation=1, updated_at=NOW) for _ in range(4)]
    await put(storage, ACME, *tokens, *agents)
    assert changed(await tail(storage, settings, cache)) == 11
    assert len(await held(redis)) == 11


async def test_the_lease_goes_on_and_nobody_is_asked_to_warm_up(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    await warm_up(storage, settings, cache, NOW)
    before = await shorten(redis)
    bell = Bell()
    await tail(storage, settings, cache, bell)
    assert before + LEASE_SECONDS - 10 <= await end(redis) <= before + LEASE_SECONDS
    assert bell.rung == []
    kept = await storage.registry.work.get(WARM_UP)
    assert kept is not None
    assert kept.state is WorkState.DONE


async def test_the_lease_counts_from_before_the_reads(
    storage: Storage, settings: StorageSettings, redis: Redis, redis_url: str
) -> None:
    cache = PassingCache(redis_url)
    await warm_up(storage, settings, cache, NOW)
    cache.warmth.openings.clear()
    await shorten(redis)
    await tail(storage, settings, cache)
    assert await end(redis) == cache.warmth.openings[0].lease_end
    await cache.close()


async def test_a_tenant_that_cannot_be_read_leaves_the_lease_to_end(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    await warm_up(storage, settings, cache, NOW)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(new_tenant("broken"))
    token = new_revocation(expires_at=NOW + MINUTE, revoked_at=NOW)
    await put(storage, GLOBEX, token)
    before = await shorten(redis)
    work = await tail(storage, settings, cache)
    assert work.report is not None
    assert list(work.report["failures"]) == ["broken"]  # type: ignore[arg-type]  # an object
    assert await end(redis) == before
    assert list(await held(redis)) == [GLOBEX.revoked_key(token.jti)]


@pytest.mark.parametrize("marker", [None, "0" * 40])
async def test_without_a_marker_of_this_server_a_warm_up_is_asked_for(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    redis: Redis,
    marker: str | None,
) -> None:
    if marker:
        await redis.set(MARKER, marker, ex=60)
    for _ in range(2):
        bell = Bell()
        await tail(storage, settings, cache, bell)
        assert bell.rung == [WARM_UP]
        queued = await storage.registry.work.get(WARM_UP)
        assert queued is not None
        assert (queued.state, queued.run_after) == (WorkState.QUEUED, NOW)
        # From nothing the first time, and the second time after one that went well.
        await warm_up(storage, settings, cache, NOW)
        await redis.delete(MARKER)


@pytest.mark.parametrize(
    ("state", "becomes", "attempts"),
    [
        (WorkState.DONE, WorkState.QUEUED, 0),
        (WorkState.FAILED, WorkState.QUEUED, 0),
        (WorkState.QUEUED, WorkState.QUEUED, 3),
    ],
)
async def test_one_that_waits_after_a_failure_keeps_its_delay(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    state: WorkState,
    becomes: WorkState,
    attempts: int,
) -> None:
    row = new_work(JobName.WARM_REVOCATIONS, NOW, after=NOW + MINUTE)
    async with storage.registry_unit() as unit:
        await unit.work.add(row)
        await unit.work.save(replace(row, state=state, attempts=3))
    await tail(storage, settings, cache)
    found = await storage.registry.work.get(WARM_UP)
    assert found is not None
    assert (found.state, found.attempts) == (becomes, attempts)
    assert found.run_after == (row.run_after if state is WorkState.QUEUED else NOW)


async def test_one_that_runs_goes_on_undisturbed(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations
) -> None:
    row = new_work(JobName.WARM_REVOCATIONS, NOW, after=NOW)
    running = claimed(row, "another", NOW)
    assert running is not None
    async with storage.registry_unit() as unit:
        await unit.work.add(row)
        await unit.work.save(running)
    await tail(storage, settings, cache)
    assert await storage.registry.work.get(WARM_UP) == running


async def test_without_a_cache_there_is_nothing_to_do(
    storage: Storage, settings: StorageSettings
) -> None:
    bell = Bell()
    work = await perform(
        storage, settings, JobName.TAIL_REVOCATIONS, NOW, cache=NoCache(), doorbell=bell
    )
    assert work.report == {"seen": 0, "changed": 0, "failures": {}}
    assert bell.rung == []
    assert await storage.registry.work.get(WARM_UP) is None


async def test_without_its_server_it_fails_and_asks_for_nothing(
    storage: Storage, settings: StorageSettings, tmp_path: Path
) -> None:
    cache = RedisRevocations(f"unix://{tmp_path}/nothing.sock")
    bell = Bell()
    work = await tail(storage, settings, cache, bell)
    assert "does not answer" in str(work.last_error)
    assert work.run_after <= NOW + timedelta(seconds=10)
    assert bell.rung == []
    await cache.close()
