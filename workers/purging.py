"""Months of the trail that are older than their tenant's retention are taken away."""

from __future__ import annotations

from datetime import datetime, timedelta

from db.records import Tenant
from workers.state import Report, State
from workers.tenants import each_tenant


async def run(state: State, now: datetime) -> Report:
    """Counts the months that went. A tenant whose trail is being read is reported, and the rest are
    done; what had to wait goes the next time."""

    async def purge(tenant: Tenant) -> int:
        days = tenant.retention_days or state.settings.audit_retention_days
        before = now - timedelta(days=days)
        return len(await state.storage.upkeep.purge(tenant.prefix, before, now))

    return await each_tenant(state, purge)
