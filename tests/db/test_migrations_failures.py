"""What goes wrong while tables are made: nothing is half done, and it is said what happened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from db import migrations
from db.errors import MigrationFailed, Misconfigured, Unavailable
from db.migrations import Change
from db.postgres.chains import revisions
from db.postgres.engine import asyncpg_url
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW
from tests.db.catalog import everything, rows, session, wait_for_waiting
from tests.db.scene import environment, finish, register, settings, start, with_revision
from tests.servers.databases import Database

TENANTS = revisions("tenants")
FAILS = "0005_fails"
LOG = "SELECT tenant, revision, error FROM migration_log WHERE error IS NOT NULL ORDER BY id"

# Makes a table and fills it, and then fails for one of the two tenants: by what the database is
# told, so that it can be stamped, or by what the program itself finds out.
HALF_WAY = """
online_only = ONLINE


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.create_table(tenant.table("half"), sa.Column("id", sa.Integer, primary_key=True))
    op.execute(f"INSERT INTO {tenant.table('half')} VALUES (1)")
    FAILURE


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("half"))
"""
RAISES = (
    "op.execute(f\"DO $$ BEGIN IF '{tenant}' = 'acme' THEN"
    " RAISE EXCEPTION E'the moon is wrong\\\\nin detail'; END IF; END $$\")"
)


def half_way(folder: Path, failure: str, *, online: bool = False) -> Path:
    body = HALF_WAY.replace("FAILURE", failure).replace("ONLINE", str(online))
    return with_revision(folder, FAILS, body)


@pytest.mark.parametrize(
    ("online", "failure", "said"),
    [
        (False, RAISES, "the moon is wrong (SQLSTATE P0001)"),
        (
            True,
            "if str(tenant) == 'acme': raise RuntimeError('the moon is wrong\\nin detail')",
            "RuntimeError: the moon is wrong",
        ),
    ],
)
async def test_a_revision_that_fails_half_way_leaves_the_tenant_as_it_was_and_others_are_done(
    database: Database, tmp_path: Path, online: bool, failure: str, said: str
) -> None:
    scripts = half_way(tmp_path, failure, online=online)
    before = await everything(database.owner_url)
    tenants = await rows(database.owner_url, "SELECT * FROM tenants WHERE slug = 'acme'")

    summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    [failed] = summary.failed
    assert (failed.subject, failed.revision) == ("acme", FAILS)
    assert failed.error == said
    assert [each.subject for each in summary.outcomes if each.change is Change.APPLIED] == [
        "globex"
    ]
    after = await everything(database.owner_url)
    for kind, lines in before.items():
        assert {line for line in after[kind] - lines if "globex" not in line} == set()
        assert lines - after[kind] == set()
    assert await rows(database.owner_url, "SELECT version_num FROM acme_alembic_version") == [
        (TENANTS[-1],)
    ]
    assert await rows(database.owner_url, LOG) == [("acme", FAILS, failed.error)]
    assert await rows(database.owner_url, "SELECT * FROM tenants WHERE slug = 'acme'") == tenants
    assert await rows(database.owner_url, "SELECT revision FROM tenants WHERE slug = 'globex'") == [
        (FAILS,)
    ]


async def test_an_engine_that_commits_by_itself_leaves_nothing_half_done_either(
    database: Database, tmp_path: Path
) -> None:
    scripts = half_way(tmp_path, RAISES)
    before = await everything(database.owner_url)
    engine = create_async_engine(asyncpg_url(database.owner_url), isolation_level="AUTOCOMMIT")

    with pytest.raises(MigrationFailed, match="acme 0005_fails: the moon is wrong"):
        await migrations.provision(engine, ACME, NOW, scripts=scripts)

    assert await everything(database.owner_url) == before
    await engine.dispose()


async def test_what_failed_is_tried_again_and_only_that(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = half_way(tmp_path_factory.mktemp("broken"), RAISES)
    mended = half_way(tmp_path_factory.mktemp("mended"), "pass")
    await migrations.migrate(settings(database), now=NOW, scripts=broken)

    summary = await migrations.migrate(settings(database), now=NOW, scripts=mended)

    assert summary.failed == ()
    applied = [each for each in summary.outcomes if each.change is Change.APPLIED]
    assert [(each.subject, each.revision) for each in applied] == [("acme", FAILS)]
    assert await rows(database.owner_url, "SELECT id FROM acme_half") == [(1,)]


async def test_provisioning_that_fails_says_why_and_leaves_no_table(
    empty_database: Database, tmp_path: Path
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    before = await everything(empty_database.owner_url)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE TABLE acme_agents (of_somebody_else int)")

    with pytest.raises(
        MigrationFailed, match=r'0001_create_agents: relation "acme_agents" already'
    ):
        await migrations.provision(settings(empty_database), ACME, NOW)

    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("DROP TABLE acme_agents")
    assert await everything(empty_database.owner_url) == before


async def test_a_registered_word_that_can_be_no_prefix_stops_nobody_else(
    empty_database: Database,
) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "public", "wayne")

    summary = await migrations.migrate(settings(empty_database), now=NOW)
    status = await migrations.status(settings(empty_database))

    [failed] = summary.failed
    assert (failed.subject, failed.error) == ("public", "this slug is reserved")
    assert summary.changed == len(TENANTS)
    assert [(each.subject, each.revision) for each in status.progress[1:]] == [
        ("public", None),
        ("wayne", TENANTS[-1]),
    ]


async def test_a_registry_that_fails_stops_everything(empty_database: Database) -> None:
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE TABLE operator_events (of_somebody_else int)")

    with pytest.raises(MigrationFailed, match="registry 0003_create_operator_events: relation"):
        await migrations.migrate(settings(empty_database), now=NOW)

    assert await rows(
        empty_database.owner_url, "SELECT version_num FROM registry_alembic_version"
    ) == [("0002_create_tenants",)]
    assert [row[:2] for row in await rows(empty_database.owner_url, LOG)] == [
        (None, "0003_create_operator_events")
    ]


async def test_a_downgrade_that_fails_leaves_the_tables_as_they_were(database: Database) -> None:
    async with session(database.owner_url) as connection:
        await connection.exec_driver_sql(
            "CREATE VIEW relies AS SELECT jti FROM acme_token_revocations"
        )
    await migrations.downgrade(settings(database), "acme", TENANTS[3], now=NOW)
    before = await everything(database.owner_url)

    with pytest.raises(MigrationFailed, match="acme 0004_create_token_revocations: cannot drop"):
        await migrations.downgrade(settings(database), "acme", TENANTS[2], now=NOW)

    assert await everything(database.owner_url) == before


@pytest.mark.parametrize("online", [True, False])
async def test_the_log_holds_neither_the_row_nor_the_statement_that_failed(
    database: Database, tmp_path: Path, online: bool
) -> None:
    scripts = half_way(
        tmp_path,
        "op.execute(sa.text(f\"INSERT INTO {tenant.table('half')} SELECT :secret"
        " FROM generate_series(1, CASE '{tenant}' WHEN 'acme' THEN 2 ELSE 1 END)\")"
        ".bindparams(secret=31337))",
        online=online,
    )

    [failed] = (await migrations.migrate(settings(database), now=NOW, scripts=scripts)).failed

    assert failed.error is not None
    assert failed.error.startswith("duplicate key value violates unique constraint")
    assert "31337" not in failed.error
    assert "INSERT" not in failed.error
    assert await rows(database.owner_url, LOG) == [("acme", FAILS, failed.error)]


async def test_a_table_that_stays_in_use_is_given_up_and_nobody_waits_behind_it(
    database: Database, tmp_path: Path
) -> None:
    scripts = half_way(
        tmp_path, "op.add_column(tenant.table('agents'), sa.Column('region', sa.String(32)))"
    )
    async with session(database.app_url) as reader:
        reading = await reader.execution_options(isolation_level="READ COMMITTED")
        await reading.exec_driver_sql("SELECT count(*) FROM acme_agents")

        summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    [failed] = summary.failed
    assert failed.error == "canceling statement due to lock timeout (SQLSTATE 55P03)"
    assert ("acme_half",) not in await rows(database.owner_url, "SELECT relname FROM pg_class")


async def test_a_connection_that_is_cut_ends_the_run_and_the_revision(
    database: Database, tmp_path: Path
) -> None:
    scripts = half_way(
        tmp_path,
        "op.execute(f\"SELECT pg_terminate_backend(pg_backend_pid()) WHERE '{tenant}' = 'acme'\")",
    )
    before = await everything(database.owner_url)

    with pytest.raises(Unavailable, match="was lost"):
        await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    assert await everything(database.owner_url) == before


async def test_two_processes_at_once_apply_each_revision_once(empty_database: Database) -> None:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex", "wayne")
    await migrations.downgrade(settings(empty_database), None, "0002_create_tenants", now=NOW)
    async with session(empty_database.owner_url) as gate:
        # Both are held before their first revision, so that they certainly meet.
        await gate.exec_driver_sql(
            "SELECT pg_advisory_lock(hashtextextended('migrate:registry', 0))"
        )
        env = environment(empty_database)
        processes = [start("migrate", env=env), start("migrate", env=env)]
        await wait_for_waiting(empty_database.owner_url, len(processes))
    finished = [await asyncio.to_thread(finish, process) for process in processes]

    assert [(code, err) for code, _, err in finished] == [(0, ""), (0, "")]
    lines = [line for _, out, _ in finished for line in out.splitlines()]
    subjects = [("registry", revisions("registry")[2:])]
    subjects += [(slug, TENANTS) for slug in ("acme", "globex", "wayne")]
    for subject, line in subjects:
        for revision in line:
            assert lines.count(f"✓ Applied: {subject} {revision}") == 1
            assert lines.count(f"- Skipped (already applied): {subject} {revision}") == 1
    assert (
        await rows(
            empty_database.owner_url,
            "SELECT tenant, revision FROM migration_log WHERE tenant IS NOT NULL"
            " GROUP BY 1, 2 HAVING count(*) > 1 OR count(error) > 0",
        )
        == []
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://suite:hunter2@127.0.0.1:1/acme",
        "postgresql://suite@127.0.0.1:1/acme?password=hunter2",
        "postgresql://suite:hunter2@no-such-host.invalid/acme",
        "postgresql://suite:hunter2@/acme?host=/nowhere",
    ],
)
async def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str) -> None:
    source = StorageSettings.load(database_url=url)

    with pytest.raises(Unavailable, match=r"the database acme at .* cannot be reached") as refused:
        await migrations.migrate(source, now=NOW)

    assert "hunter2" not in f"{refused.value!r}{refused.value.__cause__!r}"


async def test_a_database_that_does_not_exist_is_said_so(empty_database: Database) -> None:
    url = make_url(empty_database.owner_url).set(database="never_made")
    source = StorageSettings.load(database_url=url.render_as_string(hide_password=False))

    with pytest.raises(Unavailable, match='database "never_made" does not exist'):
        await migrations.migrate(source, now=NOW)


async def test_a_url_that_the_driver_does_not_take_is_a_matter_of_settings() -> None:
    source = StorageSettings.load(database_url="postgresql://u:hunter2@127.0.0.1/a?nonsense=1")

    with pytest.raises(Misconfigured, match="the database URL") as refused:
        await migrations.migrate(source, now=NOW)

    assert "hunter2" not in refused.value.message


async def test_without_its_files_no_revision_is_guessed(
    empty_database: Database, tmp_path: Path
) -> None:
    with pytest.raises(MigrationFailed, match="there are no migrations"):
        await migrations.migrate(settings(empty_database), now=NOW, scripts=tmp_path / "nowhere")
