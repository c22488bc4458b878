"""The months of every tenant's trail are there before they begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from db.backends import open_storage
from db.clock import event_id
from db.contract import Storage
from db.errors import Unavailable
from db.filters import AuditEventFilter
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.postgres.partitions import audit_partitions
from db.records import AuditAction, AuditEvent, AuditOutcome
from db.settings import StorageSettings
from tests.contract.cast import ACME, GLOBEX
from tests.db.catalog import session
from tests.db.scene import settings
from tests.servers.databases import Database
from workers import partitions
from workers.state import State

LATER = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)


def event_at(instant: datetime) -> AuditEvent:
    return AuditEvent(
        event_id=event_id(instant),
        agent_id=uuid4(),
        action=AuditAction.TOKEN_ISSUED,
        outcome=AuditOutcome.SUCCESS,
        ip_address="::1",
        user_agent="-",
        metadata={},
        timestamp=instant,
    )


async def append(storage: Storage, tenant: TenantPrefix, event: AuditEvent) -> None:
    async with storage.unit(tenant) as unit:
        await unit.audit.append(event)


async def as_owner(database: Database, statement: str) -> None:
    async with session(database.owner_url) as connection:
        await connection.exec_driver_sql(statement)


async def months(database: Database, tenant: TenantPrefix) -> tuple[str, ...]:
    async with session(database.owner_url) as connection:
        return await audit_partitions(connection, tenant)


async def test_after_a_pause_every_tenant_can_write_for_two_months_ahead(
    database: Database,
) -> None:
    state = State(settings(database), await open_storage(settings(database)))
    try:
        with pytest.raises(Unavailable):
            await append(state.storage, ACME, event_at(LATER))

        report = await partitions.run(state, LATER)

        assert (report.seen, report.failures) == (2, ())
        assert report.changed > 0
        for tenant in (ACME, GLOBEX):
            event = event_at(LATER + timedelta(days=60))
            await append(state.storage, tenant, event)
            page = await state.storage.read(tenant).audit.page(
                PageRequest(), LATER, AuditEventFilter()
            )
            assert page.items == (event,)
    finally:
        await state.storage.close()


async def test_a_second_run_makes_nothing(database: Database) -> None:
    state = State(settings(database), await open_storage(settings(database)))
    try:
        await partitions.run(state, LATER)
        before = await months(database, ACME)

        report = await partitions.run(state, LATER)

        assert (report.seen, report.changed, report.failures) == (2, 0, ())
        assert await months(database, ACME) == before
    finally:
        await state.storage.close()


async def test_a_tenant_that_is_in_the_way_is_reported_and_the_others_are_done(
    database: Database,
) -> None:
    state = State(settings(database), await open_storage(settings(database)))
    before = await months(database, ACME)
    try:
        await as_owner(database, 'ALTER TABLE "acme_audit_events" RENAME TO "elsewhere"')

        report = await partitions.run(state, LATER)

        assert report.failures == ("acme",)
        assert report.changed > 0
        await as_owner(database, 'ALTER TABLE "elsewhere" RENAME TO "acme_audit_events"')
        assert await months(database, ACME) == before
    finally:
        await state.storage.close()


async def test_tenants_that_are_not_served_are_left_alone(database: Database) -> None:
    chosen: StorageSettings = settings(database)
    state = State(chosen, await open_storage(chosen))
    try:
        await as_owner(database, "UPDATE tenants SET status = 'failed' WHERE slug = 'globex'")
        before = await months(database, GLOBEX)

        report = await partitions.run(state, LATER)

        assert report.seen == 1
        assert await months(database, GLOBEX) == before
    finally:
        await state.storage.close()
