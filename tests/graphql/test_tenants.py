"""Tenants through GraphQL: the operator looks at them, and nobody else."""

from __future__ import annotations

import pytest

from tests.graphql.asking import Asking


async def test_the_operator_looks_at_tenants_one_by_one_and_in_pages(stored: Asking) -> None:
    for slug in ("initech", "globex"):
        await stored.running.onboard(slug)
    document = """query($slug: String!) { tenant(slug: $slug) {
        slug displayName status statusReason revision retentionDays resourceServers
        createdAt updatedAt } }"""
    tenant = (await stored.operator.data(document, {"slug": "globex"}))["tenant"]
    assert (tenant["slug"], tenant["status"]) == ("globex", "ACTIVE")
    assert tenant["statusReason"] is None
    assert (tenant["retentionDays"], tenant["resourceServers"]) == (None, [])
    assert tenant["revision"]
    pages = """query($after: String) { tenants(first: 2, after: $after) {
        nodes { slug } pageInfo { hasNextPage endCursor } totalCount } }"""
    first = (await stored.operator.data(pages))["tenants"]
    assert first["nodes"] == [{"slug": "acme"}, {"slug": "globex"}]
    assert (first["pageInfo"]["hasNextPage"], first["totalCount"]) == (True, 3)
    after = first["pageInfo"]["endCursor"]
    second = (await stored.operator.data(pages, {"after": after}))["tenants"]
    assert second["nodes"] == [{"slug": "initech"}]
    filtered = "{ tenants(filter: {status: {in: [FAILED, SUSPENDED]}}) { totalCount } }"
    assert (await stored.operator.data(filtered))["tenants"] == {"totalCount": 0}


@pytest.mark.parametrize("slug", ["unknown", "", "NOPE", "a\x00b", "pg_x", "' or 1=1 --"])
async def test_a_tenant_that_cannot_be_is_nobody(stored: Asking, slug: str) -> None:
    document = "query($slug: String!) { tenant(slug: $slug) { slug } }"
    assert await stored.operator.data(document, {"slug": slug}) == {"tenant": None}
