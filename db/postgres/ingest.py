"""Events of many tenants in one transaction, a statement for each of them.

It speaks to the driver itself: of a batch that is spread over many tenants, SQLAlchemy's part would
be the larger one (measured at 50 tenants: 190 µs an event against 65).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import AgentIdPError
from db.namespace import TenantPrefix
from db.postgres.audit import APPEND, Row
from db.postgres.driver import Driver, driver_of
from db.postgres.engine import named
from db.postgres.faults import Outage, Silence, translated

Parts: TypeAlias = Mapping[TenantPrefix, Sequence[Row]]

_DIALECT = make_url("postgresql+asyncpg://").get_dialect()()
_STATEMENT = str(APPEND.compile(dialect=_DIALECT))


class Lost(Outage):
    """The transaction was broken off without a word on what became of it: all of it is there, or
    nothing. The same may be asked for again."""


class PartRefused(Exception):
    """The statement of one tenant failed, and the transaction with it: nothing of it is there."""

    def __init__(self, tenant: TenantPrefix, error: AgentIdPError) -> None:
        super().__init__(tenant, error)
        self.tenant = tenant
        self.error = error


class Ingest:
    """For one task at a time. It keeps its connection until it is told to `rest`. `patience_ms` is
    how long a table may be waited for: as long waits whoever comes behind."""

    def __init__(self, engine: AsyncEngine, patience_ms: int) -> None:
        self._engine = engine
        self._begin = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {patience_ms}"
        )
        self._kept: tuple[AsyncConnection, Driver] | None = None

    async def append(self, parts: Parts) -> None:
        """Returns after COMMIT. Raises Lost, another Outage, and PartRefused."""
        with translated(None):
            connection, driver = self._kept or await self._connected()
            self._kept = None
            fit = False
            try:
                await self._run(driver, parts)
                fit = True
            except PartRefused:
                with suppress(Exception):
                    await driver.execute("ROLLBACK")
                    fit = True
                raise
            finally:
                if fit:
                    self._kept = connection, driver
                else:
                    # In the middle of something: nobody is to go on from there.
                    await _throw_away(connection)

    async def rest(self) -> None:
        if self._kept is not None:
            (connection, _), self._kept = self._kept, None
            with suppress(Exception):
                await connection.close()

    async def _connected(self) -> tuple[AsyncConnection, Driver]:
        """Passes over those in the pool that a restarted server has closed: not every engine that
        was handed over does."""
        while True:
            connection = await self._engine.connect()
            driver = await driver_of(connection)
            if not driver.is_closed():
                return connection, driver
            await _throw_away(connection)

    async def _run(self, driver: Driver, parts: Parts) -> None:
        try:
            with translated(None):
                await driver.execute(self._begin)
                for tenant, rows in parts.items():
                    await _append(driver, tenant, rows)
                await driver.execute("COMMIT")
        except Silence:
            raise
        except AgentIdPError as error:
            told = isinstance(error, Outage)
            raise Lost(error.message if told else "a transaction was lost") from None


async def _append(driver: Driver, tenant: TenantPrefix, rows: Sequence[Row]) -> None:
    try:
        with translated(tenant):
            await driver.execute(named(_STATEMENT, tenant), *zip(*rows, strict=True))
    except Outage:
        raise
    except AgentIdPError as error:
        if driver.is_closed():
            raise
        raise PartRefused(tenant, error) from None


async def _throw_away(connection: AsyncConnection) -> None:
    with suppress(Exception):
        await connection.invalidate()
        await connection.close()
