"""What is no tenant's, and what a tenant without tables leaves: it is put into the cache too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
from db.clock import system_clock
from db.contract import Storage
from db.cuts import CUT_LIFE, LAST_SECOND, cut_until
from db.namespace import retired_key
from db.records import SigningKeyStatus, TenantStatus
from db.settings import StorageSettings
from db.warmth import CLAIM, MARKER
from db.work import JobName, WorkState
from tests.contract.cast import new_tenant
from tests.db.catalog import session, wait_for_waiting
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.servers.valkey import Valkey
from tests.workers.harness import perform
from tests.workers.test_warming import add_key, end, held, warm_up

# A server ends its keys by its own clock, so what is live must be so by that of this machine.
NOW = system_clock()
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def this_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite takes longer than the minute that some of what is here has to live."""
    monkeypatch.setitem(globals(), "NOW", system_clock())


async def test_a_key_that_is_retired_is_there_for_ever_however_long_ago_that_was(
    storage: Storage, settings: StorageSettings, cache: RedisRevocations, redis: Redis
) -> None:
    live, long_ago = NOW - HOUR, NOW - 2 * CUT_LIFE
    for kid, status, changed_at in (
        ("retired", SigningKeyStatus.RETIRED, live),
        ("long-ago", SigningKeyStatus.RETIRED, long_ago),
        ("old", SigningKeyStatus.PUBLISHED, live),
        ("new", SigningKeyStatus.SIGNING, live),
    ):
        await add_key(storage, kid, status, changed_at)

    _, keys = await warm_up(storage, settings, cache)

    retired = [retired_key("long-ago"), retired_key("retired")]
    assert keys == len(retired)
    assert sorted(await redis.keys("revocations:key:*")) == [each.encode() for each in retired]
    for each in retired:
        assert await redis.get(each) == b"1"
        assert await end(redis, each) == LAST_SECOND
    assert (await cache.read([])).warm


async def test_a_key_that_is_retired_during_the_first_pass_is_found_by_the_second(
    database: Database, cache: RedisRevocations, redis: Redis
) -> None:
    """Its gateway died before it could publish that."""
    settings = settings_of(database)
    async with opened(settings) as storage, session(database.owner_url) as connection:
        await add_key(storage, "old", SigningKeyStatus.PUBLISHED, NOW - HOUR)
        owner = await connection.execution_options(isolation_level="READ COMMITTED")
        async with owner.begin():
            await owner.exec_driver_sql("LOCK TABLE globex_token_revocations")
            running = asyncio.create_task(warm_up(storage, settings, cache))
            await wait_for_waiting(database.owner_url, 1)
            # The first pass has read the keys and is among the tenants.
            assert await redis.get(CLAIM)
            async with storage.registry_unit() as unit:
                key = await unit.signing_keys.get("old")
                assert key is not None
                retired = replace(key, status=SigningKeyStatus.RETIRED, changed_at=NOW)
                await unit.signing_keys.save(retired)
        _, keys = await running
    assert (await cache.read([])).warm
    assert await redis.get(retired_key("old")) == b"1"
    assert keys == 1


async def test_a_server_that_takes_no_key_of_a_key_gets_no_marker(
    storage: Storage, settings: StorageSettings, valkey: Valkey
) -> None:
    await add_key(storage, "retired", SigningKeyStatus.RETIRED, NOW - HOUR)
    cache = RedisRevocations(valkey.url())
    async with Redis.from_url(valkey.url()) as client:
        allowed = ["revocations:warm*", "revocations:evicted", "{*"]
        await client.acl_setuser("default", enabled=True, reset_keys=True, keys=allowed)
        work = await perform(storage, settings, JobName.WARM_REVOCATIONS, NOW, cache=cache)
        assert work.state is WorkState.QUEUED
        assert "does not answer" in str(work.last_error)
        assert await client.get(MARKER) is None
    await cache.close()


@pytest.mark.parametrize(
    "status", [TenantStatus.REMOVED, TenantStatus.FAILED, TenantStatus.PROVISIONING]
)
async def test_the_generation_of_a_tenant_without_tables_is_there_all_the_same(
    storage: Storage,
    settings: StorageSettings,
    cache: RedisRevocations,
    redis: Redis,
    status: TenantStatus,
) -> None:
    """A gateway may remember for a moment that it was served."""
    async with storage.registry_unit() as unit:
        for slug, generation, at in (
            ("initech", 3, NOW - HOUR),
            ("hooli", 0, NOW - HOUR),
            ("umbrella", 3, NOW - 2 * CUT_LIFE),
        ):
            gone = new_tenant(slug, status=status, token_generation=generation, updated_at=at)
            await unit.tenants.add(gone)
    seen, keys = await warm_up(storage, settings, cache)
    assert (seen, keys) == (2, 1)
    assert await held(redis) == {"{initech}:gen": (b"3", cut_until(NOW - HOUR))}
    assert (await cache.read([])).warm
