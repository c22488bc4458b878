"""Tenants through GraphQL: the operator onboards them and looks at them, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from db.pages import PageRequest
from tests.gateway import Client
from tests.graphql.asking import Asking


def onboarding(**changes: Any) -> dict[str, Any]:
    return {
        "slug": "globex",
        "displayName": "Globex at work",
        "adminEmail": "root@globex.example",
    } | changes


async def test_an_onboarded_tenant_s_administrator_can_begin_at_once(stored: Asking) -> None:
    payload = await stored.operator.change("onboardTenant", onboarding())
    assert payload["__typename"] == "TenantOnboarded"
    assert payload["tenant"] == {
        "slug": "globex",
        "displayName": "Globex at work",
        "status": "ACTIVE",
    }
    client = Client("globex", payload["clientId"], payload["clientSecret"])
    root = await stored.by(client)
    document = """{
        viewer { email agentType version owner deploymentEnv capabilities }
        agents { totalCount }
        auditEvents { nodes { action agentId } }
    }"""
    data = await root.data(document)
    assert data["viewer"] == {
        "email": "root@globex.example",
        "agentType": "ORCHESTRATOR",
        "version": "1.0.0",
        "owner": "globex",
        "deploymentEnv": "PRODUCTION",
        "capabilities": [
            f"{noun}:{act}"
            for noun in ("agents", "audit", "credentials", "tokens")
            for act in ("read", "write")
        ],
    }
    assert data["agents"] == {"totalCount": 1}
    assert [event["action"] for event in data["auditEvents"]["nodes"]] == [
        "TOKEN_ISSUED", "CREDENTIAL_GENERATED", "AGENT_CREATED",
    ]  # fmt: skip
    events = await stored.running.gateway.storage.registry.operator_events.page(PageRequest())
    assert [(e.action, e.tenant) for e in events.items] == [
        ("tenant.onboarded", "globex"), ("tenant.onboarded", "acme"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"slug": "Globex"}, "slug"),
        ({"slug": "g"}, "slug"),
        ({"slug": "a" * 64}, "slug"),
        ({"slug": 'a"; drop table tenants; --'}, "slug"),
        ({"slug": "pg_globex"}, "slug"),
        ({"slug": "glo__bex"}, "slug"),
        ({"slug": "glo\x00bex"}, "slug"),
        ({"displayName": ""}, "displayName"),
        ({"displayName": "a\x00"}, "displayName"),
        ({"displayName": "a" * 129}, "displayName"),
        ({"adminEmail": "nope"}, "adminEmail"),
    ],
)
async def test_what_is_outside_its_grammar_onboards_nobody(
    stored: Asking, changes: dict[str, str], path: str
) -> None:
    payload = await stored.operator.change("onboardTenant", onboarding(**changes))
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", [path])
    data = await stored.operator.data("{ tenants { nodes { slug } totalCount } }")
    assert data == {"tenants": {"nodes": [{"slug": "acme"}], "totalCount": 1}}


async def test_a_slug_is_given_once(stored: Asking) -> None:
    payload = await stored.operator.change("onboardTenant", onboarding(slug="acme"))
    assert (payload["__typename"], payload["code"]) == ("SlugTaken", "SLUG_TAKEN")
    data = await stored.data("{ viewer { email } agents { totalCount } }")
    assert data == {"viewer": {"email": "admin@acme.example"}, "agents": {"totalCount": 1}}


async def test_the_operator_looks_at_tenants_one_by_one_and_in_pages(stored: Asking) -> None:
    for slug in ("initech", "globex"):
        await stored.operator.change("onboardTenant", onboarding(slug=slug))
    document = """query($slug: String!) { tenant(slug: $slug) {
        slug displayName status revision retentionDays resourceServers createdAt updatedAt } }"""
    tenant = (await stored.operator.data(document, {"slug": "globex"}))["tenant"]
    assert (tenant["slug"], tenant["status"]) == ("globex", "ACTIVE")
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
