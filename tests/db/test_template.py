"""What is stamped is what alembic would have done itself, for every tenant and from everywhere."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from db import migrations
from db.errors import MigrationFailed
from db.migrations import Change
from db.namespace import TenantPrefix
from db.postgres.chains import SCRIPTS, Chain, revisions
from db.postgres.owner import application_role, connect
from db.postgres.steps import Run
from tests.contract.cast import ACME, GLOBEX, NOW
from tests.db.catalog import Snapshot, everything, rows, session, wait_for_waiting
from tests.db.scene import register, settings, with_revision
from tests.servers.databases import Database

TENANTS = revisions("tenants")
LOG = "SELECT revision, applied_at, error FROM migration_log WHERE tenant = '{}' ORDER BY id"

# Everything that is written differently by somebody, somewhere.
ODDITIES = r'''
def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    odd = op.create_table(
        tenant.table("odd"),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, server_default=sa.text("'50% of %s, {t} \\:x'")),
        sa.Column("payload", sa.JSON, server_default=sa.text("""'{"a": "b"}'""")),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.CheckConstraint("text NOT LIKE '%;;%'", name=tenant.constraint("odd_text_check")),
        comment="100% \"quoted\"; and 'so' on",
    )
    op.bulk_insert(odd, [{"id": 1, "text": "it's 100% :so; \\ ü"}, {"id": 2, "text": "$1 {t} "}])
    op.execute(
        sa.text(f"INSERT INTO {tenant.table('odd')} (id, text) VALUES (:id, :text)").bindparams(
            id=3, text=f"{tenant} has: a 'name'"
        )
    )
    op.execute(f"INSERT INTO {tenant.table('odd')} (id, text) VALUES (4, 'a\tb\n\tc')")
    op.alter_column(tenant.table("odd"), "payload", comment="one\tcolumn")
    op.execute(
        f"""
        DO $body$ BEGIN
            UPDATE {tenant.table("odd")} SET text = 'semi' || chr(59) || 'colon' WHERE false;
        END $body$
        """
    )
    op.alter_column(tenant.table("agents"), "name", type_=sa.String(200), nullable=True)


def downgrade() -> None:
    op.drop_table(op.get_context().opts["tenant"].table("odd"))
'''

# For three revisions in a row, of which the second is not stamped.
MARK = """
online_only = {online}


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    {body}


def downgrade() -> None:
    pass
"""


def until(folder: Path, last: str) -> Path:
    """The migrations as they were when `last` was the head of the tenants'."""
    scripts = folder / last / "alembic"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (scripts / "tenants").glob("*.py"):
        if path.stem > last:
            path.unlink()
    return scripts


def marked(folder: Path, *bodies: tuple[str, bool]) -> tuple[Path, tuple[str, ...]]:
    """The migrations with a revision for each body, and whether that is online only."""
    scripts = SCRIPTS
    for number, (body, online) in enumerate(bodies):
        scripts = with_revision(
            folder / str(number),
            f"9{number:03}_mark",
            MARK.format(body=body, online=online),
            scripts,
        )
    return scripts, revisions("tenants", scripts)[-len(bodies) :]


async def by_alembic(database: Database, tenant: TenantPrefix, scripts: Path = SCRIPTS) -> None:
    """A revision at a time, on the connection."""
    source = settings(database)
    async with connect(source) as connection:
        run = Run(connection, application_role(source), NOW, lambda outcome: None)
        await run.to_head(Chain(tenant, scripts))


def of(tenant: TenantPrefix, snapshot: Snapshot) -> dict[str, frozenset[str]]:
    """Its lines, under no name of its own."""
    return {
        kind: frozenset(
            line.replace(str(tenant), "?") for line in lines if f"{tenant}_" in line.split("$")[0]
        )
        for kind, lines in snapshot.items()
    }


@pytest.fixture
async def registered(empty_database: Database) -> Database:
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, "acme", "globex")
    return empty_database


@pytest.mark.parametrize("start", [None, *TENANTS[:-1]])
async def test_a_tenant_that_is_stamped_has_what_alembic_would_have_made(
    registered: Database, tmp_path: Path, start: str | None
) -> None:
    if start is not None:
        for tenant in (ACME, GLOBEX):
            await by_alembic(registered, tenant, until(tmp_path / str(tenant), start))
    await by_alembic(registered, ACME)

    await migrations.migrate(settings(registered), now=NOW, tenants=["globex"])

    found = await everything(registered.owner_url)
    assert of(GLOBEX, found) == of(ACME, found)
    assert all(of(GLOBEX, found)[kind] for kind in found if kind != "functions")
    assert await rows(registered.owner_url, LOG.format("globex")) == await rows(
        registered.owner_url, LOG.format("acme")
    )
    versions = await rows(
        registered.owner_url,
        "SELECT version_num FROM acme_alembic_version"
        " UNION ALL SELECT version_num FROM globex_alembic_version"
        " UNION ALL SELECT revision FROM tenants",
    )
    assert versions == [(TENANTS[-1],)] * 4


async def test_text_of_every_kind_comes_through_as_it_is(
    registered: Database, tmp_path: Path
) -> None:
    scripts = with_revision(tmp_path, "9000_oddities", ODDITIES)
    await by_alembic(registered, ACME, scripts)

    await migrations.migrate(settings(registered), now=NOW, tenants=["globex"], scripts=scripts)

    found = await everything(registered.owner_url)
    assert of(GLOBEX, found) == of(ACME, found)
    content = "SELECT id, replace(text, '{0}', '?'), payload::text FROM {0}_odd ORDER BY id"
    stamped = await rows(registered.owner_url, content.format("globex"))
    assert stamped == await rows(registered.owner_url, content.format("acme"))
    assert [text for _, text, _ in stamped] == [
        "it's 100% :so; \\ ü",
        "$1 {t} ",
        "? has: a 'name'",
        "a\tb\n\tc",
    ]
    comments = await rows(
        registered.owner_url,
        "SELECT obj_description(oid) FROM pg_class WHERE relname IN ('acme_odd', 'globex_odd')",
    )
    assert comments == [("100% \"quoted\"; and 'so' on",)] * 2
    of_columns = await rows(
        registered.owner_url,
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attname = 'payload'"
        " AND attrelid IN (SELECT oid FROM pg_class WHERE relname ~ '^(acme|globex)_odd$')",
    )
    assert of_columns == [("one\tcolumn",)] * 2


async def test_a_prefix_within_another_is_not_taken_for_it(empty_database: Database) -> None:
    slugs = ("ab", "ab_c", "t0", "agents", "a" * 24)
    await migrations.migrate(settings(empty_database), now=NOW)
    await register(empty_database, *slugs)

    summary = await migrations.migrate(settings(empty_database), now=NOW)

    assert summary.failed == ()
    found = await rows(
        empty_database.owner_url,
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition",
    )
    nouns = ("agents", "credentials", "audit_events", "token_revocations", "alembic_version")
    tables = {str(name) for (name,) in found}
    assert {f"{slug}_{noun}" for slug in slugs for noun in nouns} <= tables
    registry = {"tenants", "operator_events", "signing_keys", "work", "idempotency_keys"}
    registry |= {"migration_log", "purge_log", "registry_alembic_version"}
    assert len(tables - registry) == len(slugs) * len(nouns)


async def test_what_looks_at_the_database_goes_between_what_is_stamped(
    registered: Database, tmp_path: Path
) -> None:
    table = "tenant.table('marks')"
    scripts, [first, online, last] = marked(
        tmp_path,
        (f"op.create_table({table}, sa.Column('note', sa.Text))", False),
        (
            "seen = op.get_bind().scalar(sa.text("
            "f'SELECT count(*) FROM {tenant.table(\"marks\")}'));"
            f" op.execute(f\"INSERT INTO {{{table}}} VALUES ('{{seen}} before {{tenant}}')\")",
            True,
        ),
        (f"op.execute(f\"INSERT INTO {{{table}}} VALUES ('after')\")", False),
    )

    summary = await migrations.migrate(settings(registered), now=NOW, scripts=scripts)

    for slug in ("acme", "globex"):
        assert [each.revision for each in summary.outcomes if each.subject == slug] == [
            *TENANTS,
            first,
            online,
            last,
        ]
        assert await rows(registered.owner_url, f"SELECT note FROM {slug}_marks") == [
            (f"0 before {slug}",),
            ("after",),
        ]
    assert {each.change for each in summary.outcomes if each.subject != "registry"} == {
        Change.APPLIED
    }


async def test_revisions_that_are_stamped_together_fail_together(
    database: Database, tmp_path: Path
) -> None:
    before = await everything(database.owner_url)
    scripts, [first, second] = marked(
        tmp_path,
        ("op.create_table(tenant.table('marks'), sa.Column('note', sa.Text))", False),
        ("op.execute(f\"SELECT 1 / CASE '{tenant}' WHEN 'acme' THEN 0 ELSE 1 END\")", False),
    )

    summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    [failed] = summary.failed
    assert (failed.subject, failed.revision) == ("acme", second)
    assert failed.error == "division by zero (SQLSTATE 22012)"
    after = await everything(database.owner_url)
    assert of(ACME, after) == of(ACME, before)
    assert [each.revision for each in summary.outcomes if each.change is Change.APPLIED] == [
        first,
        second,
    ]
    log = "SELECT tenant, revision FROM migration_log WHERE revision LIKE '9%' ORDER BY id"
    assert await rows(database.owner_url, log) == [
        ("acme", second),
        ("globex", first),
        ("globex", second),
    ]


async def test_what_was_done_before_an_online_revision_that_fails_stays_done(
    database: Database, tmp_path: Path
) -> None:
    scripts, [first, online, last] = marked(
        tmp_path,
        ("op.create_table(tenant.table('marks'), sa.Column('note', sa.Text))", False),
        ("assert str(tenant) != 'acme', 'not this one'", True),
        ("op.drop_table(tenant.table('marks'))", False),
    )

    summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    changes = [
        (each.revision, each.change)
        for each in summary.outcomes
        if each.subject == "acme" and each.change is not Change.SKIPPED
    ]
    assert changes == [(first, Change.APPLIED), (online, Change.FAILED)]
    assert await rows(
        database.owner_url, "SELECT slug, revision FROM tenants WHERE revision LIKE '9%' ORDER BY 1"
    ) == [("acme", first), ("globex", last)]


async def test_a_revision_that_looks_and_does_not_say_so_is_named_and_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    before = await everything(database.owner_url)
    scripts, [looks] = marked(tmp_path, ("op.get_bind().scalar(sa.text('SELECT 1'))", False))

    summary = await migrations.migrate(settings(database), now=NOW, scripts=scripts)

    assert [(each.subject, each.revision) for each in summary.failed] == [
        ("acme", looks),
        ("globex", looks),
    ]
    assert all("needs `online_only = True`" in str(each.error) for each in summary.failed)
    assert await everything(database.owner_url) == before


async def test_stamping_waits_for_no_revision_of_another_tenant(
    registered: Database, tmp_path: Path
) -> None:
    await migrations.migrate(settings(registered), now=NOW, tenants=["acme"])
    scripts, _ = marked(
        tmp_path,
        (
            "op.execute('SET LOCAL lock_timeout = 0');"
            " op.execute('SELECT pg_advisory_xact_lock(4711)')",
            True,
        ),
    )
    async with session(registered.owner_url) as gate:
        await gate.exec_driver_sql("SELECT pg_advisory_lock(4711)")
        # It has its turn with alembic, and keeps it.
        slow = asyncio.create_task(
            migrations.provision(settings(registered), ACME, NOW, scripts=scripts)
        )
        await wait_for_waiting(registered.owner_url, 1)
        async with asyncio.timeout(30):
            assert await migrations.provision(settings(registered), GLOBEX, NOW) == TENANTS[-1]
        assert not slow.done()
    assert await slow == "9000_mark"


async def test_a_version_table_that_somebody_emptied_is_not_taken_for_none(
    database: Database,
) -> None:
    await rows(database.owner_url, "DELETE FROM acme_alembic_version RETURNING 1")
    before = await everything(database.owner_url)

    with pytest.raises(MigrationFailed, match="acme_alembic_version is empty"):
        await migrations.provision(settings(database), ACME, NOW)

    assert await everything(database.owner_url) == before


async def test_a_tenant_whose_trail_was_purged_gets_its_months_as_they_were_left(
    registered: Database,
) -> None:
    """Months that were taken away do not come back with the tables."""
    source = settings(registered)
    await migrations.migrate(source, now=NOW)
    await rows(
        registered.owner_url,
        "INSERT INTO purge_log (purge_id, tenant, partition, upper, before, events, digest,"
        f" purged_at) VALUES (gen_random_uuid(), 'acme', '{ACME.audit_partition(NOW)}',"
        " timestamptz '2026-06-01 00:00+00', now(), 0, '', now())"
        " RETURNING 1",
    )
    await migrations.downgrade(source, "acme", "base", now=NOW, destroy=True)

    summary = await migrations.migrate(source, now=NOW)

    assert summary.failed == ()
    months = await rows(
        registered.owner_url,
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'acme_audit_events'::regclass",
    )
    assert (ACME.audit_partition(NOW),) not in months
    assert len(months) == 2
