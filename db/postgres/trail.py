"""Events that stand by themselves, and uses of credentials, many in one transaction."""

from __future__ import annotations

from datetime import datetime

from db.namespace import TenantPrefix
from db.records import AuditEvent, Credential
from db.uses import Unit, Uses


class PostgresTrail:
    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._uses = Uses(unit)

    async def append(self, tenant: TenantPrefix, event: AuditEvent) -> None:
        async with self._unit(tenant) as unit:
            await unit.audit.append(event)

    def used(self, tenant: TenantPrefix, credential: Credential, at: datetime) -> None:
        self._uses.note(tenant, credential, at)

    async def close(self) -> None:
        await self._uses.close()
