"""Fresh databases on a cluster, for one owner and one application role.

The suite needs an owner that may make databases and roles, and makes the application role itself:
the difference between the two is part of what is tested.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from db.postgres.engine import asyncpg_url

_STRATEGY_SINCE = 150000

T = TypeVar("T")


class UnusableServer(RuntimeError):
    """The server named by the environment cannot serve the suite; the message says why."""


@dataclass(frozen=True, slots=True)
class Database:
    """`owner_url` makes tables, `app_url` is what the application may do; URLs hold passwords."""

    owner_url: str
    app_url: str
    app_role: str


class Databases:
    """Makes and drops databases through `owner_url`; `disposable` when the cluster is ours."""

    def __init__(self, owner_url: str, *, disposable: bool) -> None:
        self._owner_url = owner_url
        self._disposable = disposable
        self._app_role = f"agentidp_test_{secrets.token_hex(6)}"
        self._app_password = secrets.token_hex(16)
        self._version = run(owner_url, self._prepare)

    def create(self, template: Database | None = None) -> Database:
        """An empty database, or a copy of `template`, to which nobody may be connected."""
        name = f"agentidp_test_{secrets.token_hex(6)}"
        statement = f"CREATE DATABASE {name}"
        if template:
            statement += f" TEMPLATE {_name(template)}"
            if self._disposable and self._version >= _STRATEGY_SINCE:
                # Twice as fast; the checkpoints that it asks for would disturb a shared cluster.
                statement += " STRATEGY file_copy"
        self._execute(statement)
        owner = make_url(self._owner_url).set(database=name)
        app = owner.set(username=self._app_role, password=self._app_password)
        return Database(
            owner_url=owner.render_as_string(hide_password=False),
            app_url=app.render_as_string(hide_password=False),
            app_role=self._app_role,
        )

    def seal(self, database: Database) -> None:
        """Makes it a template: a connection left behind would stop every copy."""
        self._execute(f"ALTER DATABASE {_name(database)} ALLOW_CONNECTIONS false")

    def drop(self, database: Database) -> None:
        # Not WITH (FORCE): that would end an autovacuum worker too, which only a superuser may,
        # and fail. A plain DROP asks such a worker to leave, and waits for those that are ended.
        self._execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{_name(database)}' AND backend_type = 'client backend'"
        )
        self._execute(f"DROP DATABASE {_name(database)}")

    def close(self) -> None:
        """Removes the application role, once all its databases are gone."""
        self._execute(f"DROP ROLE {self._app_role}")

    async def _prepare(self, connection: AsyncConnection) -> int:
        powers = await connection.exec_driver_sql(
            "SELECT rolsuper OR rolcreatedb AND rolcreaterole"
            " FROM pg_roles WHERE rolname = current_user"
        )
        if not powers.scalar_one():
            raise UnusableServer("the role in TEST_DATABASE_URL needs CREATEDB and CREATEROLE")
        await connection.exec_driver_sql(
            f"CREATE ROLE {self._app_role} LOGIN PASSWORD '{self._app_password}'"
        )
        # Whoever drops a database must be allowed to end the connections to it.
        await connection.exec_driver_sql(f"GRANT {self._app_role} TO CURRENT_USER")
        version = await connection.exec_driver_sql("SELECT current_setting('server_version_num')")
        return int(version.scalar_one())

    def _execute(self, statement: str) -> None:
        async def act(connection: AsyncConnection) -> None:
            await connection.exec_driver_sql(statement)

        run(self._owner_url, act)


def run(url: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """What `act` returns, on one connection in autocommit and in a loop of its own: fixtures serve
    synchronous tests too."""

    async def connected() -> T:
        engine = create_async_engine(
            asyncpg_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        )
        async with engine.connect() as connection:
            return await act(connection)

    return asyncio.run(connected())


def _name(database: Database) -> str:
    return str(make_url(database.owner_url).database)
