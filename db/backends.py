"""Which backend keeps what is true: the only room that knows both of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.contract import Storage
from db.memory.storage import MemoryStorage
from db.settings import StorageSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


async def open_storage(settings: StorageSettings, engine: AsyncEngine | None = None) -> Storage:
    """The storage that DATABASE_URL names, or PostgreSQL through an engine of the application's
    own, which `close` then leaves alone."""
    if engine is None and settings.in_memory:
        return MemoryStorage()
    # A process that keeps everything in memory never loads the database driver.
    from db.postgres.engine import create_engine
    from db.postgres.storage import PostgresStorage

    if engine is not None:
        return PostgresStorage(engine, settings, owns_engine=False)
    return PostgresStorage(create_engine(settings), settings, owns_engine=True)
