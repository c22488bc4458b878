"""What is older than its tenant's retention goes, and nothing younger, whatever the clock says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from db.clock import system_clock
from db.contract import Storage
from db.namespace import TenantPrefix
from db.records import AuditEvent
from db.settings import StorageSettings
from db.work import JobName, Work, WorkState
from tests.contract.cast import ACME, GLOBEX, MICROSECOND, new_event, new_tenant, put
from tests.contract.paging import items
from tests.db.catalog import session
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.workers.harness import perform

# Long gone, so that it is not ahead of the machine's clock.
FIRST = datetime(2023, 10, 20, tzinfo=UTC)
NOW = datetime(2024, 3, 31, 3, 7, tzinfo=UTC)
EVER = datetime(1970, 1, 1, tzinfo=UTC)
SHORT, USUAL = TenantPrefix("shortly"), TenantPrefix("usually")


@pytest.fixture
async def kept(storage: Storage) -> Storage:
    """With two tenants since October 2023; `shortly` keeps its trail for 30 days and `usually` for
    the 90 of the settings. (Those that every test has are of another time.)"""
    await trails(storage)
    return storage


async def trails(storage: Storage) -> None:
    for tenant, days in ((SHORT, 30), (USUAL, None)):
        await storage.upkeep.provision(tenant, FIRST)
        await storage.upkeep.ensure_months(tenant, NOW)
        async with storage.registry_unit() as unit:
            await unit.tenants.add(new_tenant(str(tenant), retention_days=days))


async def purge(storage: Storage, settings: StorageSettings, now: datetime) -> Work:
    return await perform(storage, settings, JobName.PURGE_AUDIT_EVENTS, now)


async def trail(storage: Storage, tenant: TenantPrefix) -> list[AuditEvent]:
    found = await items(lambda request: storage.read(tenant).audit.page(request, EVER))
    return found[::-1]


async def purged(storage: Storage) -> Mapping[str, list[str]]:
    lines = await items(storage.registry.purges.page)
    return {
        tenant: sorted(each.partition[-8:] for each in lines if each.tenant == tenant)
        for tenant in {each.tenant for each in lines}
    }


async def test_each_tenants_own_retention_decides(kept: Storage, settings: StorageSettings) -> None:
    # 90 days before is 1 January, 3:07; 30 days before is 1 March, 3:07.
    edges = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)]
    events = [new_event(each) for edge in edges for each in (edge - MICROSECOND, edge)]
    for tenant in (SHORT, USUAL):
        await put(kept, tenant, *events)

    ended = await purge(kept, settings, NOW)

    assert ended.report == {"seen": 4, "changed": 3 + 5, "failures": {}}
    assert await trail(kept, USUAL) == events[1:]
    assert await trail(kept, SHORT) == events[3:]
    autumn = ["y2023m10", "y2023m11", "y2023m12"]
    assert await purged(kept) == {
        "usually": autumn,
        "shortly": [*autumn, "y2024m01", "y2024m02"],
    }


async def test_nothing_goes_a_microsecond_before_it_may(
    kept: Storage, settings: StorageSettings
) -> None:
    settings = settings.model_copy(update={"audit_retention_days": 60})
    event = new_event(datetime(2024, 2, 1, tzinfo=UTC) - MICROSECOND)
    await put(kept, USUAL, event)
    due = datetime(2024, 2, 1, tzinfo=UTC) + timedelta(days=60)

    await purge(kept, settings, due - MICROSECOND)
    assert await trail(kept, USUAL) == [event]
    await purge(kept, settings, due)
    assert await trail(kept, USUAL) == []


async def test_a_second_run_finds_nothing_to_do(kept: Storage, settings: StorageSettings) -> None:
    await purge(kept, settings, NOW)
    before = await purged(kept)

    ended = await purge(kept, settings, NOW + timedelta(hours=1))

    assert ended.report == {"seen": 4, "changed": 0, "failures": {}}
    assert await purged(kept) == before


async def test_tenants_that_come_to_be_meanwhile_lose_nothing(
    kept: Storage, settings: StorageSettings
) -> None:
    new = [TenantPrefix(slug) for slug in ("aardvark", "between", "zebra")]
    event = new_event(NOW)

    async def onboard() -> None:
        for tenant in new:
            await kept.upkeep.provision(tenant, NOW)
            async with kept.registry_unit() as unit:
                await unit.tenants.add(new_tenant(str(tenant)))
            await put(kept, tenant, event)

    ended, _ = await asyncio.gather(purge(kept, settings, NOW), onboard())

    assert ended.report is not None
    assert ended.report["failures"] == {}
    for tenant in new:
        assert await trail(kept, tenant) == [event]


async def test_a_trail_that_is_read_is_reported_and_the_others_are_done(
    database: Database,
) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage:
        await trails(storage)
        async with session(database.app_url) as connection:
            transactional = await connection.execution_options(isolation_level="READ COMMITTED")
            async with transactional.begin():
                await transactional.exec_driver_sql("SELECT count(*) FROM shortly_audit_events")
                ended = await purge(storage, settings, NOW)

        assert ended.report is not None
        assert ended.report["failures"] == {
            "shortly": "shortly was not purged: shortly_audit_events_y2023m10 is being read"
        }
        # Tried again, and told of until it is done.
        assert ended.state is WorkState.QUEUED
        assert "shortly" in str(ended.last_error)
        assert list(await purged(storage)) == ["usually"]

        again = await purge(storage, settings, NOW + timedelta(hours=1))
        assert again.report == {"seen": 4, "changed": 5, "failures": {}}


async def test_a_worker_whose_clock_is_a_year_ahead_drops_nothing_of_anybody(
    database: Database,
) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage:
        real = system_clock()
        events = [new_event(real), new_event(real - timedelta(days=1))]
        await put(storage, ACME, *events)

        ended = await purge(storage, settings, real + timedelta(days=365))

        assert ended.report is not None
        assert ended.report["changed"] == 0
        failures = ended.report["failures"]
        assert isinstance(failures, dict)
        assert set(failures) == {"acme", "globex"}
        assert sorted(await trail(storage, ACME), key=lambda each: each.timestamp) == events[::-1]
        assert await purged(storage) == {}


async def test_workers_at_once_record_each_month_once(database: Database) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage:
        await trails(storage)
        before = NOW - timedelta(days=30)

        runs = await asyncio.gather(
            *(storage.upkeep.purge(tenant, before, NOW) for tenant in (SHORT, USUAL) * 2)
        )

        assert sorted(map(len, runs)) == [0, 0, 5, 5]
        assert all(len(months) == 5 for months in (await purged(storage)).values())


async def test_a_tenant_on_its_way_out_is_still_held_to_its_retention(
    kept: Storage, settings: StorageSettings
) -> None:
    async with kept.registry_unit() as unit:
        held = await unit.tenants.get(str(USUAL))
        assert held is not None
        await unit.tenants.save(replace(held, retention_days=1))

    await purge(kept, settings, NOW)

    assert len((await purged(kept))["usually"]) == 5
    assert GLOBEX.value not in await purged(kept)
