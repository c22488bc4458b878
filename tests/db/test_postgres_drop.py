"""The end of a tenant's tables, seen from the database's side."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from db.clock import system_clock
from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from tests.contract.cast import ACME, NOW, new_agent, new_event, put
from tests.db.catalog import everything, rows, session
from tests.db.postgres import execute, opened, settings_of
from tests.servers.databases import Database

ALIKE = TenantPrefix("acme_audit_events")


def of_acme(lines: frozenset[str]) -> set[str]:
    return {line for line in lines if "acme_" in line}


async def test_no_table_index_trigger_grant_or_type_is_left(database: Database) -> None:
    before = await everything(database.owner_url)
    assert all(of_acme(before[kind]) for kind in ("relations", "grants", "triggers", "types"))
    async with opened(settings_of(database)) as storage:
        await put(storage, ACME, new_agent(), new_event())

        await storage.upkeep.drop(ACME)

    after = await everything(database.owner_url)
    for kind, lines in after.items():
        assert not of_acme(lines), kind
        assert lines == before[kind] - of_acme(before[kind]), kind


async def test_a_month_that_was_detached_and_not_dropped_yet_goes_too(database: Database) -> None:
    async with opened(settings_of(database)) as storage:
        await storage.upkeep.provision(ALIKE, NOW)
        for tenant in (ACME, ALIKE):
            month = tenant.audit_partition(NOW)
            parent = tenant.table("audit_events")
            await execute(database, f'ALTER TABLE "{parent}" DETACH PARTITION "{month}"')

        await storage.upkeep.drop(ACME)

    left = await rows(
        database.owner_url,
        "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^acme_'",
    )
    names = {str(name) for (name,) in left}
    assert ALIKE.audit_partition(NOW) in names
    assert all(name.startswith("acme_audit_events_") for name in names)
    assert not [name for name in names if name == ACME.audit_partition(NOW)]


async def test_a_table_that_is_busy_is_left_with_all_the_others(database: Database) -> None:
    before = await everything(database.owner_url)
    async with opened(settings_of(database)) as storage:
        async with session(database.owner_url) as reader:
            await reader.execute(text("BEGIN"))
            await reader.execute(text("SELECT count(*) FROM acme_token_revocations"))
            with pytest.raises(MigrationFailed, match="lock timeout"):
                await storage.upkeep.drop(ACME)
            assert await everything(database.owner_url) == before
            await reader.execute(text("ROLLBACK"))

        await storage.upkeep.drop(ACME)

    assert not of_acme((await everything(database.owner_url))["relations"])


async def test_what_can_still_be_called_off_by_the_databases_clock_is_not_dropped(
    database: Database,
) -> None:
    before = await everything(database.owner_url)
    async with opened(settings_of(database)) as storage:
        with pytest.raises(MigrationFailed, match="ahead of the database"):
            await storage.upkeep.drop(ACME, system_clock() + timedelta(minutes=5))
        assert await everything(database.owner_url) == before

        await storage.upkeep.drop(ACME, system_clock() - timedelta(minutes=5))

    assert not of_acme((await everything(database.owner_url))["relations"])


async def test_what_somebody_else_built_on_a_table_is_not_taken_with_it(
    database: Database,
) -> None:
    await execute(database, "CREATE VIEW report AS SELECT email FROM acme_agents")
    before = await everything(database.owner_url)
    async with opened(settings_of(database)) as storage:
        with pytest.raises(MigrationFailed, match="depend"):
            await storage.upkeep.drop(ACME)
        assert await everything(database.owner_url) == before


async def test_the_role_that_serves_could_not_drop_them(database: Database) -> None:
    before = await everything(database.owner_url)
    serving = settings_of(database).model_copy(update={"database_owner_url": database.app_url})
    async with opened(serving) as storage:
        with pytest.raises(MigrationFailed, match="must be owner"):
            await storage.upkeep.drop(ACME)
    assert await everything(database.owner_url) == before
