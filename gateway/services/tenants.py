"""Tenants: looked at, by the operator alone. How they come to be is in `onboarding`."""

from __future__ import annotations

from db.contract import Storage
from db.filters import TenantFilter
from db.namespace import prefix_problem
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import Tenant


class TenantService:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def get(self, slug: str) -> Tenant | None:
        """None too for text that can be no slug."""
        if prefix_problem(slug) is not None:
            return None
        return await self._storage.registry.tenants.get(slug)

    async def page(self, request: PageRequest, filter: TenantFilter) -> Page[Tenant]:
        """Raises InvalidCursor."""
        return await self._storage.registry.tenants.page(request, filter)

    async def count(self, filter: TenantFilter) -> int:
        """As for agents."""
        return await self._storage.registry.tenants.count(filter, COUNT_CAP)
