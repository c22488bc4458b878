"""What the tests of the PostgreSQL backend do behind its back, as an administrator could."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from db.backends import open_storage
from db.contract import Storage
from db.postgres.engine import asyncpg_url
from db.settings import StorageSettings
from tests.servers.databases import Database, run


def settings_of(database: Database, **changes: Any) -> StorageSettings:
    return StorageSettings.load(
        database_url=database.app_url, database_owner_url=database.owner_url, **changes
    )


@asynccontextmanager
async def opened(settings: StorageSettings) -> AsyncIterator[Storage]:
    storage = await open_storage(settings)
    try:
        yield storage
    finally:
        await storage.close()


async def execute(database: Database, statement: str) -> None:
    """As the owner of the database."""
    await asyncio.to_thread(
        run, database.owner_url, lambda connection: connection.exec_driver_sql(statement)
    )


async def cut(database: Database) -> None:
    """Ends every other session of the database, and waits until its client can have heard of it."""
    engine = create_async_engine(asyncpg_url(database.owner_url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        await connection.execute(text("SELECT 1"))
    await engine.dispose()
