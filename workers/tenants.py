"""The same for every tenant: one that fails is reported, and the rest are done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from db.contract import Storage
from db.errors import AgentIdPError
from db.filters import TenantFilter
from db.pages import MAX_PAGE, PageRequest
from db.records import Tenant, TenantStatus
from workers.state import Report, State

WITH_TABLES = TenantFilter(
    status=(TenantStatus.ACTIVE, TenantStatus.SUSPENDED, TenantStatus.REMOVING)
)
_log = structlog.get_logger(__name__)


async def each_tenant(state: State, act: Callable[[Tenant], Awaitable[int]]) -> Report:
    """Calls `act` for each tenant whose tables stand; it answers how much it changed."""
    total = await state.storage.registry.tenants.count(WITH_TABLES)
    seen = changed = 0
    failures: dict[str, str] = {}
    async for tenant in tenants(state.storage):
        try:
            changed += await act(tenant)
        except AgentIdPError as error:
            _log.warning(
                "not done for a tenant",
                job=state.work.job,
                tenant=tenant.slug,
                reason=error.message,
            )
            failures[tenant.slug] = error.message
        seen += 1
        state.advance(seen, max(seen, total))
    return Report(seen, changed, failures)


async def tenants(storage: Storage, filter: TenantFilter = WITH_TABLES) -> AsyncIterator[Tenant]:
    """By slug; one that is added meanwhile may be among them."""
    after = None
    while True:
        page = await storage.registry.tenants.page(PageRequest(first=MAX_PAGE, after=after), filter)
        for tenant in page.items:
            yield tenant
        if not page.has_next_page:
            return
        after = page.cursors[-1]
