"""Which backend keeps what is true: the only room that knows both of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.contract import Storage
from db.memory.storage import MemoryStorage
from db.settings import Environment, StorageSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


async def open_storage(
    settings: StorageSettings, engine: AsyncEngine | None = None, *, serving: bool = True
) -> Storage:
    """The storage that DATABASE_URL names, or PostgreSQL through an engine of the application's
    own, which `close` then leaves alone.

    Where a process serves in production, its role must not be one that the database cannot keep
    from the audit log: raises Misconfigured for that, and Unavailable when it cannot be asked. The
    command line serves nobody and may be the owner.
    """
    if engine is None and settings.in_memory:
        return MemoryStorage()
    # A process that keeps everything in memory never loads the database driver.
    from db import migrations
    from db.postgres.engine import create_engine
    from db.postgres.faults import translated
    from db.postgres.roles import refuse_owner
    from db.postgres.storage import PostgresStorage

    used = engine if engine is not None else create_engine(settings)
    storage = PostgresStorage(used, settings, owns_engine=engine is None)
    if serving and settings.environment is Environment.PRODUCTION:
        try:
            with translated(None):
                async with used.connect() as connection:
                    await refuse_owner(connection, await migrations.registered(connection))
        except BaseException:
            await storage.close()
            raise
    return storage
