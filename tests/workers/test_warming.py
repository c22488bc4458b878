"""The warm-up: what is live is in the cache with its natural end, and the marker comes last or not
at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.cache import NoCache, RedisRevocations
from db.clock import system_clock
from db.contract import Storage
from db.cuts import CUT_LIFE, cut_until, token_until
from db.namespace import TenantPrefix
from db.records import CredentialStatus, SigningKey, SigningKeyStatus, Tenant, TenantStatus
from db.revocations import Revocations
from db.settings import StorageSettings
from db.warmth import CLAIM, MARKER
from db.work import JobName, WorkState, new_work
from tests.contract.cast import (
    ACME,
    GLOBEX,
    new_agent,
    new_credential,
    new_revocation,
    new_tenant,
    put,
)
from tests.db.catalog import session, wait_for_waiting
from tests.db.postgres import opened, settings_of
from tests.db.token import Token
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey
from tests.workers.harness import Bell, PassingCache, perform
from workers import filling, warming
from workers.state import State

# A server ends its keys by its own clock, so what is live must be so by that of this machine.
NOW = system_clock()
MINUTE = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def this_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite takes longer than the minute that most of what is here has to live."""
    monkeypatch.setitem(globals(), "NOW", system_clock())


async def warm_up(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    now: datetime | None = None,
) -> tuple[int, int]:
    """How many tenants and keys it counts."""
    work = await perform(storage, settings, JobName.WARM_REVOCATIONS, now or NOW, cache=cache)
    assert work.state is WorkState.DONE, work.last_error
    assert work.report is not None
    return int(str(work.report["seen"])), int(str(work.report["changed"]))


async def held(redis: Redis) -> dict[str, tuple[bytes, int]]:
    """Each key of a tenant, with its value and the second of its end."""
    names = sorted(await redis.keys("{*"))
    async with redis.pipeline() as pipeline:
        for name in names:
            pipeline.get(name)
            pipeline.expiretime(name)
        said = await pipeline.execute()
    return {
        name.decode(): (said[2 * place], said[2 * place + 1]) for place, name in enumerate(names)
    }


async def end(redis: Redis, name: str = MARKER) -> int:
    """Of the marker's lease, or of another key."""
    async with redis.pipeline() as pipeline:
        pipeline.expiretime(name)
        [found] = await pipeline.execute()
    return int(found)


async def add_key(
    storage: Storage, kid: str, status: SigningKeyStatus, changed_at: datetime
) -> None:
    key = SigningKey(kid, "ES256", b"sealed", status, changed_at, changed_at)
    async with storage.registry_unit() as unit:
        assert await unit.signing_keys.add(key)


async def set_tenant(storage: Storage, tenant: TenantPrefix, **changes: object) -> Tenant:
    async with storage.registry_unit() as unit:
        row = await unit.tenants.get(tenant.value)
        assert row is not None
        row = replace(row, **changes)  # type: ignore[arg-type]  # each test names real fields
        await unit.tenants.save(row)
    return row


async def test_all_that_is_live_is_there_with_its_natural_end(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    live, long_ago = NOW - MINUTE, NOW - 2 * CUT_LIFE
    agent = new_agent(token_generation=7, updated_at=live)
    quiet = new_agent(token_generation=2, updated_at=long_ago)
    revoked = new_credential(agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=live)
    over = new_credential(agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=long_ago)
    ended = new_credential(
        agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=live, expires_at=live
    )
    token = new_revocation(expires_at=NOW + MINUTE, revoked_at=long_ago)
    dead = new_revocation(expires_at=NOW - MINUTE, revoked_at=live)
    await put(storage, ACME, agent, quiet, revoked, over, ended, token, dead)
    await put(storage, ACME, new_agent(), new_credential(agent.agent_id))
    others = new_revocation(jti=token.jti, expires_at=NOW + 3 * MINUTE)
    await put(storage, GLOBEX, others)
    await set_tenant(storage, GLOBEX, token_generation=4, updated_at=live)

    seen, _ = await warm_up(storage, settings, cache)

    assert seen == 2
    assert await held(redis) == {
        ACME.revoked_key(token.jti): (b"1", token_until(token.expires_at)),
        ACME.revoked_key(revoked.credential_id): (b"1", cut_until(live)),
        ACME.agent_generation_key(agent.agent_id): (b"7", cut_until(live)),
        GLOBEX.revoked_key(token.jti): (b"1", token_until(others.expires_at)),
        GLOBEX.tenant_generation_key: (b"4", cut_until(live)),
    }
    assert (await cache.read([])).warm
    assert not await redis.exists(CLAIM)


async def test_what_ends_within_the_leeway_of_the_clocks_is_still_there(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    token = new_revocation(expires_at=NOW - timedelta(seconds=5), revoked_at=NOW - MINUTE)
    await put(storage, ACME, token)
    await warm_up(storage, settings, cache)
    assert list(await held(redis)) == [ACME.revoked_key(token.jti)]


async def test_a_worker_whose_clock_is_ahead_misses_nothing_that_is_live(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    token = new_revocation(expires_at=NOW + MINUTE, revoked_at=NOW)
    await put(storage, ACME, token)
    await warm_up(storage, settings, cache, NOW + timedelta(hours=1))
    assert list(await held(redis)) == [ACME.revoked_key(token.jti)]


async def test_a_key_that_was_published_keeps_its_end_and_its_higher_generation(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    agent = new_agent(token_generation=3, updated_at=NOW)
    token = new_revocation(expires_at=NOW + MINUTE)
    credential = new_credential(
        agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=NOW - MINUTE
    )
    await put(storage, ACME, agent, credential, token)
    revocations = Revocations(storage, cache)
    await revocations.publish_token(ACME, token.jti, token.expires_at, NOW, NOW)
    await revocations.publish_credential(ACME, credential.credential_id, NOW - MINUTE, NOW)
    await revocations.publish_generation(ACME, agent.agent_id, 5, NOW, NOW)
    before = await held(redis)
    await warm_up(storage, settings, cache)
    assert await held(redis) == before


async def test_many_are_loaded_in_stretches_each_once(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "_STRETCH", 3)
    long_ago = NOW - timedelta(hours=2)
    agents = [new_agent(token_generation=1, updated_at=long_ago) for _ in range(7)]
    credentials = [
        new_credential(each.agent_id, status=CredentialStatus.REVOKED, revoked_at=long_ago)
        for each in agents[:6]
    ]
    tokens = [new_revocation(expires_at=NOW + MINUTE, revoked_at=long_ago) for _ in range(10)]
    await put(storage, ACME, *agents, *credentials, *tokens)
    _, keys = await warm_up(storage, settings, cache)
    assert keys == 7 + 6 + 10
    assert set(await held(redis)) == {
        *(ACME.agent_generation_key(each.agent_id) for each in agents),
        *(ACME.revoked_key(each.credential_id) for each in credentials),
        *(ACME.revoked_key(each.jti) for each in tokens),
    }


async def test_a_tenant_that_is_not_served_now_may_be_again_and_is_loaded_too(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    tokens = {tenant: new_revocation(expires_at=NOW + MINUTE) for tenant in (ACME, GLOBEX)}
    for tenant, token in tokens.items():
        await put(storage, tenant, token)
    await set_tenant(storage, ACME, status=TenantStatus.SUSPENDED)
    await set_tenant(storage, GLOBEX, status=TenantStatus.REMOVING)
    async with storage.registry_unit() as unit:
        for number, status in enumerate(
            (TenantStatus.PROVISIONING, TenantStatus.FAILED, TenantStatus.REMOVED)
        ):
            await unit.tenants.add(new_tenant(f"without{number}", status=status))
    seen, _ = await warm_up(storage, settings, cache)
    assert seen == 2
    assert set(await held(redis)) == {
        tenant.revoked_key(token.jti) for tenant, token in tokens.items()
    }
    assert (await cache.read([])).warm


async def test_a_tenant_that_cannot_be_read_is_named_and_leaves_the_cache_cold(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    token = new_revocation(expires_at=NOW + MINUTE)
    await put(storage, GLOBEX, token)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(new_tenant("broken"))
    work = await perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=cache)
    assert work.state is WorkState.QUEUED
    assert work.report is not None
    assert work.report["seen"] == 3
    assert list(work.report["failures"]) == ["broken"]  # type: ignore[arg-type]  # an object
    assert list(await held(redis)) == [GLOBEX.revoked_key(token.jti)]
    assert await redis.get(MARKER) is None


async def test_a_tenant_that_was_dropped_meanwhile_has_nothing_to_be_read(
    database: Database, cache: RedisRevocations
) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage, session(database.owner_url) as connection:
        owner = await connection.execution_options(isolation_level="READ COMMITTED")
        async with owner.begin():
            # Until this transaction ends, whoever reads acme waits.
            await owner.exec_driver_sql("LOCK TABLE acme_token_revocations")
            running = asyncio.create_task(warm_up(storage, settings, cache))
            await wait_for_waiting(database.owner_url, 1)
            for table in ("token_revocations", "audit_events", "credentials", "agents"):
                await owner.exec_driver_sql(f"DROP TABLE acme_{table} CASCADE")
            await owner.exec_driver_sql("UPDATE tenants SET status = 'removed' WHERE slug = 'acme'")
        await running
    assert (await cache.read([])).warm


async def test_what_is_cut_during_the_first_pass_is_found_by_the_second(
    database: Database, cache: RedisRevocations, redis: Redis
) -> None:
    """Its gateway took almost a minute to commit it, and died before it could publish it."""
    settings = settings_of(database)
    before, during = (
        new_revocation(expires_at=NOW + MINUTE, revoked_at=at)
        for at in (NOW, NOW - timedelta(seconds=59))
    )
    async with opened(settings) as storage, session(database.owner_url) as connection:
        await put(storage, ACME, before)
        owner = await connection.execution_options(isolation_level="READ COMMITTED")
        async with owner.begin():
            await owner.exec_driver_sql("LOCK TABLE globex_token_revocations")
            running = asyncio.create_task(warm_up(storage, settings, cache))
            await wait_for_waiting(database.owner_url, 1)
            async with asyncio.timeout(10):
                while not await redis.get(ACME.revoked_key(before.jti)):
                    pass
            await put(storage, ACME, during)
        _, keys = await running
    assert (await cache.read([])).warm
    assert set(await held(redis)) == {ACME.revoked_key(each.jti) for each in (before, during)}
    assert keys == 3, "one of them in both passes"


async def test_a_tenant_that_only_the_second_pass_cannot_read_leaves_the_cache_cold_too(
    database: Database, cache: RedisRevocations, redis: Redis
) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage, session(database.owner_url) as connection:
        owner = await connection.execution_options(isolation_level="READ COMMITTED")
        async with owner.begin():
            await owner.exec_driver_sql("LOCK TABLE globex_token_revocations")
            running = asyncio.create_task(
                perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=cache)
            )
            await wait_for_waiting(database.owner_url, 1)
            async with storage.registry_unit() as unit:
                await unit.tenants.add(new_tenant("broken"))
        work = await running
    assert work.report is not None
    assert list(work.report["failures"]) == ["broken"]  # type: ignore[arg-type]  # an object
    assert work.state is WorkState.QUEUED
    assert await redis.get(MARKER) is None


async def test_the_lease_counts_from_the_beginning_of_the_second_pass(
    storage: Storage, settings: StorageSettings, redis: Redis, redis_url: str
) -> None:
    cache = PassingCache(redis_url)
    await warm_up(storage, settings, cache)
    claimed, _, _, again, *holds = cache.warmth.openings
    assert len(holds) == 2, "each pass asks once for each tenant, and the claim and the second once"
    assert await end(redis) == again.lease_end > claimed.lease_end
    await cache.close()


async def test_without_a_cache_there_is_nothing_to_do(
    storage: Storage, settings: StorageSettings
) -> None:
    work = await perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=NoCache())
    assert work.state is WorkState.DONE
    assert work.report == {"seen": 0, "changed": 0, "failures": {}}


async def test_without_its_server_it_fails_and_is_tried_again(
    storage: Storage, settings: StorageSettings, tmp_path: Path
) -> None:
    cache = RedisRevocations(f"unix://:hunter2@{tmp_path}/nothing.sock")
    work = await perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=cache)
    assert work.state is WorkState.QUEUED
    assert work.run_after > NOW
    assert work.last_error is not None
    assert "does not answer" in work.last_error
    assert "hunter2" not in work.last_error
    await cache.close()


async def test_a_server_that_may_evict_is_refused_with_what_to_do(
    storage: Storage, settings: StorageSettings
) -> None:
    options = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with temporary_place() as room:
        server = Valkey(room / "valkey", options=options)
        server.start()
        cache = RedisRevocations(server.url())
        try:
            work = await perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=cache)
            assert "noeviction" in str(work.last_error)
            async with Redis.from_url(server.url()) as client:
                assert await client.dbsize() == 0
        finally:
            await cache.close()
            server.stop()


async def test_it_says_how_far_it_is(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "_STRETCH", 2)
    tokens = [
        new_revocation(jti=UUID(int=number << 124), expires_at=NOW + MINUTE)
        for number in range(1, 9)
    ]
    await put(storage, ACME, *tokens)
    told: list[tuple[int, int]] = []
    work = new_work(JobName.WARM_REVOCATIONS, NOW, after=NOW)
    state = State(settings, storage, cache, Bell(), work, lambda *said: told.append(said))
    await warming.run(state, NOW)
    assert {total for _, total in told} == {200}
    assert (12, 200) in told
    assert told[-1] == (200, 200)
    assert max(done for done, _ in told) == 200


async def test_a_second_one_on_a_warm_cache_disturbs_nobody(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations
) -> None:
    await put(storage, ACME, new_revocation(expires_at=NOW + MINUTE))
    await warm_up(storage, settings, cache)
    opening = await cache.warmth.claim()
    assert (await cache.read([])).warm
    await cache.warmth.complete(opening, opening)
    await warm_up(storage, settings, cache)
    assert (await cache.read([])).warm


async def test_afterwards_the_cache_alone_refuses_and_accepts(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    redis: Redis,
    place: Path,
) -> None:
    agent = new_agent(updated_at=NOW)
    credential = new_credential(agent.agent_id)
    revoked = new_revocation(expires_at=NOW + MINUTE)
    await put(storage, ACME, agent, credential, revoked)
    await warm_up(storage, settings, cache)
    url = f"postgresql://nobody@/nothing?host={place}"
    async with opened(StorageSettings.load(database_url=url)) as unreachable:
        revocations = Revocations(unreachable, cache)
        for jti, accepted in ((revoked.jti, False), (uuid4(), True)):
            token = Token(jti, agent.agent_id, credential.credential_id, gen=(0, 0))
            assert accepted is await revocations.accepts(new_tenant("acme"), token)
