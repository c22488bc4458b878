"""Up, down, and up again: what `db.migrations` makes, keeps and takes away."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from db import migrations
from db.errors import InvalidInput, Misconfigured, NotFound
from db.migrations import Change, Outcome
from db.namespace import TenantPrefix
from db.postgres.chains import SCRIPTS, revisions
from db.postgres.engine import asyncpg_url, create_engine
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW
from tests.db.catalog import everything, rows, session
from tests.db.postgres import cut, opened
from tests.db.scene import register, settings, with_revision
from tests.servers.databases import Database

REGISTRY = revisions("registry")
TENANTS = revisions("tenants")


async def test_migrating_makes_the_registry_and_then_every_tenant(
    empty_database: Database,
) -> None:
    source = settings(empty_database)
    seen: list[Outcome] = []
    first = await migrations.migrate(source, now=NOW, report=seen.append)
    await register(empty_database, "globex", "acme")

    second = await migrations.migrate(source, now=NOW, report=seen.append)

    applied = [("registry", revision, Change.APPLIED) for revision in REGISTRY]
    skipped = [("registry", revision, Change.SKIPPED) for revision in REGISTRY]
    made = [(slug, each, Change.APPLIED) for slug in ("acme", "globex") for each in TENANTS]
    assert [(each.subject, each.revision, each.change) for each in seen] == [
        *applied,
        *skipped,
        *made,
    ]
    assert (*first.outcomes, *second.outcomes) == tuple(seen)
    assert (first.changed, second.changed) == (len(REGISTRY), 2 * len(TENANTS))
    assert first.failed == second.failed == ()


async def test_migrating_again_changes_nothing(database: Database) -> None:
    # The rows of the registry that the template left without a revision get it here.
    await migrations.migrate(settings(database), now=NOW)
    before = await everything(database.owner_url)
    tenants = await rows(database.owner_url, "SELECT * FROM tenants ORDER BY slug")
    log = await rows(database.owner_url, "SELECT * FROM migration_log ORDER BY id")

    summary = await migrations.migrate(settings(database), now=NOW + timedelta(hours=1))

    assert {each.change for each in summary.outcomes} == {Change.SKIPPED}
    assert await everything(database.owner_url) == before
    assert await rows(database.owner_url, "SELECT * FROM tenants ORDER BY slug") == tenants
    assert await rows(database.owner_url, "SELECT * FROM migration_log ORDER BY id") == log


async def test_each_revision_has_its_line_in_the_log_and_its_place_in_the_registry(
    empty_database: Database,
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex")
    await migrations.migrate(settings(empty_database), now=NOW)

    log = await rows(
        empty_database.owner_url,
        "SELECT tenant, revision, applied_at, ms >= 0, error FROM migration_log ORDER BY id",
    )
    assert log == [
        (tenant, revision, NOW, True, None)
        for tenant, line in ((None, REGISTRY), ("acme", TENANTS), ("globex", TENANTS))
        for revision in line
    ]
    assert await rows(
        empty_database.owner_url, "SELECT slug, revision, status FROM tenants ORDER BY slug"
    ) == [(slug, migrations.head("tenants"), "active") for slug in ("acme", "globex")]


async def test_one_tenant_is_migrated_alone(empty_database: Database) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex")

    await migrations.migrate(settings(empty_database), now=NOW, tenants=["globex"])

    assert await _versions(empty_database) == {"registry", "globex"}


async def test_a_removed_tenant_is_left_alone_and_cannot_be_named(
    empty_database: Database,
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", status="removed")

    summary = await migrations.migrate(settings(empty_database), now=NOW)
    with pytest.raises(NotFound, match="acme was removed"):
        await migrations.migrate(settings(empty_database), now=NOW, tenants=["acme"])

    assert {each.subject for each in summary.outcomes} == {"registry"}
    assert await _versions(empty_database) == {"registry"}


async def test_a_tenant_that_is_not_registered_cannot_be_named(database: Database) -> None:
    before = await everything(database.owner_url)

    with pytest.raises(NotFound, match="no tenant wayne"):
        await migrations.migrate(settings(database), now=NOW, tenants=["acme", "wayne"])
    with pytest.raises(NotFound, match="no tenant wayne"):
        await migrations.downgrade(settings(database), "wayne", "base", now=NOW)

    assert await everything(database.owner_url) == before


async def test_provisioning_brings_the_tables_and_leaves_the_registry_row_alone(
    empty_database: Database,
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", status="provisioning")
    row = await rows(empty_database.owner_url, "SELECT * FROM tenants")

    revision = await migrations.provision(settings(empty_database), ACME, NOW)
    made = await everything(empty_database.owner_url)
    again = await migrations.provision(settings(empty_database), ACME, NOW)

    assert revision == again == migrations.head("tenants")
    assert await everything(empty_database.owner_url) == made
    assert await rows(empty_database.owner_url, "SELECT * FROM tenants") == row


async def test_tenants_are_provisioned_at_once_in_one_process(empty_database: Database) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    prefixes = [TenantPrefix(f"tenant_{letter}") for letter in "abcd"] + [ACME] * 3

    await asyncio.gather(
        *(migrations.provision(settings(empty_database), prefix, NOW) for prefix in prefixes)
    )

    log = await rows(
        empty_database.owner_url,
        "SELECT tenant, array_agg(revision ORDER BY id) FROM migration_log"
        " WHERE tenant IS NOT NULL AND error IS NULL GROUP BY tenant",
    )
    assert {str(tenant): applied for tenant, applied in log} == {
        str(prefix): list(TENANTS) for prefix in prefixes
    }


async def test_connections_that_make_tables_are_kept_until_they_are_cut_or_closed(
    database: Database,
) -> None:
    async def owners() -> list[tuple[object, ...]]:
        return await rows(
            database.owner_url,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND pid <> pg_backend_pid()",
        )

    async with opened(settings(database)) as storage:
        none = await owners()
        await storage.upkeep.provision(TenantPrefix("tenant_a"), NOW)
        first = await owners()
        await storage.upkeep.provision(TenantPrefix("tenant_b"), NOW)
        second = await owners()
        await cut(database)
        assert await storage.upkeep.provision(TenantPrefix("tenant_c"), NOW) == TENANTS[-1]
        third = await owners()

    assert (len(none), len(first), second) == (0, 1, first)
    assert len(third) == 1
    assert third != first
    async with asyncio.timeout(30):
        # A server process outlives its client's goodbye by a moment.
        while await owners():
            pass


async def test_an_engine_handed_over_makes_the_tables_in_transactions_of_its_own(
    empty_database: Database,
) -> None:
    engine = create_async_engine(
        asyncpg_url(empty_database.owner_url), isolation_level="AUTOCOMMIT"
    )
    await migrations.migrate(engine, now=NOW)

    assert await migrations.provision(engine, ACME, NOW) == TENANTS[-1]
    assert await migrations.registry_at_head(engine)
    await engine.dispose()


async def test_up_then_down_leaves_nothing_behind_and_up_again_makes_the_same(
    empty_database: Database,
) -> None:
    source = settings(empty_database)
    nothing = await everything(empty_database.owner_url)
    await migrations.migrate(source, now=NOW)
    registry = await everything(empty_database.owner_url)
    await register(empty_database, "acme")
    await migrations.migrate(source, now=NOW)
    whole = await everything(empty_database.owner_url)

    down = await migrations.downgrade(source, "acme", "base", now=NOW, destroy=True)
    assert [each.revision for each in down.outcomes] == list(reversed(TENANTS))
    assert await everything(empty_database.owner_url) == registry
    assert await rows(empty_database.owner_url, "SELECT revision FROM tenants") == [(None,)]

    await migrations.migrate(source, now=NOW)
    assert await everything(empty_database.owner_url) == whole

    await migrations.downgrade(source, "acme", "base", now=NOW, destroy=True)
    await migrations.downgrade(source, None, "base", now=NOW)
    assert await everything(empty_database.owner_url) == nothing

    await migrations.migrate(source, now=NOW)
    assert await everything(empty_database.owner_url) == registry


@pytest.mark.parametrize("steps", range(1, len(TENANTS)))
async def test_each_revision_can_be_taken_back_and_applied_again(
    database: Database, steps: int
) -> None:
    source = settings(database)
    # A template's partitions are older than this call would make them; then they are the same.
    await migrations.downgrade(source, "acme", "base", now=NOW, destroy=True)
    await migrations.migrate(source, now=NOW)
    whole = await everything(database.owner_url)
    to = TENANTS[-1 - steps]

    down = await migrations.downgrade(source, "acme", to, now=NOW, destroy=True)

    assert down.changed == steps
    assert ("acme", to) in await rows(database.owner_url, "SELECT slug, revision FROM tenants")
    assert await rows(database.owner_url, "SELECT version_num FROM acme_alembic_version") == [(to,)]
    assert await rows(
        database.owner_url, "SELECT revision FROM migration_log ORDER BY id DESC LIMIT 1"
    ) == [(to,)]
    await migrations.migrate(source, now=NOW)
    assert await everything(database.owner_url) == whole


async def test_taking_one_tenant_back_leaves_the_others_as_they_were(database: Database) -> None:
    whole = await everything(database.owner_url)

    await migrations.downgrade(settings(database), "acme", "base", now=NOW, destroy=True)

    left = await everything(database.owner_url)
    lost = {line for kind, lines in whole.items() for line in lines - left[kind]}
    assert lost
    assert [line for line in lost if "globex" in line or "acme_" not in line] == []


async def test_the_trail_is_not_destroyed_by_the_way(database: Database) -> None:
    before = await everything(database.owner_url)

    for to in ("base", *TENANTS[:2]):
        with pytest.raises(InvalidInput, match="destroys the audit trail of acme"):
            await migrations.downgrade(settings(database), "acme", to, now=NOW)
    assert await everything(database.owner_url) == before

    down = await migrations.downgrade(settings(database), "acme", TENANTS[2], now=NOW)
    assert [each.revision for each in down.outcomes] == list(reversed(TENANTS[3:]))


async def test_a_downgrade_leads_down_and_to_a_known_revision(database: Database) -> None:
    await migrations.downgrade(settings(database), "acme", TENANTS[2], now=NOW)
    before = await everything(database.owner_url)

    with pytest.raises(NotFound, match="no revision 0099_unheard_of; there are base, 0001_"):
        await migrations.downgrade(settings(database), "acme", "0099_unheard_of", now=NOW)
    with pytest.raises(InvalidInput, match="which is before 0004"):
        await migrations.downgrade(settings(database), "acme", TENANTS[3], now=NOW)
    nothing = await migrations.downgrade(settings(database), "acme", TENANTS[2], now=NOW)

    assert nothing.changed == 0
    assert await everything(database.owner_url) == before


async def test_the_registry_is_at_head_once_its_last_revision_is(
    empty_database: Database,
) -> None:
    source = settings(empty_database)
    engine = create_engine(source)
    assert not await migrations.registry_at_head(engine)

    await migrations.migrate(source, now=NOW)
    assert await migrations.registry_at_head(engine)

    await migrations.downgrade(source, None, REGISTRY[-2], now=NOW)
    assert not await migrations.registry_at_head(engine)
    await engine.dispose()


async def test_a_program_older_than_the_tables_serves_them_but_does_not_migrate_them(
    database: Database,
) -> None:
    newer = "UPDATE {} SET version_num = '0099_of_a_newer_program' RETURNING 1"
    async with session(database.owner_url) as connection:
        for table in ("registry_alembic_version", "acme_alembic_version"):
            await connection.execute(text(newer.format(table)))
    before = await everything(database.owner_url)
    engine = create_engine(settings(database))

    assert await migrations.registry_at_head(engine)
    with pytest.raises(Misconfigured, match="0099_of_a_newer_program"):
        await migrations.migrate(settings(database), now=NOW)
    with pytest.raises(Misconfigured, match="0099_of_a_newer_program"):
        await migrations.provision(settings(database), ACME, NOW)
    assert await everything(database.owner_url) == before
    await engine.dispose()


async def test_the_status_tells_how_far_each_is_and_what_was_tried(
    empty_database: Database,
) -> None:
    source = settings(empty_database)
    nothing = await migrations.status(source)
    await migrations.migrate(source, now=NOW)
    await register(empty_database, "acme", "globex")
    await migrations.migrate(source, now=NOW, tenants=["globex"])

    status = await migrations.status(source)

    assert [(each.subject, each.revision) for each in nothing.progress] == [("registry", None)]
    assert nothing.attempts == ()
    assert [(each.subject, each.status, each.revision, each.head) for each in status.progress] == [
        ("registry", None, REGISTRY[-1], REGISTRY[-1]),
        ("acme", "active", None, TENANTS[-1]),
        ("globex", "active", TENANTS[-1], TENANTS[-1]),
    ]
    assert [(each.subject, each.revision, each.error) for each in status.attempts] == [
        *(("registry", revision, None) for revision in REGISTRY),
        *(("globex", revision, None) for revision in TENANTS),
    ]


async def test_a_new_revision_reaches_every_tenant_with_its_grants(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scripts = with_revision(
        tmp_path_factory.mktemp("later"),
        "0005_add_region",
        "def upgrade() -> None:\n"
        "    agents = op.get_context().opts['tenant'].table('agents')\n"
        "    op.add_column(agents, sa.Column('region', sa.String(32)))\n\n\n"
        "def downgrade() -> None:\n"
        "    agents = op.get_context().opts['tenant'].table('agents')\n"
        "    op.drop_column(agents, 'region')\n",
    )
    assert scripts != SCRIPTS

    summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    assert [each.subject for each in summary.outcomes if each.change is Change.APPLIED] == [
        "acme",
        "globex",
    ]
    for prefix in ("acme", "globex"):
        assert await rows(database.app_url, f"SELECT region FROM {prefix}_agents") == []


async def test_memory_has_nothing_to_migrate() -> None:
    with pytest.raises(Misconfigured, match="nothing to migrate"):
        await migrations.migrate(StorageSettings.load(), now=NOW)


async def _versions(database: Database) -> set[str]:
    found = await rows(
        database.owner_url, "SELECT relname FROM pg_class WHERE relname ~ '_alembic_version$'"
    )
    return {str(name).removesuffix("_alembic_version") for (name,) in found}
