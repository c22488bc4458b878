"""Tenants through GraphQL: the operator looks at them, stops them and helps them, and nobody
else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from db.records import JSONObject
from tests.gateway import Client, postgres_settings, running
from tests.graphql.asking import Asking
from tests.servers.databases import Database

NOBODY = [{"slug": slug} for slug in ("unknown", "", "NOPE", "a\x00b", "pg_x", "' or 1=1 --")]
ACTS = (
    "updateTenant",
    "suspendTenant",
    "reactivateTenant",
    "removeTenant",
    "resetTenantAdministrator",
)


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


async def test_a_tenant_s_name_and_retention_are_changed_one_by_one(stored: Asking) -> None:
    operator, acme = stored.operator, {"slug": "acme"}
    shown: JSONObject = {"slug": "acme", "displayName": "acme at work", "retentionDays": None}
    changes: list[JSONObject] = [
        {"retentionDays": 30}, {"displayName": "Acme & Söhne"}, {"retentionDays": None}, {},
    ]  # fmt: skip
    for said in changes:
        payload = await operator.change("updateTenant", acme | said)
        shown |= said
        assert payload == {"__typename": "TenantUpdated", "tenant": shown}


@pytest.mark.parametrize(
    "said", [{"retentionDays": 0}, {"retentionDays": -1}, {"retentionDays": 36_501},
             {"displayName": ""}, {"displayName": "x" * 129}, {"displayName": "a\x00b"},
             {"displayName": None}, {"resourceServers": None}]
)  # fmt: skip
async def test_what_a_tenant_cannot_be_given_changes_nothing(
    stored: Asking, said: dict[str, object]
) -> None:
    payload = await stored.operator.change("updateTenant", {"slug": "acme", **said})
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", list(said))
    payload = await stored.operator.change("updateTenant", {"slug": "acme"})
    assert payload["tenant"] == {
        "slug": "acme", "displayName": "acme at work", "retentionDays": None,
    }  # fmt: skip


async def test_a_tenant_is_suspended_and_brought_back(stored: Asking) -> None:
    operator, acme = stored.operator, {"slug": "acme"}
    payload = await operator.change("suspendTenant", acme | {"reason": "unpaid"})
    assert payload == {
        "__typename": "TenantSuspended",
        "tenant": {
            "slug": "acme", "status": "SUSPENDED", "statusReason": "unpaid", "removesAt": None,
        },
    }  # fmt: skip
    answer = await stored.post({"query": "{ viewer { agentId } }"})
    assert answer.status_code == 401
    payload = await operator.change("suspendTenant", acme)
    assert (payload["__typename"], payload["code"], payload["path"]) == (
        "InvalidTransition", "INVALID_TRANSITION", ["slug"],
    )  # fmt: skip
    payload = await operator.change("reactivateTenant", acme)
    assert payload["__typename"] == "TenantReactivated"
    assert payload["tenant"]["status"] == "ACTIVE"
    assert payload["tenant"]["statusReason"] is None
    assert (await operator.change("reactivateTenant", acme))["__typename"] == "InvalidTransition"
    again = await stored.by(stored.admin)
    assert await again.data("{ viewer { agentId } }")


async def test_a_tenant_that_is_removed_says_until_when_it_can_be_brought_back(
    stored: Asking,
) -> None:
    operator, due = stored.operator, stored.running.clock.now + timedelta(hours=168)
    payload = await operator.change("removeTenant", {"slug": "acme", "reason": "left"})
    assert payload == {
        "__typename": "TenantRemovalRequested",
        "tenant": {
            "slug": "acme",
            "status": "REMOVING",
            "statusReason": "left",
            "removesAt": due.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
    payload = await operator.change("reactivateTenant", {"slug": "acme"})
    assert payload["tenant"] == {
        "slug": "acme", "status": "ACTIVE", "statusReason": None, "removesAt": None,
    }  # fmt: skip


async def test_the_administrator_s_new_secret_lets_it_in(stored: Asking) -> None:
    payload = await stored.operator.change("resetTenantAdministrator", {"slug": "acme"})
    assert payload["__typename"] == "TenantAdministratorReset"
    assert (payload["tenant"]["slug"], payload["clientId"]) == ("acme", stored.admin.client_id)
    again = await stored.by(Client("acme", payload["clientId"], payload["clientSecret"]))
    assert (await again.data("{ viewer { email } }"))["viewer"] == {"email": "admin@acme.example"}
    assert (await stored.post({"query": "{ viewer { agentId } }"})).status_code == 401


async def test_a_new_administrator_needs_an_address_that_nobody_has_had(stored: Asking) -> None:
    await stored.change("decommissionAgent", {"agentId": stored.admin.client_id})
    operator = stored.operator
    for email, kind in ((None, "InvalidInput"), ("nope", "InvalidInput"), ("", "InvalidInput"),
                        ("admin@acme.example", "EmailTaken")):  # fmt: skip
        payload = await operator.change(
            "resetTenantAdministrator", {"slug": "acme", "adminEmail": email}
        )
        assert (payload["__typename"], payload["path"]) == (kind, ["adminEmail"])
    payload = await operator.change(
        "resetTenantAdministrator", {"slug": "acme", "adminEmail": "second@acme.example"}
    )
    again = await stored.by(Client("acme", payload["clientId"], payload["clientSecret"]))
    assert (await again.data("{ viewer { email } }"))["viewer"] == {"email": "second@acme.example"}


@pytest.mark.parametrize("input", NOBODY, ids=lambda input: repr(input["slug"]))
@pytest.mark.parametrize("mutation", ACTS)
async def test_what_is_no_tenant_is_not_found(
    asking: Asking, mutation: str, input: dict[str, Any]
) -> None:
    payload = await asking.operator.change(mutation, input)
    assert (payload["__typename"], payload["path"]) == ("NotFound", ["slug"])


@pytest.mark.parametrize("mutation", ["suspendTenant", "removeTenant"])
async def test_a_reason_has_its_bounds(asking: Asking, mutation: str) -> None:
    for reason in ("x" * 501, "a\x00"):
        payload = await asking.operator.change(mutation, {"slug": "acme", "reason": reason})
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["reason"])
    assert (await asking.data("{ viewer { agentId } }"))["viewer"]


async def test_when_many_tenants_go_is_one_question(
    empty_database: Database, redis_url: str
) -> None:
    async with running(postgres_settings(empty_database, redis_url)) as started:
        admin = await started.onboard("acme")
        operator = Asking(started, admin).operator
        for slug in ("globex", "initech", "umbrella"):
            await started.onboard(slug)
            await operator.change("removeTenant", {"slug": slug})
        sent: list[str] = []

        def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            sent.append(statement)

        event.listen(Engine, "before_cursor_execute", keep)
        data = await operator.data("{ tenants { nodes { slug removesAt } } }")
        event.remove(Engine, "before_cursor_execute", keep)
    gone = {each["slug"]: each["removesAt"] is not None for each in data["tenants"]["nodes"]}
    assert gone == {"acme": False, "globex": True, "initech": True, "umbrella": True}
    assert len([each for each in sent if "FROM work" in each]) == 1
