"""Engines of ours and of the application's, and a pooler between us and the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db.backends import open_storage
from db.contract import Storage
from db.errors import EmailTaken, Misconfigured
from db.migrations import migrate
from db.pages import PageRequest
from db.postgres.engine import asyncpg_url, create_engine
from db.postgres.storage import PostgresStorage
from db.settings import StorageSettings
from tests.contract.cast import ACME, NOW, new_agent, new_credential, new_event, new_tenant, put
from tests.db.pooler import pooler
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres


@pytest.fixture
async def careless(database: Database) -> AsyncIterator[AsyncEngine]:
    """An application's own engine, which commits every statement by itself and logs all of it."""
    made = create_async_engine(
        asyncpg_url(database.app_url), isolation_level="AUTOCOMMIT", echo=True
    )
    yield made
    await made.dispose()


@pytest.fixture
async def handed_over(careless: AsyncEngine, database: Database) -> AsyncIterator[Storage]:
    storage = await open_storage(settings_of(database), careless)
    yield storage
    await storage.close()


async def _fail_after_adding(storage: Storage) -> None:
    async with storage.unit(ACME) as unit:
        await unit.agents.add(new_agent())
        raise ZeroDivisionError


async def test_a_unit_is_one_transaction_whatever_the_engine_does_by_itself(
    handed_over: Storage,
) -> None:
    with pytest.raises(ZeroDivisionError):
        await _fail_after_adding(handed_over)
    assert await handed_over.read(ACME).agents.count() == 0


async def test_an_engine_handed_over_is_given_back_as_it_was(
    careless: AsyncEngine, handed_over: Storage
) -> None:
    await put(handed_over, ACME, new_agent())
    async with careless.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    await handed_over.close()
    async with careless.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == pid
        # Still in autocommit: a second statement is in no transaction with the first.
        first = await connection.scalar(text("SELECT pg_current_xact_id()::text"))
        assert await connection.scalar(text("SELECT pg_current_xact_id()::text")) != first


async def test_no_parameter_of_ours_is_in_the_log_of_the_applications_engine(
    handed_over: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    agent = new_agent()
    with caplog.at_level(logging.DEBUG):
        await put(handed_over, ACME, agent, new_credential(agent.agent_id, secret_hash="$2b$hush"))
        page = await handed_over.read(ACME).credentials.page(PageRequest())
    assert page.items[0].secret_hash == "$2b$hush"
    assert "INSERT INTO" in caplog.text
    assert "$2b$hush" not in caplog.text


async def test_tables_are_made_through_the_owner_of_the_settings(handed_over: Storage) -> None:
    """The engine handed over is the application's role, which may make no table."""
    initech = new_tenant("initech").prefix
    await handed_over.upkeep.provision(initech, NOW)
    assert await handed_over.read(initech).agents.count() == 0


async def test_an_engine_of_the_owner_makes_tables_itself(database: Database) -> None:
    owner = create_async_engine(asyncpg_url(database.owner_url))
    storage = await open_storage(StorageSettings.load(), owner)
    initech = new_tenant("initech").prefix
    try:
        await storage.upkeep.provision(initech, NOW)
        assert await storage.read(initech).agents.count() == 0
        await storage.check()
    finally:
        await owner.dispose()


def test_an_engine_of_another_driver_is_refused() -> None:
    # Its driver is not installed, and need not be for an engine that never connects.
    driver = SimpleNamespace(version="5.0", paramstyle="qmark", Cursor=object)
    other = create_async_engine("mssql+aioodbc://", module=driver)
    with pytest.raises(Misconfigured, match="asyncpg"):
        PostgresStorage(other, StorageSettings.load(), owns_engine=False)


async def test_connections_are_closed_with_the_storage_that_made_them(database: Database) -> None:
    count = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    owner = create_async_engine(asyncpg_url(database.owner_url), isolation_level="AUTOCOMMIT")
    async with owner.connect() as connection:
        async with opened(settings_of(database)) as storage:
            await storage.read(ACME).agents.count()
            assert await connection.scalar(text(count)) == 1
        # The server takes a moment to see that the client has gone.
        while await connection.scalar(text(count)):
            pass
    await owner.dispose()


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One that asks its superuser for no password, whatever server the other tests use."""
    with temporary_place() as room:
        home = room / "postgres"
        home.mkdir(mode=0o711)
        started = Postgres(home)
        started.start()
        yield started
        started.stop()


@asynccontextmanager
async def _pooled(server: Postgres, folder: Path) -> AsyncIterator[str]:
    """The URL of a pooler with three connections, behind which stands the tenant acme."""
    direct = StorageSettings.load(database_url=server.url())
    await migrate(direct, now=NOW)
    async with opened(direct) as storage:
        await storage.upkeep.provision(ACME, NOW)
    async with pooler(folder, server.home / "socket" / ".s.PGSQL.5432", size=3):
        yield f"postgresql://postgres@/postgres?host={folder}"


async def _live(storage: Storage) -> None:
    """Some of everything that a request does, in one go."""
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    event = new_event(agent_id=agent.agent_id)
    await put(storage, ACME, agent, credential, event)
    read = storage.read(ACME)
    assert await read.agents.get(agent.agent_id) == agent
    assert await read.credentials.of_client(agent.agent_id, NOW) == [credential]
    assert await read.audit.get(event.event_id, NOW) == event
    pages = await read.audit.pages([agent.agent_id], PageRequest(), NOW)
    assert pages[agent.agent_id].items == (event,)
    with pytest.raises(EmailTaken):
        await put(storage, ACME, new_agent(email=agent.email))


def test_behind_a_pooler_everything_works_and_nothing_stays_prepared(
    server: Postgres, tmp_path: Path
) -> None:
    async def eight_clients_on_three_connections() -> list[int]:
        async with _pooled(server, tmp_path) as url:
            settings = StorageSettings.load(database_url=url, pgbouncer=True, db_pool_size=8)
            async with opened(settings) as storage:
                for _ in range(3):
                    await asyncio.gather(*(_live(storage) for _ in range(8)))
                assert await storage.read(ACME).agents.count() == 24
            engine = create_engine(settings)
            left = [await _prepared(engine) for _ in range(3)]
            await engine.dispose()
            return left

    assert asyncio.run(eight_clients_on_three_connections()) == [0, 0, 0]


async def _prepared(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        return int(found.scalar_one())


def test_behind_a_pooler_that_nobody_told_us_of_the_error_says_so(
    server: Postgres, tmp_path: Path
) -> None:
    async def ask_twice() -> None:
        async with (
            _pooled(server, tmp_path) as url,
            opened(StorageSettings.load(database_url=url)) as storage,
        ):
            for _ in range(2):
                await storage.registry.tenants.get("acme")

    with pytest.raises(Misconfigured, match="PGBOUNCER=true"):
        asyncio.run(ask_twice())
