"""What the application role may do, and that the migrations alone decide it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from db import migrations
from db.errors import MigrationFailed
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW
from tests.db.catalog import everything, rows, session
from tests.db.scene import register, settings
from tests.servers.databases import Database

GRANTED = {
    "tenants": "INSERT SELECT UPDATE",
    "operator_events": "INSERT SELECT",
    "signing_keys": "INSERT SELECT UPDATE",
    "work": "INSERT SELECT UPDATE",
    "idempotency_keys": "DELETE INSERT SELECT UPDATE",
    "purge_log": "SELECT",
    "migration_log": "SELECT",
    "registry_alembic_version": "SELECT",
    "acme_agents": "INSERT SELECT UPDATE",
    "acme_credentials": "INSERT SELECT UPDATE",
    "acme_audit_events": "INSERT SELECT",
    "acme_token_revocations": "INSERT SELECT",
    "acme_alembic_version": "SELECT",
    ACME.audit_partition(NOW): "",
}
PRIVILEGES = ["DELETE", "INSERT", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE"]


async def migrated(database: Database, source: StorageSettings | None = None) -> None:
    source = source or settings(database)
    await migrations.migrate(source, now=NOW)
    await register(database, "acme")
    await migrations.migrate(source, now=NOW)


async def granted(database: Database, role: str) -> dict[str, str]:
    """By PostgreSQL's own reckoning, with what comes through PUBLIC and memberships."""
    found = {}
    async with session(database.owner_url) as connection:
        for table in GRANTED:
            held = []
            for privilege in PRIVILEGES:
                row = await connection.exec_driver_sql(
                    "SELECT has_table_privilege($1::text, $2::text, $3::text)",
                    (role, table, privilege),
                )
                if row.scalar_one():
                    held.append(privilege)
            found[table] = " ".join(held)
    return found


async def test_the_application_role_has_exactly_its_rights(empty_database: Database) -> None:
    await migrated(empty_database)

    assert await granted(empty_database, empty_database.app_role) == GRANTED


async def test_no_table_of_ours_is_forgotten(empty_database: Database) -> None:
    await migrated(empty_database)

    tables = await rows(
        empty_database.owner_url,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = current_schema()::regnamespace",
    )
    assert {name for (name,) in tables} == {name for name in GRANTED if "_y20" not in name}


async def test_what_default_privileges_gave_too_much_is_taken_back(
    empty_database: Database,
) -> None:
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql(
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {empty_database.app_role}"
        )

    await migrated(empty_database)

    assert await granted(empty_database, empty_database.app_role) == GRANTED


async def test_a_month_that_is_added_later_is_closed_to_the_application_too(
    empty_database: Database,
) -> None:
    await migrated(empty_database)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql(
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {empty_database.app_role}"
        )

    [partition, *_] = await migrations.ensure_partitions(
        settings(empty_database), ACME, NOW + timedelta(days=62)
    )

    for act in (f"TABLE {partition}", f"TRUNCATE {partition}"):
        with pytest.raises(DBAPIError, match="permission denied"):
            await rows(empty_database.app_url, act)


async def test_grants_that_were_lost_or_widened_are_mended_by_migrating_again(
    empty_database: Database,
) -> None:
    await migrated(empty_database)
    role, partition = empty_database.app_role, ACME.audit_partition(NOW)
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql(f"REVOKE ALL ON acme_agents, tenants FROM {role}")
        await connection.exec_driver_sql(f"GRANT ALL ON {partition}, operator_events TO {role}")

    await migrations.migrate(settings(empty_database), now=NOW)

    assert await granted(empty_database, role) == GRANTED


@pytest.mark.parametrize("name", ['we"ird', "with:colon", "with %s and {0}", "Ünï ; DROP TABLE x"])
async def test_a_role_may_have_any_name(empty_database: Database, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    url = make_url(empty_database.owner_url).set(username=name)
    source = StorageSettings.load(
        database_url=url.render_as_string(hide_password=False),
        database_owner_url=empty_database.owner_url,
    )
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql(f"CREATE ROLE {quoted}")
        await connection.exec_driver_sql(f"GRANT {quoted} TO CURRENT_USER")
    try:
        await migrated(empty_database, source)

        assert await granted(empty_database, name) == GRANTED
    finally:
        async with session(empty_database.owner_url) as connection:
            await connection.exec_driver_sql(f"DROP OWNED BY {quoted}")
            await connection.exec_driver_sql(f"DROP ROLE {quoted}")


async def test_an_application_role_that_does_not_exist_is_named_and_nothing_is_made(
    empty_database: Database,
) -> None:
    before = await everything(empty_database.owner_url)
    url = make_url(empty_database.owner_url).set(username="nobody_at_all")
    source = StorageSettings.load(
        database_url=url.render_as_string(hide_password=False),
        database_owner_url=empty_database.owner_url,
    )

    with pytest.raises(MigrationFailed, match=r"application role 'nobody_at_all' .* not exist"):
        await migrations.migrate(source, now=NOW)
    with pytest.raises(MigrationFailed, match=r"application role 'nobody_at_all' .* not exist"):
        await migrations.provision(source, ACME, NOW)

    assert await everything(empty_database.owner_url) == before


@pytest.mark.parametrize("named", [True, False])
async def test_one_role_for_everything_needs_no_grant(
    empty_database: Database, named: bool
) -> None:
    owner = empty_database.owner_url
    source = StorageSettings.load(
        database_url=owner, **({"database_owner_url": owner} if named else {})
    )

    await migrated(empty_database, source)

    assert (await everything(owner))["grants"] == frozenset()


async def test_tables_in_a_schema_of_the_owners_own_are_opened_to_the_application(
    empty_database: Database,
) -> None:
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE SCHEMA identity")
        database = make_url(empty_database.owner_url).database
        for role in ("CURRENT_USER", empty_database.app_role):
            await connection.exec_driver_sql(
                f"ALTER ROLE {role} IN DATABASE {database} SET search_path = identity"
            )

    await migrated(empty_database)

    assert await rows(empty_database.app_url, "SELECT slug FROM identity.tenants") == [("acme",)]
    assert await rows(empty_database.app_url, "SELECT count(*) FROM acme_audit_events") == [(0,)]
    with pytest.raises(DBAPIError, match="permission denied"):
        await rows(empty_database.app_url, f"TABLE {ACME.audit_partition(NOW)}")


async def test_the_application_role_cannot_migrate_by_itself(empty_database: Database) -> None:
    async with session(empty_database.owner_url) as connection:
        await connection.exec_driver_sql("CREATE SCHEMA identity")
        role, database = empty_database.app_role, make_url(empty_database.owner_url).database
        await connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA identity TO {role}")
        await connection.exec_driver_sql(
            f"ALTER ROLE {role} IN DATABASE {database} SET search_path = identity"
        )
    before = await everything(empty_database.owner_url)
    alone = replace(empty_database, owner_url=empty_database.app_url)

    with pytest.raises(MigrationFailed, match="permission denied for schema identity"):
        await migrations.migrate(settings(alone), now=NOW)

    assert await everything(empty_database.owner_url) == before
