"""Events that stand by themselves, and uses of credentials, many in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from uuid import UUID

from db.contract import UnitOfWork
from db.namespace import TenantPrefix
from db.records import AuditEvent

Unit = Callable[[TenantPrefix], AbstractAsyncContextManager[UnitOfWork]]


class PostgresTrail:
    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    async def append(self, tenant: TenantPrefix, event: AuditEvent) -> None:
        async with self._unit(tenant) as unit:
            await unit.audit.append(event)

    def used(self, tenant: TenantPrefix, credential_id: UUID, at: datetime) -> None:
        return None

    async def close(self) -> None:
        return None
