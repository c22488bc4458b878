"""The end of a tenant's tables, in one transaction: all of them, or none.

Every name is exact. A pattern such as `acme%` would take the tables of `acme_two` with it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.postgres.owner import Source, change, connect, is_lost, reason, server_clock
from db.postgres.roles import tables_of

# With the months that a purge has detached and not yet dropped, of which the parent knows nothing.
_STANDING = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relname = ANY(CAST(:tables AS text[])) OR c.relname ~ :months)
    ORDER BY c.relname
"""


async def drop_tables(
    source: Source, tenant: TenantPrefix, due: datetime | None = None
) -> tuple[str, ...]:
    """The names of those that went; none when there were none. Raises MigrationFailed, when one is
    busy, something of somebody else's hangs on it, or `due` has not come yet, and Unavailable."""
    async with connect(source) as connection:
        try:
            async with change(connection, str(tenant)):
                if due is not None:
                    await _refuse_the_future(connection, tenant, due)
                names = await _standing(connection, tenant)
                if names:
                    # Together: they refer to each other, and nothing of anybody else's may go too.
                    listed = ", ".join(f'"{name}"' for name in names)
                    await connection.execute(text(f"DROP TABLE {listed} RESTRICT"))
                return names
        except DBAPIError as error:
            if is_lost(error):
                raise
            raise MigrationFailed(f"{tenant} was not dropped: {reason(error)}") from None


async def _refuse_the_future(
    connection: AsyncConnection, tenant: TenantPrefix, due: datetime
) -> None:
    """Nothing brings the tables back for whoever still has time to call the removal off."""
    if due > await server_clock(connection):
        raise MigrationFailed(
            f"{tenant} was not dropped: this process is ahead of the database, by whose clock the"
            " time of grace is not over"
        )


async def _standing(connection: AsyncConnection, tenant: TenantPrefix) -> tuple[str, ...]:
    rows = await connection.execute(
        text(_STANDING),
        {
            "tables": tables_of(tenant),
            "months": tenant.audit_partition_pattern,
        },
    )
    return tuple(rows.scalars())
