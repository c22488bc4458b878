"""Revocations that have outlived their tokens are forgotten, by the owner's role: the application
may not delete one, for then it could bring a revoked token back.

They go a page at a time, each page from where the last one ended. A page that began anew at the
oldest would first read all that was deleted before it, which stays until the table is vacuumed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed, TenantNotProvisioned
from db.namespace import TenantPrefix
from db.postgres.owner import Source, connect, is_lost, reason, server_clock, table_exists

_PAGE = 5_000
_BEGINNING = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


async def sweep_revocations(source: Source, tenant: TenantPrefix, before: datetime) -> int:
    """Forgets the revocations of tokens that ended before `before`; how many they were.

    Raises TenantNotProvisioned, MigrationFailed when the table is busy for one or `before` has not
    come yet, and Unavailable.
    """
    table = tenant.table("token_revocations")
    swept = 0
    async with connect(source) as connection:
        try:
            async with connection.begin():
                if not await table_exists(connection, table):
                    raise TenantNotProvisioned(f"the tenant {tenant} was never provisioned")
                await _refuse_the_future(connection, tenant, before)
            ended: tuple[datetime, UUID] | None = _BEGINNING
            while ended:
                async with connection.begin():
                    await connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                    gone, ended = await _sweep_page(connection, table, before, ended)
                swept += gone
        except DBAPIError as error:
            if is_lost(error):
                raise
            raise MigrationFailed(f"{tenant} was not swept: {reason(error)}") from None
    return swept


async def _refuse_the_future(
    connection: AsyncConnection, tenant: TenantPrefix, before: datetime
) -> None:
    """Where this process's clock is wrong, a revocation that it takes for over may be all that
    keeps a live token out."""
    if before > await server_clock(connection):
        raise MigrationFailed(
            f"{tenant} was not swept: this process is ahead of the database, and would take live"
            " tokens for ended"
        )


async def _sweep_page(
    connection: AsyncConnection, table: str, before: datetime, after: tuple[datetime, UUID]
) -> tuple[int, tuple[datetime, UUID] | None]:
    """How many went, and where the page ended; None after the last one."""
    ended_at, jti = after
    found = await connection.execute(
        text(
            f'SELECT expires_at, jti FROM "{table}"'
            " WHERE (expires_at, jti) > (:ended_at, :jti) AND expires_at < :before"
            " ORDER BY expires_at, jti LIMIT :most"
        ),
        {"ended_at": ended_at, "jti": jti, "before": before, "most": _PAGE},
    )
    page = [(row.expires_at, row.jti) for row in found]
    if not page:
        return 0, None
    gone = await connection.execute(
        text(f'DELETE FROM "{table}" WHERE jti = ANY(:jtis) AND expires_at < :before'),
        {"jtis": [jti for _, jti in page], "before": before},
    )
    return gone.rowcount, page[-1] if len(page) == _PAGE else None
