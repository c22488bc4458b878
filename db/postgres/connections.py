"""How a statement meets a connection: one by itself, or several in one transaction.

Both are made for a tenant (None is the registry) and let nothing but errors of ours out. What a
caller who is cancelled leaves behind is never a connection in an unknown state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from sqlalchemy import Executable, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import NotFound, UnitOver
from db.namespace import TenantPrefix
from db.postgres.engine import of_tenant
from db.postgres.faults import translated

Rows = Sequence[Row[Any]]
Parameters = Mapping[str, object]


class Runs(Protocol):
    async def rows(self, statement: Executable, parameters: Parameters) -> Rows: ...


class Reading:
    """Each statement on a connection of its own, seeing what is committed."""

    def __init__(self, engine: AsyncEngine, tenant: TenantPrefix | None) -> None:
        self._engine = engine if tenant is None else of_tenant(engine, tenant)
        self._tenant = tenant

    async def rows(self, statement: Executable, parameters: Parameters) -> Rows:
        with translated(self._tenant):
            async with self._engine.connect() as connection:
                return (await connection.execute(statement, parameters)).all()


class Changing:
    """One transaction: committed on leaving the block, rolled back when the block raises."""

    def __init__(self, engine: AsyncEngine, tenant: TenantPrefix | None) -> None:
        self._engine = engine if tenant is None else of_tenant(engine, tenant)
        self._tenant = tenant
        self._over = True

    async def rows(self, statement: Executable, parameters: Parameters) -> Rows:
        """Runs a statement. Raises UnitOver after the end of the unit or any error in it."""
        self._insist()
        try:
            with translated(self._tenant):
                result = await self._connection.execute(statement, parameters)
                return result.all() if result.returns_rows else ()
        except BaseException:
            self._over = True
            raise

    async def change(self, statement: Executable, parameters: Parameters, missing: str) -> None:
        """Runs an UPDATE with RETURNING. Raises NotFound when it found no row."""
        if not await self.rows(statement, parameters):
            self._over = True
            raise NotFound(missing)

    async def __aenter__(self) -> Self:
        with translated(self._tenant):
            self._connection: AsyncConnection = await self._engine.connect()
        self._over = False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed, self._over = self._over, True
        if error is None and not failed:
            await _to_the_end(self._commit())
            return
        await _to_the_end(self._abandon())
        if error is None:
            raise UnitOver("the unit failed and was left as if all were well; nothing was changed")

    def _insist(self) -> None:
        if self._over:
            raise UnitOver("the unit of work is over: it has ended, or an error has ended it")

    async def _commit(self) -> None:
        with translated(self._tenant):
            try:
                await self._connection.commit()
            finally:
                await self._connection.close()

    async def _abandon(self) -> None:
        # What made the block fail is what the caller should hear, not that the server, which
        # forgets the transaction by itself, could not be told.
        with suppress(DBAPIError, OSError):
            try:
                await self._connection.rollback()
            finally:
                await self._connection.close()


async def _to_the_end(step: Coroutine[Any, Any, None]) -> None:
    """Finishes `step` though the caller is cancelled meanwhile, and only then is.

    A COMMIT that was sent cannot be called back: waiting for its answer costs a moment and keeps
    the connection.
    """
    task = asyncio.create_task(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break
    if cancelled is not None and not task.cancelled() and task.exception() is None:
        raise cancelled
    task.result()
