"""Months of the audit trail, made before they begin, for every tenant that has tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import structlog

from db.contract import Storage
from db.errors import AgentIdPError
from db.filters import TenantFilter
from db.migrations import ensure_partitions
from db.pages import MAX_PAGE, PageRequest
from db.records import Tenant, TenantStatus
from workers.state import Report, State

_WITH_TABLES = TenantFilter(status=(TenantStatus.ACTIVE, TenantStatus.SUSPENDED))
_log = structlog.get_logger(__name__)


async def run(state: State, now: datetime) -> Report:
    """One transaction for each tenant: one that is blocked is reported, and the rest are done."""
    seen = changed = 0
    failures = []
    async for tenant in _tenants(state.storage):
        seen += 1
        try:
            made = await ensure_partitions(state.settings, tenant.prefix, now)
        except AgentIdPError as error:
            _log.warning("partitions not made", tenant=tenant.slug, reason=error.message)
            failures.append(tenant.slug)
        else:
            changed += len(made)
    return Report(seen, changed, tuple(failures))


async def _tenants(storage: Storage) -> AsyncIterator[Tenant]:
    after = None
    while True:
        page = await storage.registry.tenants.page(
            PageRequest(first=MAX_PAGE, after=after), _WITH_TABLES
        )
        for tenant in page.items:
            yield tenant
        if not page.has_next_page:
            return
        after = page.cursors[-1]
