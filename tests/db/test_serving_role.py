"""In production nobody serves who could change the audit log behind the application's back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from db import migrations
from db.backends import open_storage
from db.errors import Misconfigured, Unavailable
from db.postgres.engine import asyncpg_url
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW
from tests.db.catalog import everything, rows, session
from tests.db.scene import call, environment, register
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

PARTITION = ACME.audit_partition(NOW)
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The tenant acme's tables belong to the role `keeper`; `server` may do everything."""

    server: str
    keeper: str
    app: str


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Of this module's own, because a superuser is not what TEST_DATABASE_URL has to give."""
    with temporary_place() as place:
        started = Postgres(place / "postgres")
        started.start()
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
async def cluster(server: Postgres) -> Cluster:
    """A database of each test's own, and a role without any power that may use acme's tables."""
    number = next(_numbers)
    name, keeper, app = f"kept_{number}", f"keeper_{number}", f"app_{number}"
    async with session(server.url()) as connection:
        for role in (keeper, app):
            await connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        await connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {keeper}")
    made = Cluster(*(server.url(role, database=name) for role in ("postgres", keeper, app)))
    source = StorageSettings.load(database_url=made.app, database_owner_url=made.keeper)
    await migrations.migrate(source, now=NOW)
    await register(Database(made.keeper, made.app, app), "acme")
    await migrations.migrate(source, now=NOW)
    return made


def in_production(url: str, **others: str) -> StorageSettings:
    return StorageSettings.load(environment="production", database_url=url, **others)


async def serve(url: str) -> None:
    storage = await open_storage(in_production(url))
    await storage.close()


async def test_a_role_that_owns_nothing_serves(cluster: Cluster) -> None:
    storage = await open_storage(in_production(cluster.app, database_owner_url=cluster.keeper))
    await storage.check()
    assert await storage.read(ACME).agents.count() == 0
    await storage.close()


@pytest.mark.parametrize(
    ("given", "power"),
    [
        ("ALTER ROLE {app} SUPERUSER", "a superuser"),
        ("GRANT postgres TO {app}", "a superuser"),
        ("ALTER ROLE {app} CREATEROLE", "one that makes roles"),
        ("GRANT {keeper} TO {app}", "an owner of the database kept_"),
        ("ALTER DATABASE {database} OWNER TO {app}", "an owner of the database kept_"),
        ("ALTER SCHEMA public OWNER TO {app}", "an owner of the schema public"),
        (
            "ALTER FUNCTION agentidp_append_only() OWNER TO {app}",
            "an owner of the function agentidp_append_only",
        ),
        *(
            (f"ALTER TABLE {table} OWNER TO {{app}}", f"an owner of the table {table}")
            for table in ("tenants", "operator_events", "registry_alembic_version", "acme_agents",
                          "acme_audit_events", "acme_alembic_version", PARTITION)
        ),
    ],
)  # fmt: skip
async def test_a_role_with_power_over_what_is_kept_does_not_serve(
    cluster: Cluster, given: str, power: str
) -> None:
    await serve(cluster.app)
    names = {"app": _role(cluster.app), "keeper": _role(cluster.keeper), "database": ""}
    async with session(cluster.server) as connection:
        found = await connection.exec_driver_sql("SELECT current_database()")
        names["database"] = found.scalar_one()
        # What is not inherited is one SET ROLE away.
        await connection.exec_driver_sql("ALTER ROLE {app} NOINHERIT".format(**names))
        await connection.exec_driver_sql(given.format(**names))
    before = await everything(cluster.server)

    with pytest.raises(Misconfigured) as refused:
        await serve(cluster.app)

    assert refused.value.message.startswith(
        f"ENVIRONMENT=production needs a role that only serves: {names['app']} is {power}"
    )
    assert await everything(cluster.server) == before


async def test_neither_the_owner_nor_the_superuser_serves(cluster: Cluster) -> None:
    for url in (cluster.keeper, cluster.server):
        with pytest.raises(Misconfigured, match="only serves"):
            await serve(url)


async def test_the_role_of_an_engine_handed_over_is_asked_and_the_engine_left_open(
    cluster: Cluster,
) -> None:
    engine = create_async_engine(asyncpg_url(cluster.keeper))
    pool = engine.pool
    try:
        with pytest.raises(Misconfigured, match="only serves"):
            await open_storage(in_production(cluster.app), engine)
        assert engine.pool is pool, "disposing would have replaced it"
    finally:
        await engine.dispose()


async def test_who_is_refused_leaves_no_connection_behind(cluster: Cluster) -> None:
    with pytest.raises(Misconfigured):
        await serve(cluster.keeper)

    async with session(cluster.server) as connection:
        left = 1
        while left:  # The server takes a moment to see that a client has gone.
            found = await connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            left = found.scalar_one()


async def test_in_development_one_role_may_do_everything(cluster: Cluster) -> None:
    for url in (cluster.keeper, cluster.server):
        storage = await open_storage(StorageSettings.load(database_url=url))
        await storage.check()
        await storage.close()


async def test_before_there_are_tables_an_owner_is_recognised_all_the_same(
    empty_database: Database,
) -> None:
    await serve(empty_database.app_url)
    with pytest.raises(Misconfigured, match="only serves"):
        await serve(empty_database.owner_url)


async def test_a_database_that_cannot_be_asked_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await serve("postgresql://app@127.0.0.1:1/agentidp")


async def test_the_command_line_is_the_owner_in_production_too(empty_database: Database) -> None:
    env = environment(None, DATABASE_URL=empty_database.owner_url, ENVIRONMENT="production")

    assert call("migrate", env=env)[::2] == (0, "")
    assert call("provision", "--tenant", "acme", env=env)[::2] == (0, "")
    assert call("status", env=env)[::2] == (0, "")

    assert await rows(empty_database.owner_url, "SELECT slug, status FROM tenants") == [
        ("acme", "active")
    ]


def _role(url: str) -> str:
    return url.removeprefix("postgresql://").partition("@")[0]
