"""The only path that makes tables: alembic's two chains, run for the registry and each tenant."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.settings import StorageSettings


async def provision(
    source: StorageSettings | AsyncEngine, tenant: TenantPrefix, now: datetime
) -> str:
    """Makes the tenant's tables, or brings them to head: with the audit partitions of `now` and
    the application role's grants. Returns the revision they are at; repeating it is harmless.

    The registry row is left alone. Raises MigrationFailed and Unavailable.
    """
    raise MigrationFailed("there are no revisions")


async def registry_at_head(engine: AsyncEngine) -> bool:
    """Whether the registry's tables are those that this program expects."""
    return False
