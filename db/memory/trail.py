"""Events that stand by themselves, and uses of credentials: in memory no event need be batched."""

from __future__ import annotations

from datetime import datetime

from db.errors import Unavailable
from db.namespace import TenantPrefix
from db.records import AuditEvent, Credential
from db.uses import Unit, Uses


class MemoryTrail:
    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._uses = Uses(unit)
        self._closed = False

    async def append(self, tenant: TenantPrefix, event: AuditEvent) -> None:
        if self._closed:
            raise Unavailable("the storage is closed")
        async with self._unit(tenant) as unit:
            await unit.audit.append(event)

    def used(self, tenant: TenantPrefix, credential: Credential, at: datetime) -> None:
        self._uses.note(tenant, credential, at)

    async def close(self) -> None:
        self._closed = True
        await self._uses.close()
