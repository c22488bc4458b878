"""Months of the audit trail, made before they begin, for every tenant that has tables."""

from __future__ import annotations

from datetime import datetime

from db.records import Tenant
from workers.state import Report, State
from workers.tenants import each_tenant


async def run(state: State, now: datetime) -> Report:
    """One transaction for each tenant: one that is blocked is reported, and the rest are done."""

    async def ensure(tenant: Tenant) -> int:
        return len(await state.storage.upkeep.ensure_months(tenant.prefix, now))

    return await each_tenant(state, ensure)
