"""Many tenants at once: who goes first, who is left behind, and when nobody goes any further."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from db import migrations
from db.errors import MigrationFailed, NotFound
from db.migrations import Change, Outcome, Summary
from db.namespace import TenantPrefix
from db.postgres.chains import revisions
from db.postgres.engine import asyncpg_url
from tests.contract.cast import NOW
from tests.db.catalog import everything, rows, session, wait_for_waiting
from tests.db.scene import register, settings, with_revision
from tests.servers.databases import Database

TENANTS = revisions("tenants")
MARK = "9000_mark"
LOG = f"SELECT tenant, error IS NULL FROM migration_log WHERE revision = '{MARK}' ORDER BY id"

# A table, and then something for some of the tenants alone.
BODY = """
def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.create_table(tenant.table("mark"), sa.Column("backend", sa.Integer))
    op.execute(f"INSERT INTO {tenant.table('mark')} VALUES (pg_backend_pid())")
    op.execute(f"ACT")


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("mark"))
"""
FAILS_FOR = "SELECT 1 / CASE WHEN '{{tenant}}' IN ({}) THEN 0 ELSE 1 END"


def slugs(count: int) -> list[str]:
    return [f"t_{number:02}" for number in range(count)]


async def fleet(database: Database, count: int) -> list[str]:
    """As many active tenants at head."""
    named = slugs(count)
    await migrations.migrate(settings(database), now=NOW)
    await register(database, *named)
    await migrations.migrate(settings(database), now=NOW)
    return named


def failing(folder: Path, *these: str) -> Path:
    return with_revision(
        folder, MARK, BODY.replace("ACT", FAILS_FOR.format(", ".join(f"'{one}'" for one in these)))
    )


def became(summary: Summary, change: Change) -> list[str]:
    return [
        each.subject for each in summary.outcomes if each.change is change and each.revision == MARK
    ]


async def marks(database: Database) -> set[str]:
    """The tenants that have the table of the last revision."""
    found = await rows(database.owner_url, "SELECT relname FROM pg_class WHERE relname ~ '_mark$'")
    return {str(name).removesuffix("_mark") for (name,) in found}


async def test_as_many_tenants_are_done_at_once_as_was_said(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 8)
    # All but the canary stop at a gate, for as long as it takes.
    act = (
        "SET LOCAL lock_timeout = 0;"
        " SELECT CASE WHEN '{tenant}' <> 't_00' THEN pg_advisory_xact_lock_shared(4711) END"
    )
    scripts = with_revision(tmp_path, MARK, BODY.replace("ACT", act))
    async with session(empty_database.owner_url) as gate:
        await gate.exec_driver_sql("SELECT pg_advisory_lock(4711)")
        running = asyncio.create_task(
            migrations.migrate(settings(empty_database), now=NOW, scripts=scripts, concurrency=3)
        )
        await wait_for_waiting(empty_database.owner_url, 3)
        waiting = await rows(
            empty_database.owner_url,
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE NOT granted AND datname = current_database()",
        )
        done = await marks(empty_database)

    summary = await running

    assert waiting == [(3,)]
    assert done == {"t_00"}
    assert sorted(became(summary, Change.APPLIED)) == named
    backends = await rows(
        empty_database.owner_url,
        " UNION ".join(f"SELECT backend FROM {slug}_mark" for slug in named),
    )
    assert len(backends) == 3


async def test_a_canary_that_was_named_goes_first_and_its_failure_keeps_the_rest(
    empty_database: Database, tmp_path: Path
) -> None:
    await fleet(empty_database, 4)
    before = await everything(empty_database.owner_url)

    summary = await migrations.migrate(
        settings(empty_database),
        now=NOW,
        scripts=failing(tmp_path, "t_02"),
        canaries=["t_02"],
    )

    assert became(summary, Change.FAILED) == ["t_02"]
    assert became(summary, Change.APPLIED) == []
    assert summary.left == ("t_00", "t_01", "t_03")
    assert await everything(empty_database.owner_url) == before
    assert await rows(empty_database.owner_url, LOG) == [("t_02", False)]


async def test_canaries_that_live_are_followed_by_the_rest(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 4)
    seen: list[Outcome] = []

    summary = await migrations.migrate(
        settings(empty_database),
        now=NOW,
        scripts=failing(tmp_path, "t_00"),
        canaries=["t_03", "t_01"],
        report=seen.append,
    )

    assert sorted(became(summary, Change.APPLIED)[:2]) == ["t_01", "t_03"]
    assert became(summary, Change.FAILED) == ["t_00"]
    assert summary.left == ()
    assert await marks(empty_database) == {*named} - {"t_00"}
    assert tuple(seen) == summary.outcomes


async def test_a_canary_must_be_one_of_those_that_are_migrated(empty_database: Database) -> None:
    await fleet(empty_database, 2)

    for chosen in (["t_00"], None):
        with pytest.raises(NotFound, match="no tenant t_07 is to be migrated"):
            await migrations.migrate(
                settings(empty_database), now=NOW, tenants=chosen, canaries=["t_07"]
            )


async def test_two_that_fail_one_after_the_other_are_enough_at_the_start(
    empty_database: Database, tmp_path: Path
) -> None:
    await fleet(empty_database, 4)

    summary = await migrations.migrate(
        settings(empty_database), now=NOW, scripts=failing(tmp_path, "t_00", "t_01")
    )

    assert became(summary, Change.FAILED) == ["t_00", "t_01"]
    assert summary.left == ("t_02", "t_03")
    assert await marks(empty_database) == set()


async def test_one_that_fails_alone_keeps_nobody(empty_database: Database, tmp_path: Path) -> None:
    await fleet(empty_database, 4)

    summary = await migrations.migrate(
        settings(empty_database), now=NOW, scripts=failing(tmp_path, "t_00")
    )

    assert (became(summary, Change.FAILED), summary.left) == (["t_00"], ())
    assert await marks(empty_database) == {"t_01", "t_02", "t_03"}


async def test_tenants_whose_tables_are_in_use_say_nothing_of_the_revision(
    empty_database: Database, tmp_path: Path
) -> None:
    await fleet(empty_database, 4)
    act = "ALTER TABLE {tenant}_agents ADD COLUMN region text"
    scripts = with_revision(tmp_path, MARK, BODY.replace("ACT", act))
    busy = ("t_00", "t_01", "t_02")
    async with session(empty_database.app_url) as reader:
        reading = await reader.execution_options(isolation_level="READ COMMITTED")
        for slug in busy:
            await reading.exec_driver_sql(f"SELECT count(*) FROM {slug}_agents")

        summary = await migrations.migrate(settings(empty_database), now=NOW, scripts=scripts)

    assert became(summary, Change.FAILED) == list(busy)
    assert became(summary, Change.APPLIED) == ["t_03"]
    again = await migrations.migrate(settings(empty_database), now=NOW, scripts=scripts)
    assert (sorted(became(again, Change.APPLIED)), again.failed) == (list(busy), ())
    assert became(again, Change.SKIPPED) == ["t_03"]
    assert sorted(await rows(empty_database.owner_url, LOG)) == [
        *sorted((slug, done) for slug in busy for done in (False, True)),
        ("t_03", True),
    ]


async def test_a_ring_of_locks_with_those_who_use_the_tables_says_nothing_of_the_revision(
    empty_database: Database, tmp_path: Path
) -> None:
    await fleet(empty_database, 3)
    act = "LOCK TABLE {tenant}_credentials; LOCK TABLE {tenant}_agents"
    scripts = with_revision(tmp_path, MARK, BODY.replace("ACT", act))
    used = ("t_00", "t_01")
    async with session(empty_database.app_url) as reader:
        reading = await reader.execution_options(isolation_level="READ COMMITTED")
        for slug in used:
            await reading.exec_driver_sql(f"SELECT count(*) FROM {slug}_agents")
        running = asyncio.create_task(
            migrations.migrate(settings(empty_database), now=NOW, scripts=scripts)
        )
        for slug in used:
            await wait_for_waiting(empty_database.owner_url, 1)
            # The server undoes whoever notices the ring first, who is the one that waits longer.
            await reading.exec_driver_sql(f"SELECT count(*) FROM {slug}_credentials")

        summary = await running

    assert [each.subject for each in summary.failed if "40P01" in (each.error or "")] == [*used]
    assert (became(summary, Change.APPLIED), summary.left) == (["t_02"], ())


async def test_a_fleet_stops_when_more_than_half_of_ten_have_failed(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 14)

    summary = await migrations.migrate(
        settings(empty_database), now=NOW, scripts=failing(tmp_path, *named[1:]), concurrency=1
    )

    assert became(summary, Change.APPLIED) == ["t_00"]
    assert became(summary, Change.FAILED) == named[1:10]
    assert summary.left == tuple(named[10:])


async def test_half_of_them_may_fail(empty_database: Database, tmp_path: Path) -> None:
    named = await fleet(empty_database, 12)

    summary = await migrations.migrate(
        settings(empty_database), now=NOW, scripts=failing(tmp_path, *named[1::2]), concurrency=1
    )

    assert (len(summary.failed), summary.left) == (6, ())
    assert await marks(empty_database) == {*named[::2]}


async def test_how_far_the_run_is_counts_those_that_had_nothing_to_do(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 5)
    scripts = failing(tmp_path, "t_03")
    told: list[tuple[int, int]] = []
    await migrations.migrate(settings(empty_database), now=NOW, scripts=scripts, tenants=named[:2])

    await migrations.migrate(
        settings(empty_database),
        now=NOW,
        scripts=scripts,
        advance=lambda done, total: told.append((done, total)),
    )

    assert told == [(number, 5) for number in (1, 2, 3, 4, 5)]


async def test_a_fleet_at_head_is_looked_at_and_waited_for_by_nobody(
    empty_database: Database,
) -> None:
    named = await fleet(empty_database, 3)
    before = await everything(empty_database.owner_url)
    async with session(empty_database.owner_url) as gate:
        for slug in named:
            await gate.exec_driver_sql(
                f"SELECT pg_advisory_lock(hashtextextended('migrate:{slug}', 0))"
            )
        async with asyncio.timeout(30):
            summary = await migrations.migrate(settings(empty_database), now=NOW)

    assert {each.change for each in summary.outcomes} == {Change.SKIPPED}
    assert await everything(empty_database.owner_url) == before


async def test_months_that_are_due_come_with_a_migration_that_has_no_revision(
    empty_database: Database,
) -> None:
    named = await fleet(empty_database, 2)
    ahead = TenantPrefix("t_00").audit_partition(NOW + timedelta(days=93))

    summary = await migrations.migrate(settings(empty_database), now=NOW + timedelta(days=31))

    assert {each.change for each in summary.outcomes} == {Change.SKIPPED}
    assert len(summary.outcomes) == len(revisions("registry")) + len(named) * len(TENANTS)
    found = await rows(
        empty_database.owner_url,
        f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '{ahead[4:]}$' ORDER BY 1",
    )
    assert found == [(ahead,), (ahead.replace("t_00", "t_01"),)]


async def test_months_and_a_revision_can_be_due_at_once(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 2)
    months = "SELECT count(*) FROM pg_inherits WHERE inhparent = '{}_audit_events'::regclass"

    summary = await migrations.migrate(
        settings(empty_database), now=NOW + timedelta(days=31), scripts=failing(tmp_path, "none")
    )

    assert sorted(became(summary, Change.APPLIED)) == named
    for slug in named:
        assert await rows(empty_database.owner_url, months.format(slug)) == [(4,)]


async def test_a_tenant_that_is_being_removed_gets_no_tables(empty_database: Database) -> None:
    await fleet(empty_database, 1)
    await register(empty_database, "leaving", status="removing")
    before = await everything(empty_database.owner_url)

    summary = await migrations.migrate(settings(empty_database), now=NOW)
    with pytest.raises(MigrationFailed, match="leaving is being removed"):
        await migrations.provision(settings(empty_database), TenantPrefix("leaving"), NOW)

    assert {each.subject for each in summary.outcomes} == {"registry", "t_00"}
    assert await everything(empty_database.owner_url) == before


async def test_a_tenant_that_is_being_removed_and_still_has_its_tables_keeps_up(
    empty_database: Database, tmp_path: Path
) -> None:
    """What is exported in the end is exported by this program."""
    await fleet(empty_database, 2)
    await rows(
        empty_database.owner_url,
        "UPDATE tenants SET status = 'removing' WHERE slug = 't_01' RETURNING 1",
    )

    await migrations.migrate(settings(empty_database), now=NOW, scripts=failing(tmp_path, "nobody"))

    assert await marks(empty_database) == {"t_00", "t_01"}


async def test_a_tenant_of_a_newer_program_is_reported_and_the_others_are_done(
    empty_database: Database, tmp_path: Path
) -> None:
    await fleet(empty_database, 3)
    await rows(
        empty_database.owner_url,
        "UPDATE t_01_alembic_version SET version_num = '0099_of_a_newer_program' RETURNING 1",
    )

    summary = await migrations.migrate(
        settings(empty_database), now=NOW, scripts=failing(tmp_path, "none")
    )

    [failed] = summary.failed
    assert failed.subject == "t_01"
    assert "a newer one has been here" in str(failed.error)
    assert await marks(empty_database) == {"t_00", "t_02"}


async def test_an_engine_that_was_handed_over_is_asked_for_one_connection(
    empty_database: Database, tmp_path: Path
) -> None:
    named = await fleet(empty_database, 5)
    engine = create_async_engine(
        asyncpg_url(empty_database.owner_url), pool_size=1, max_overflow=0, pool_timeout=1
    )

    summary = await migrations.migrate(engine, now=NOW, scripts=failing(tmp_path, "none"))

    assert sorted(became(summary, Change.APPLIED)) == named
    await engine.dispose()
