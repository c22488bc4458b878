"""Tenants, as the operator finds them."""

from __future__ import annotations

from db.filters import TenantFilter
from db.pages import PageRequest
from db.records import TenantStatus
from tests.gateway import RunningGateway


async def test_tenants_are_found_by_slug_alone(gateway: RunningGateway) -> None:
    await gateway.onboard("acme")
    tenants = gateway.gateway.tenants
    for unknown in ("globex", "ACME", "acme ", "", "a'b", "\x00", "x" * 100):
        assert await tenants.get(unknown) is None
    await gateway.onboard("globex")
    page = await tenants.page(PageRequest(), TenantFilter())
    assert [tenant.slug for tenant in page.items] == ["acme", "globex"]
    failed = TenantFilter(status=(TenantStatus.FAILED,))
    assert await tenants.count(failed) == 0
