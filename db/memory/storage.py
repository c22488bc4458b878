"""The whole of storage in memory: the registry, and each tenant's own tables and turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from db.errors import TenantNotProvisioned
from db.memory.agents import MemoryAgents, MemoryAgentStore
from db.memory.audit import MemoryAudit, MemoryAuditStore
from db.memory.credentials import MemoryCredentials, MemoryCredentialStore
from db.memory.registry import MemoryRegistry, MemoryRegistryUnit
from db.memory.revocations import MemoryRevocations, MemoryRevocationStore
from db.memory.tables import Tables
from db.memory.trail import MemoryTrail
from db.memory.units import Life
from db.memory.upkeep import MemoryUpkeep
from db.namespace import TenantPrefix
from db.records import Tenant


class MemoryReader:
    """Asks for the tenant's tables at each use: it may be made before they are."""

    def __init__(self, storage: MemoryStorage, tenant: TenantPrefix) -> None:
        self._storage = storage
        self._tenant = tenant

    @property
    def agents(self) -> MemoryAgents:
        return MemoryAgents(self._tenant, self._storage.tables(self._tenant).agents)

    @property
    def credentials(self) -> MemoryCredentials:
        tables = self._storage.tables(self._tenant)
        return MemoryCredentials(self._tenant, tables.credentials, tables.agents)

    @property
    def audit(self) -> MemoryAudit:
        return MemoryAudit(self._tenant, self._storage.tables(self._tenant).audit)

    @property
    def revocations(self) -> MemoryRevocations:
        tables = self._storage.tables(self._tenant)
        return MemoryRevocations(tables.revocations, tables.agents, tables.credentials)


class MemoryUnit:
    def __init__(
        self, tenant: TenantPrefix, tables: Tables, registry: MemoryRegistry, life: Life
    ) -> None:
        self._tenant = tenant
        self._registry = registry
        self._life = life
        self.agents = MemoryAgentStore(tables.agents, life)
        self.credentials = MemoryCredentialStore(tables.credentials, self.agents, life)
        self.audit = MemoryAuditStore(tables.audit, life)
        self.revocations = MemoryRevocationStore(
            tables.revocations, self.agents, self.credentials, life
        )

    async def tenant(self) -> Tenant | None:
        self._life.go_on()
        return await self._registry.tenants.get(self._tenant.value)

    def keep(self) -> None:
        """Without an await: whoever reads next sees all of it."""
        self.agents.keep()
        self.credentials.keep()
        self.audit.keep()
        self.revocations.keep()


class MemoryJointUnit(MemoryUnit):
    def __init__(
        self, tenant: TenantPrefix, tables: Tables, registry: MemoryRegistry, life: Life
    ) -> None:
        super().__init__(tenant, tables, registry, life)
        # One life for both: an error of either side ends the other, too.
        self.registry = MemoryRegistryUnit(registry, life)

    async def tenant(self) -> Tenant | None:
        """As this unit has left it, and not as others still see it."""
        return await self.registry.tenants.get(self._tenant.value)

    def keep(self) -> None:
        super().keep()
        self.registry.keep()


class MemoryStorage:
    def __init__(self) -> None:
        self._tenants: dict[TenantPrefix, Tables] = {}
        self._registry = MemoryRegistry()
        self._trail = MemoryTrail(self.unit)

    def read(self, tenant: TenantPrefix) -> MemoryReader:
        return MemoryReader(self, tenant)

    @asynccontextmanager
    async def unit(self, tenant: TenantPrefix) -> AsyncIterator[MemoryUnit]:
        async with self._turn(tenant) as (tables, life):
            unit = MemoryUnit(tenant, tables, self._registry, life)
            yield unit
            life.go_on()
            unit.keep()

    @asynccontextmanager
    async def joint_unit(self, tenant: TenantPrefix) -> AsyncIterator[MemoryJointUnit]:
        async with self._registry.turn(), self._turn(tenant) as (tables, life):
            unit = MemoryJointUnit(tenant, tables, self._registry, life)
            yield unit
            life.go_on()
            unit.keep()

    @asynccontextmanager
    async def _turn(self, tenant: TenantPrefix) -> AsyncIterator[tuple[Tables, Life]]:
        tables = self.tables(tenant)
        async with tables.turns.take() as life:
            if self._tenants.get(tenant) is not tables:
                # Dropped while this unit waited for its turn.
                raise TenantNotProvisioned(f"the tables of the tenant {tenant} are gone")
            yield tables, life

    @property
    def trail(self) -> MemoryTrail:
        return self._trail

    @property
    def registry(self) -> MemoryRegistry:
        return self._registry

    def registry_unit(self) -> AbstractAsyncContextManager[MemoryRegistryUnit]:
        return self._registry.unit()

    def tables(self, tenant: TenantPrefix) -> Tables:
        """Raises TenantNotProvisioned."""
        tables = self._tenants.get(tenant)
        if tables is None:
            raise TenantNotProvisioned(f"the tenant {tenant} was never provisioned")
        return tables

    @property
    def upkeep(self) -> MemoryUpkeep:
        return MemoryUpkeep(self._tenants, self._registry)

    async def check(self) -> None:
        """A process that can ask has its memory."""

    async def close(self) -> None:
        await self._trail.close()
