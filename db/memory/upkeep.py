"""What is done to the tables themselves, in memory, where they have months and no shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from db.clock import event_id
from db.digests import digest_of
from db.errors import TenantNotProvisioned
from db.memory.audit import AuditEvents
from db.memory.registry import MemoryRegistry
from db.memory.tables import Tables
from db.months import following, is_over
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
        await self.ensure_months(tenant, now)
        return REVISION

    async def migrate(self, now: datetime, advance: Advance) -> Summary:
        return Summary(())

    async def ensure_months(self, tenant: TenantPrefix, now: datetime) -> Sequence[str]:
        return [tenant.audit_partition(month) for month in self._tables(tenant).audit.extend(now)]

    async def purge(self, tenant: TenantPrefix, before: datetime, now: datetime) -> Sequence[Purge]:
        trail = self._tables(tenant).audit
        return [
            self._purge(tenant, trail, month, before, now)
            for month in [*trail.months]
            if is_over(month, before)
        ]

    async def sweep_revocations(self, tenant: TenantPrefix, before: datetime) -> int:
        revoked = self._tables(tenant).revocations
        ended = [each.jti for each in revoked.values() if each.expires_at < before]
        for jti in ended:
            del revoked[jti]
        return len(ended)

    async def drop(self, tenant: TenantPrefix, due: datetime | None = None) -> None:
        # There is no clock here but the caller's.
        tables = self._tenants.get(tenant)
        if tables is not None:
            async with tables.turns.take():
                self._tenants.pop(tenant, None)

    async def kind(self) -> str:
        return "memory"

    def _purge(
        self,
        tenant: TenantPrefix,
        trail: AuditEvents,
        month: datetime,
        before: datetime,
        now: datetime,
    ) -> Purge:
        """Without an await: the month goes and its line is there, or neither."""
        first = not any(purge.tenant == str(tenant) for purge in self._registry.purge_rows.every())
        gone = trail.cut(month)
        purge = Purge(
            purge_id=event_id(now),
            tenant=str(tenant),
            partition=tenant.audit_partition(month),
            lower=None if first else month,
            upper=following(month),
            before=before,
            events=len(gone),
            digest=digest_of(month, (event.event_id for event in gone)),
            purged_at=now,
        )
        self._registry.purge_rows.put(purge)
        return purge

    def _tables(self, tenant: TenantPrefix) -> Tables:
        tables = self._tenants.get(tenant)
        if tables is None:
            raise TenantNotProvisioned(f"the tenant {tenant} was never provisioned")
        return tables
