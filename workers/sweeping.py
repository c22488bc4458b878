"""Revocations of tokens that have ended, and idempotency keys that are over, are forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from db.records import Tenant
from workers.state import Report, State
from workers.tenants import each_tenant

# What a clock may be behind: a token that has ended here is refused everywhere by then.
_LEEWAY = timedelta(hours=1)


async def run(state: State, now: datetime) -> Report:
    """Counts the rows that went. One tenant that fails is reported, and the rest are done."""

    async def sweep(tenant: Tenant) -> int:
        return await state.storage.upkeep.sweep_revocations(tenant.prefix, now - _LEEWAY)

    report = await each_tenant(state, sweep)
    async with state.storage.registry_unit() as unit:
        over = await unit.idempotency.sweep(now)
    return replace(report, changed=report.changed + over)
