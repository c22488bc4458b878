"""Events that stand by themselves, many in one transaction, and uses of credentials.

One batch is on its way at a time, whatever tenants it is of. A tenant whose part of it is refused
is put aside: what it has to say is written in a lane of its own until that is done, and it holds up
nobody else meanwhile, be it that somebody has locked its table or that one event cannot be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncEngine

from db.batching import Batched
from db.errors import TenantNotProvisioned, Unavailable
from db.namespace import TenantPrefix
from db.postgres.audit import Row, row_of
from db.postgres.faults import Busy
from db.postgres.ingest import Ingest, Lost, PartRefused, Parts
from db.records import AuditEvent, Credential
from db.uses import Unit, Uses

_MOST = 500  # in one batch
_ROOM = 10_000
_ROOM_ASIDE = 1_000  # in the lane of one tenant
_LANES = 2  # write at once, so that they leave connections to others
_TRIES = 3

_PATIENCE_MS = 200
# Below the time after which the driver gives up on a statement, and on a server that is silent.
_PATIENCE_ASIDE_MS = 5_000

# A tenant's part has been written, or is to be waited for in its lane.
_Later: TypeAlias = "asyncio.Future[None] | None"
_Lane: TypeAlias = Batched[Row, None]


class PostgresTrail:
    def __init__(self, engine: AsyncEngine, unit: Unit) -> None:
        self._engine = engine
        self._ingest = Ingest(engine, _PATIENCE_MS)
        self._events: Batched[tuple[TenantPrefix, Row], _Later] = Batched(
            self._write, most=_MOST, room=_ROOM, rest=self._ingest.rest
        )
        self._aside: dict[TenantPrefix, _Lane] = {}
        self._lanes = asyncio.Semaphore(_LANES)
        self._uses = Uses(unit)

    async def append(self, tenant: TenantPrefix, event: AuditEvent) -> None:
        row = row_of(event)
        if lane := self._aside.get(tenant):
            await lane.put(row)
        elif later := await self._events.put((tenant, row)):
            await later

    def used(self, tenant: TenantPrefix, credential: Credential, at: datetime) -> None:
        self._uses.note(tenant, credential, at)

    async def close(self) -> None:
        """Writes all that is waiting; `append` raises Unavailable from then on."""
        await self._events.close()
        for lane in [*self._aside.values()]:
            await lane.close()
        await self._ingest.rest()
        await self._uses.close()

    async def _write(
        self, batch: Sequence[tuple[TenantPrefix, Row]]
    ) -> Sequence[_Later | Exception]:
        parts: dict[TenantPrefix, list[Row]] = {}
        for tenant, row in batch:
            parts.setdefault(tenant, []).append(row)
        refused: set[TenantPrefix] = set()
        while parts:
            try:
                await _surely(self._ingest, parts)
                break
            except PartRefused as part:
                refused.add(part.tenant)
                del parts[part.tenant]
        if not refused:
            return [None] * len(batch)
        return [self._later(*each) if each[0] in refused else None for each in batch]

    def _later(self, tenant: TenantPrefix, row: Row) -> _Later | Exception:
        lane = self._aside.get(tenant)
        if lane is None:
            lane = Batched(partial(self._write_aside, tenant), most=_MOST, room=_ROOM_ASIDE)
            self._aside[tenant] = lane
        try:
            future = lane.put(row)
        except Unavailable as full:
            return full
        # Whoever asked may be gone.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def _write_aside(
        self, tenant: TenantPrefix, rows: Sequence[Row]
    ) -> Sequence[Exception | None]:
        try:
            async with self._lanes:
                ingest = Ingest(self._engine, _PATIENCE_ASIDE_MS)
                try:
                    return await _sifted(ingest, tenant, rows)
                finally:
                    await ingest.rest()
        finally:
            if self._aside[tenant].idle:
                del self._aside[tenant]


async def _sifted(
    ingest: Ingest, tenant: TenantPrefix, rows: Sequence[Row]
) -> Sequence[Exception | None]:
    """Writes all but those that cannot be kept, each of which has its own error: halves of what is
    refused are tried, down to the single event."""
    try:
        await _surely(ingest, {tenant: rows})
    except PartRefused as part:
        if isinstance(part.error, (Busy, TenantNotProvisioned)):
            # Nothing that a smaller part could change.
            raise part.error from None
        if len(rows) == 1:
            return [part.error]
        half = len(rows) // 2
        return [
            *await _sifted(ingest, tenant, rows[:half]),
            *await _sifted(ingest, tenant, rows[half:]),
        ]
    return [None] * len(rows)


async def _surely(ingest: Ingest, parts: Parts) -> None:
    """`append`, repeated while it ends without a word."""
    for left in reversed(range(_TRIES)):
        try:
            await ingest.append(parts)
            return
        except Lost:
            if not left:
                raise
