"""PostgreSQL as the storage of everything: the door to the readers and the units of work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

from sqlalchemy.ext.asyncio import AsyncEngine

from db import migrations
from db.contract import JointUnit, TenantReader, Trail, UnitOfWork
from db.errors import Misconfigured, Misused, Unavailable
from db.namespace import TenantPrefix
from db.postgres.agents import PostgresAgentReader, PostgresAgentStore
from db.postgres.audit import PostgresAuditReader, PostgresAuditStore
from db.postgres.connections import Changing, Reading
from db.postgres.credentials import PostgresCredentialReader, PostgresCredentialStore
from db.postgres.engine import name_tenants
from db.postgres.faults import translated
from db.postgres.logins import PostgresLogins
from db.postgres.registry import PostgresRegistryReader, PostgresRegistryUnit, shared_tenant
from db.postgres.revocations import PostgresRevocationReader, PostgresRevocationStore
from db.postgres.trail import PostgresTrail
from db.postgres.upkeep import PostgresUpkeep
from db.records import Tenant
from db.registry import RegistryReader, RegistryUnit
from db.settings import StorageSettings

_READERS = 1024


class PostgresStorage:
    """`db.contract.Storage` over an engine of ours or of the application's (`owns_engine` False:
    its connections are used, its pool is never closed). Raises Misconfigured for a driver other
    than asyncpg."""

    def __init__(
        self, engine: AsyncEngine, settings: StorageSettings, *, owns_engine: bool
    ) -> None:
        if engine.dialect.driver != "asyncpg":
            raise Misconfigured("the engine must be one of postgresql+asyncpg")
        name_tenants(engine)
        self._engine = engine
        self._settings = settings
        self._owns_engine = owns_engine
        # Behind PgBouncer two halves of one statement could reach two servers, unless they are in
        # a transaction. Units say their level too: the engine handed over may commit every
        # statement by itself.
        self._readers = _engine_at(engine, "READ COMMITTED" if settings.pgbouncer else "AUTOCOMMIT")
        self._writers = _engine_at(engine, "READ COMMITTED")
        self._units: set[tuple[asyncio.Task[object] | None, TenantPrefix | None]] = set()
        self._registry = PostgresRegistryReader(Reading(self._readers, None))
        self._logins = PostgresLogins(self._readers)
        # They hold nothing, but binding a tenant to an engine takes as long as some requests do.
        self._read = lru_cache(_READERS)(self._reader)
        self._trail = PostgresTrail(engine, self.unit)
        # Tables belong to the owner role, which an engine handed over knows only if it is that.
        handed_over = not owns_engine and settings.database_owner_url is None
        self._upkeep = PostgresUpkeep(engine if handed_over else settings)

    def read(self, tenant: TenantPrefix) -> TenantReader:
        return self._read(tenant)

    def _reader(self, tenant: TenantPrefix) -> _Reader:
        return _Reader(tenant, Reading(self._readers, tenant), self._logins)

    @asynccontextmanager
    async def unit(self, tenant: TenantPrefix) -> AsyncIterator[UnitOfWork]:
        async with self._changing(tenant) as changing:
            yield _Unit(tenant, changing)

    @asynccontextmanager
    async def joint_unit(self, tenant: TenantPrefix) -> AsyncIterator[JointUnit]:
        async with self._alone(None), self._changing(tenant) as changing:
            yield _JointUnit(tenant, changing)

    @property
    def trail(self) -> Trail:
        return self._trail

    @property
    def registry(self) -> RegistryReader:
        return self._registry

    @asynccontextmanager
    async def registry_unit(self) -> AsyncIterator[RegistryUnit]:
        async with self._changing(None) as changing:
            yield PostgresRegistryUnit(changing)

    @property
    def upkeep(self) -> PostgresUpkeep:
        return self._upkeep

    async def check(self) -> None:
        with translated(None):
            at_head = await migrations.registry_at_head(self._engine)
        if not at_head:
            raise Unavailable("the registry is not at head: run `python -m db migrate`")

    async def close(self) -> None:
        await self._trail.close()
        await self._upkeep.close()
        if self._owns_engine:
            await self._engine.dispose()

    @asynccontextmanager
    async def _changing(self, tenant: TenantPrefix | None) -> AsyncIterator[Changing]:
        async with self._alone(tenant), Changing(self._writers, tenant) as changing:
            yield changing

    @asynccontextmanager
    async def _alone(self, tenant: TenantPrefix | None) -> AsyncIterator[None]:
        unit = (asyncio.current_task(), tenant)
        if unit in self._units:
            # It could wait for ever: for its own locks, or for a connection that it holds itself.
            raise Misused("a unit of work was begun inside another of the same tenant")
        self._units.add(unit)
        try:
            yield
        finally:
            self._units.remove(unit)


class _Reader:
    def __init__(self, tenant: TenantPrefix, reading: Reading, logins: PostgresLogins) -> None:
        self.agents = PostgresAgentReader(tenant, reading)
        self.credentials = PostgresCredentialReader(tenant, reading, logins)
        self.audit = PostgresAuditReader(tenant, reading)
        self.revocations = PostgresRevocationReader(reading)


class _Unit:
    def __init__(self, tenant: TenantPrefix, changing: Changing) -> None:
        self._tenant = tenant
        self._changing = changing
        self.agents = PostgresAgentStore(changing)
        self.credentials = PostgresCredentialStore(changing)
        self.audit = PostgresAuditStore(changing)
        self.revocations = PostgresRevocationStore(changing)

    async def tenant(self) -> Tenant | None:
        return await shared_tenant(self._changing, self._tenant)


class _JointUnit(_Unit):
    def __init__(self, tenant: TenantPrefix, changing: Changing) -> None:
        super().__init__(tenant, changing)
        self.registry = PostgresRegistryUnit(changing)


def _engine_at(engine: AsyncEngine, isolation: str) -> AsyncEngine:
    chosen = engine.execution_options(isolation_level=isolation)
    # Secret hashes are parameters, and the engine handed over may put parameters into its log.
    chosen.sync_engine.hide_parameters = True
    return chosen
