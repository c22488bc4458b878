"""The months of every tenant's trail are there before they begin."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from db.contract import Storage
from db.errors import Unavailable
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.postgres.partitions import audit_partitions
from db.settings import StorageSettings
from db.work import JobName, Work
from tests.contract.cast import ACME, GLOBEX, new_event, new_tenant, put
from tests.db.catalog import session
from tests.db.postgres import execute, opened, settings_of
from tests.servers.databases import Database
from tests.workers.harness import perform

LATER = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)


async def ensure(storage: Storage, settings: StorageSettings, now: datetime) -> Work:
    return await perform(storage, settings, JobName.ENSURE_AUDIT_PARTITIONS, now)


async def months(database: Database, tenant: TenantPrefix) -> tuple[str, ...]:
    async with session(database.owner_url) as connection:
        return await audit_partitions(connection, tenant)


async def test_after_a_pause_every_tenant_can_write_for_two_months_ahead(
    storage: Storage, settings: StorageSettings
) -> None:
    ended = await ensure(storage, settings, LATER)

    assert ended.report is not None
    assert (ended.report["seen"], ended.report["failures"]) == (2, {})
    assert ended.last_error is None
    for tenant in (ACME, GLOBEX):
        event = new_event(LATER + timedelta(days=60))
        await put(storage, tenant, event)
        page = await storage.read(tenant).audit.page(PageRequest(), LATER)
        assert page.items == (event,)


async def test_a_second_run_makes_nothing(storage: Storage, settings: StorageSettings) -> None:
    first = await ensure(storage, settings, LATER)
    second = await ensure(storage, settings, LATER + timedelta(milliseconds=1))

    assert first.report is not None
    assert first.report["changed"] != 0
    assert second.report == {"seen": 2, "changed": 0, "failures": {}}


async def test_before_the_run_an_event_of_a_month_that_is_missing_is_refused(
    database: Database,
) -> None:
    async with opened(settings_of(database)) as storage:
        with pytest.raises(Unavailable):
            await put(storage, ACME, new_event(LATER))


async def test_a_tenant_whose_trail_is_locked_is_reported_and_done_the_next_time(
    database: Database,
) -> None:
    settings = settings_of(database)
    before = await months(database, ACME)
    async with opened(settings) as storage:
        async with session(database.owner_url) as connection:
            transactional = await connection.execution_options(isolation_level="READ COMMITTED")
            async with transactional.begin():
                await transactional.exec_driver_sql(
                    "LOCK TABLE acme_audit_events IN SHARE ROW EXCLUSIVE MODE"
                )
                blocked = await ensure(storage, settings, LATER)

        assert blocked.report is not None
        assert blocked.report["failures"] == {
            "acme": "acme got no new months: canceling statement due to lock timeout"
            " (SQLSTATE 55P03)"
        }
        # Nothing of it is half made.
        assert await months(database, ACME) == before
        found = await standing(database)
        assert found == before
        assert len(await months(database, GLOBEX)) > len(before)

        again = await ensure(storage, settings, LATER + timedelta(minutes=10))
        assert again.report is not None
        assert again.report["failures"] == {}
        assert await months(database, ACME) == tuple(
            each.replace("globex", "acme") for each in await months(database, GLOBEX)
        )


async def standing(database: Database) -> tuple[str, ...]:
    async with session(database.owner_url) as connection:
        found = await connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relname ~ '^acme_audit_events_y' ORDER BY 1"
        )
        return tuple(found.scalars())


async def test_a_reader_of_a_trail_delays_nothing(database: Database) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage, session(database.app_url) as connection:
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            await transactional.exec_driver_sql("SELECT count(*) FROM acme_audit_events")
            ended = await ensure(storage, settings, LATER)

        assert ended.report is not None
        assert ended.report["failures"] == {}
        await put(storage, ACME, new_event(LATER))


async def test_tenants_that_are_not_served_are_left_alone(database: Database) -> None:
    settings = settings_of(database)
    await execute(database, "UPDATE tenants SET status = 'failed' WHERE slug = 'globex'")
    before = await months(database, GLOBEX)
    async with opened(settings) as storage:
        ended = await ensure(storage, settings, LATER)

    assert ended.report is not None
    assert ended.report["seen"] == 1
    assert await months(database, GLOBEX) == before


async def test_tenants_that_come_to_be_meanwhile_are_in_nobodys_way(
    storage: Storage, settings: StorageSettings
) -> None:
    new = [TenantPrefix(slug) for slug in ("aardvark", "between", "zebra")]

    async def onboard() -> None:
        for tenant in new:
            await storage.upkeep.provision(tenant, LATER)
            async with storage.registry_unit() as unit:
                await unit.tenants.add(new_tenant(str(tenant)))

    ended, _ = await asyncio.gather(ensure(storage, settings, LATER), onboard())

    assert ended.report is not None
    assert ended.report["failures"] == {}
    for tenant in (ACME, *new):
        await put(storage, tenant, new_event(LATER + timedelta(days=60)))
        assert list(await storage.upkeep.ensure_months(tenant, LATER)) == []
