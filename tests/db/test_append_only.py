"""The trail is appended to and read: by grants for the application, by triggers for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import migrations
from db.clock import event_id
from db.postgres.partitions import ensure_audit_partitions
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW
from tests.db.catalog import rows, session
from tests.db.scene import register
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

DENIED = "42501"
APPEND_ONLY = "23001"

TRAIL = "acme_audit_events"
PARTITION = ACME.audit_partition(NOW)
OPERATOR = "operator_events"

APPEND = (
    f"INSERT INTO {TRAIL} (event_id, agent_id, action, outcome, ip_address, user_agent)"
    f" VALUES ('{event_id(NOW)}', '{event_id(NOW)}', 'agent.created', 'success', '::1', '-')"
)
APPEND_OPERATOR = (
    f"INSERT INTO {OPERATOR} (event_id, action, outcome, ip_address, user_agent)"
    f" VALUES ('{event_id(NOW)}', 'tenant.onboarded', 'success', '::1', '-')"
)
CHANGES = (
    "UPDATE {} SET user_agent = 'forged'",
    "DELETE FROM {}",
    "TRUNCATE {}",
)
# What would take the guard away first, or go round it.
BREAK_INS = (
    f"ALTER TABLE {TRAIL} DISABLE TRIGGER ALL",
    f"ALTER TABLE {TRAIL} DISABLE TRIGGER acme_audit_events_append_only",
    f"DROP TRIGGER acme_audit_events_append_only ON {TRAIL}",
    f"ALTER TABLE {TRAIL} DETACH PARTITION {PARTITION}",
    f"DROP TABLE {TRAIL}",
    f"DROP TABLE {PARTITION}",
    "DROP FUNCTION agentidp_append_only() CASCADE",
    "CREATE OR REPLACE FUNCTION agentidp_append_only() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "SET session_replication_role = replica",
    f"CREATE RULE gone AS ON INSERT TO {TRAIL} DO INSTEAD NOTHING",
    f"ALTER TABLE {TRAIL} OWNER TO current_user",
)


async def refusal(url: str, statement: str) -> str:
    """The SQLSTATE with which the database refuses."""
    async with session(url) as connection:
        with pytest.raises(DBAPIError) as refused:
            await connection.exec_driver_sql(statement)
    return str(getattr(refused.value.orig, "sqlstate", None))


async def trail(url: str) -> list[tuple[object, ...]]:
    return await rows(
        url,
        f"SELECT 't', user_agent FROM {TRAIL} UNION ALL SELECT 'o', user_agent FROM {OPERATOR}"
        " ORDER BY 1",
    )


UNTOUCHED = [("o", "-"), ("t", "-")]


@pytest.fixture
async def written(database: Database) -> Database:
    """With one event on each trail, which the application itself has written."""
    async with session(database.app_url) as connection:
        await connection.exec_driver_sql(APPEND)
        await connection.exec_driver_sql(APPEND_OPERATOR)
    return database


async def test_the_application_appends_to_the_trail_and_reads_it(written: Database) -> None:
    assert await trail(written.app_url) == UNTOUCHED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", [TRAIL, PARTITION, OPERATOR])
async def test_the_application_may_not_change_the_trail(
    written: Database, change: str, table: str
) -> None:
    assert await refusal(written.app_url, change.format(table)) == DENIED
    assert await trail(written.owner_url) == UNTOUCHED


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", [TRAIL, PARTITION, OPERATOR])
async def test_the_owner_is_stopped_by_the_triggers(
    written: Database, change: str, table: str
) -> None:
    assert await refusal(written.owner_url, change.format(table)) == APPEND_ONLY
    assert await trail(written.owner_url) == UNTOUCHED


async def test_every_partition_refuses_to_be_truncated(written: Database) -> None:
    partitions = await rows(
        written.owner_url,
        f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{TRAIL}'::regclass",
    )
    assert len(partitions) >= 3
    for (name,) in partitions:
        assert await refusal(written.owner_url, f"TRUNCATE {name}") == APPEND_ONLY


async def test_a_month_that_is_added_later_is_guarded_as_the_first(written: Database) -> None:
    later = NOW + timedelta(days=3 * 366)
    async with session(written.owner_url) as connection:
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            made = await ensure_audit_partitions(transactional, ACME, later)
    late = APPEND.replace(str(event_id(NOW))[:8], str(event_id(later))[:8])
    assert made
    async with session(written.app_url) as connection:
        await connection.exec_driver_sql(late)

    partition = ACME.audit_partition(later)
    for change in CHANGES:
        assert await refusal(written.owner_url, change.format(partition)) == APPEND_ONLY
        assert await refusal(written.app_url, change.format(partition)) == DENIED
    assert await rows(written.owner_url, f"SELECT user_agent FROM {partition}") == [("-",)]


@pytest.mark.parametrize("act", ["SELECT 1 FROM {}", APPEND.replace(TRAIL, "{}")])
async def test_the_application_reaches_a_partition_through_its_parent_alone(
    written: Database, act: str
) -> None:
    assert await refusal(written.app_url, act.format(PARTITION)) == DENIED


@pytest.mark.parametrize("statement", BREAK_INS)
async def test_the_application_cannot_take_the_guard_away(
    written: Database, statement: str
) -> None:
    assert await refusal(written.app_url, statement) == DENIED
    assert await refusal(written.owner_url, f"DELETE FROM {TRAIL}") == APPEND_ONLY
    assert await trail(written.owner_url) == UNTOUCHED


async def test_the_application_gives_itself_nothing(written: Database) -> None:
    async with session(written.app_url) as connection:
        # Not refused: a warning says that nothing was granted.
        await connection.exec_driver_sql(f"GRANT ALL ON {TRAIL}, {OPERATOR} TO current_user")

    for table in (TRAIL, OPERATOR):
        assert await refusal(written.app_url, f"DELETE FROM {table}") == DENIED
    assert await trail(written.owner_url) == UNTOUCHED


async def test_an_event_is_not_overwritten_by_one_with_the_same_id(written: Database) -> None:
    again = f"{APPEND} ON CONFLICT (event_id) DO"

    assert await refusal(written.app_url, f"{again} UPDATE SET user_agent = 'forged'") == DENIED
    assert (
        await refusal(written.owner_url, f"{again} UPDATE SET user_agent = 'forged'") == APPEND_ONLY
    )
    async with session(written.app_url) as connection:
        await connection.exec_driver_sql(f"{again} NOTHING")
    assert await trail(written.owner_url) == UNTOUCHED


async def test_a_tenants_other_rows_are_never_deleted_by_the_application(
    database: Database,
) -> None:
    for name in ("acme_agents", "acme_credentials", "acme_token_revocations", "tenants"):
        assert await refusal(database.app_url, f"DELETE FROM {name}") == DENIED
        assert await refusal(database.app_url, f"TRUNCATE {name} CASCADE") == DENIED
    assert await refusal(database.app_url, "UPDATE acme_token_revocations SET jti = jti") == DENIED
    assert await refusal(database.app_url, "DELETE FROM migration_log") == DENIED


@pytest.fixture(scope="module")
def superuser() -> Iterator[str]:
    """A server of its own, because a superuser is not what TEST_DATABASE_URL has to give."""
    with temporary_place() as place:
        home = Path(place) / "postgres"
        home.mkdir(mode=0o711)
        server = Postgres(home)
        server.start()
        try:
            yield server.url()
        finally:
            server.stop()


async def test_a_superuser_who_is_owner_and_application_at_once_is_stopped_as_well(
    superuser: str,
) -> None:
    settings = StorageSettings.load(database_url=superuser)
    await migrations.migrate(settings, now=NOW)
    await register(Database(superuser, superuser, "postgres"), "acme")
    await migrations.migrate(settings, now=NOW)
    async with session(superuser) as connection:
        await connection.execute(text(APPEND.replace("::1", "127.0.0.1")))

    for table in (TRAIL, PARTITION):
        for change in CHANGES:
            assert await refusal(superuser, change.format(table)) == APPEND_ONLY
    assert await rows(superuser, f"SELECT count(*) FROM {TRAIL}") == [(1,)]
