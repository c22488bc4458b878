"""What is done to the tables themselves, in memory, where they have neither shape nor months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from db.memory.registry import MemoryRegistry
from db.memory.tables import Tables
from db.namespace import TenantPrefix
from db.records import Purge
from db.upkeep import Advance, Summary

REVISION = "memory"


class MemoryUpkeep:
    def __init__(self, tenants: dict[TenantPrefix, Tables], registry: MemoryRegistry) -> None:
        self._tenants = tenants
        self._registry = registry

    async def provision(self, tenant: TenantPrefix, now: datetime) -> str:
        if tenant not in self._tenants:
            self._tenants[tenant] = Tables()
        return REVISION

    async def migrate(self, now: datetime, advance: Advance) -> Summary:
        return Summary(())

    async def ensure_months(self, tenant: TenantPrefix, now: datetime) -> Sequence[str]:
        return ()

    async def purge(self, tenant: TenantPrefix, before: datetime, now: datetime) -> Sequence[Purge]:
        raise NotImplementedError

    async def sweep_revocations(self, tenant: TenantPrefix, before: datetime) -> int:
        raise NotImplementedError

    async def drop(self, tenant: TenantPrefix) -> None:
        tables = self._tenants.get(tenant)
        if tables is not None:
            async with tables.turns.take():
                self._tenants.pop(tenant, None)

    async def kind(self) -> str:
        return "memory"
