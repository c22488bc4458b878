"""Databases are dropped whoever is at work in them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.servers.databases import Databases, run
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres

SLOW_AND_EAGER = (
    "autovacuum_naptime = '1s'",
    "autovacuum_vacuum_cost_delay = '100ms'",
    "autovacuum_vacuum_cost_limit = 1",
)


def execute(url: str, *statements: str) -> Sequence[Row[tuple[object, ...]]]:
    """The rows of the last statement, if it has any."""

    async def act(connection: AsyncConnection) -> Sequence[Row[tuple[object, ...]]]:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
        return result.all() if result.returns_rows else ()

    return run(url, act)


def test_a_database_that_is_being_vacuumed_is_dropped_by_an_owner_that_is_no_superuser() -> None:
    with temporary_place() as place:
        home = place / "postgres"
        home.mkdir(mode=0o711)
        server = Postgres(home)
        server.start()
        try:
            superuser = server.url()
            execute(superuser, "CREATE ROLE owning LOGIN CREATEDB CREATEROLE")
            execute(superuser, *(f"ALTER SYSTEM SET {each}" for each in SLOW_AND_EAGER))
            execute(superuser, "SELECT pg_reload_conf()")
            databases = Databases(server.url("owning"), disposable=True)
            made = databases.create()
            execute(
                made.owner_url,
                "CREATE TABLE wide AS SELECT n, repeat('x', 200) FROM generate_series(1, 100000) n",
                "DELETE FROM wide WHERE n % 2 = 0",
            )
            at_work = (
                "SELECT pid FROM pg_stat_activity"
                " WHERE backend_type = 'autovacuum worker' AND datname LIKE 'agentidp_test_%%'"
            )
            assert any(execute(superuser, at_work) for _ in range(2000)), "nobody vacuums"

            databases.drop(made)

            found = "SELECT 1 FROM pg_database WHERE datname LIKE 'agentidp_test_%%'"
            assert execute(superuser, found) == []
            databases.close()
        finally:
            server.stop()
