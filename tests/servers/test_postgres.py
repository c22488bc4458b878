"""The cluster that other tests stand on, and kill."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from db.postgres.engine import asyncpg_url
from tests.servers.databases import Database, Databases, run
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.servers.process import ServerFailed


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_place() as place:
        yield place


@pytest.fixture
def server(home: Path) -> Iterator[Postgres]:
    started = Postgres(home)
    started.start()
    yield started
    started.stop()


def ask(url: str, statement: str) -> object:
    async def act(connection: AsyncConnection) -> object:
        result = await connection.exec_driver_sql(statement)
        return result.scalar() if result.returns_rows else None

    return run(url, act)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_was_committed_outlives_the_process(server: Postgres, how: str) -> None:
    ask(server.url(), "CREATE TABLE kept (word TEXT)")
    ask(server.url(), "INSERT INTO kept VALUES ('still here')")
    ask(server.url(), "CHECKPOINT")
    first = server.process.pid
    getattr(server, how)()
    with pytest.raises(OSError, match=r"refused|No such file"):
        ask(server.url(), "SELECT 1")

    server.start()

    assert server.process.pid != first
    assert ask(server.url(), "SELECT word FROM kept") == "still here"


def test_a_cluster_that_cannot_start_says_why(home: Path) -> None:
    broken = Postgres(home, options={"max_connections": "none"})
    with pytest.raises(ServerFailed, match='invalid value for parameter "max_connections"'):
        broken.start()


def test_over_tcp_everybody_needs_the_password(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Postgres(home, port=port, password="right")
    server.start()
    try:
        assert ask(server.url(), "SHOW unix_socket_directories") == ""
        with pytest.raises(DBAPIError, match="password authentication failed"):
            ask(server.url(password="wrong"), "SELECT 1")
    finally:
        server.stop()
    assert not (home / "password").exists()


def test_tests_cannot_listen_to_the_network(server: Postgres) -> None:
    assert ask(server.url(), "SHOW listen_addresses") == ""


def test_neither_role_of_a_database_is_a_superuser(database: Database) -> None:
    for url in (database.owner_url, database.app_url):
        superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert ask(url, superuser) is False
    assert ask(database.app_url, "SELECT current_user") == database.app_role


def test_a_copy_is_whole(databases: Databases) -> None:
    template = databases.create()
    ask(template.owner_url, "CREATE TABLE word AS SELECT 'copied' AS text")
    databases.seal(template)
    copy = databases.create(template)
    databases.drop(template)

    assert ask(copy.owner_url, "SELECT text FROM word") == "copied"

    databases.drop(copy)


def test_a_database_is_dropped_although_the_application_is_connected(databases: Databases) -> None:
    database = databases.create()
    with asyncio.Runner() as runner:
        engine = create_async_engine(asyncpg_url(database.app_url), poolclass=NullPool)
        connection = runner.run(_connected(engine))

        databases.drop(database)

        with pytest.raises(DBAPIError, match=r"closed|terminat"):
            runner.run(connection.exec_driver_sql("SELECT 1"))
        runner.run(connection.invalidate())
        runner.run(connection.close())


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()
