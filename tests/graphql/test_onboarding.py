"""Onboarding through GraphQL: answered at once, followed by `tenant`, and repeated without harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from db.pages import PageRequest
from tests.db.postgres import execute
from tests.gateway import Client, postgres_settings, running
from tests.graphql.asking import Asking
from tests.servers.databases import Database

STATUS = "query($slug: String!) { tenant(slug: $slug) { status statusReason } }"


def onboarding(**changes: Any) -> dict[str, Any]:
    return {
        "slug": "globex",
        "displayName": "Globex at work",
        "adminEmail": "root@globex.example",
    } | changes


@pytest.fixture
async def on_postgres(
    empty_database: Database, redis_url: str, redis: Redis
) -> AsyncIterator[Asking]:
    """For what the test does to the database behind the gateway's back."""
    async with running(postgres_settings(empty_database, redis_url)) as started:
        admin = await started.onboard("acme")
        yield Asking(started, admin, await started.token(admin))


async def standing(asking: Asking, slug: str = "globex") -> tuple[str, str | None]:
    tenant = (await asking.operator.data(STATUS, {"slug": slug}))["tenant"]
    return tenant["status"], tenant["statusReason"]


async def test_an_onboarded_tenant_s_administrator_can_begin_at_once(stored: Asking) -> None:
    payload = await stored.operator.change("onboardTenant", onboarding())
    assert payload["__typename"] == "TenantOnboarded"
    assert payload["tenant"] == {
        "slug": "globex",
        "displayName": "Globex at work",
        "status": "PROVISIONING",
    }
    status = '{ tenant(slug: "globex") { status statusReason } }'
    assert await stored.operator.data(status) == {
        "tenant": {"status": "ACTIVE", "statusReason": None}
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
        ("tenant.provisioned", "globex"), ("tenant.onboarded", "globex"),
        ("tenant.provisioned", "acme"), ("tenant.onboarded", "acme"),
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


async def test_the_answer_comes_first_and_the_tables_afterwards(stored: Asking) -> None:
    queue = stored.running.queue
    with queue.held():
        payload = await stored.operator.change("onboardTenant", onboarding())
        assert payload["tenant"]["status"] == "PROVISIONING"
        assert payload["clientSecret"].startswith("sk_live_")
        assert await standing(stored) == ("PROVISIONING", None)
        await queue.run()
        assert await standing(stored) == ("ACTIVE", None)


async def test_a_repetition_has_the_same_answer_without_the_secret(stored: Asking) -> None:
    said = onboarding(idempotencyKey=str(uuid4()))
    first = await stored.operator.change("onboardTenant", said)

    again = await stored.operator.change("onboardTenant", said)

    assert again == {
        **first,
        "tenant": {**first["tenant"], "status": "ACTIVE"},
        "clientSecret": None,
    }
    data = await stored.operator.data("{ tenants { nodes { slug } } }")
    assert data == {"tenants": {"nodes": [{"slug": "acme"}, {"slug": "globex"}]}}


async def test_a_key_of_another_request_is_refused_by_its_name(stored: Asking) -> None:
    key = str(uuid4())
    await stored.operator.change("onboardTenant", onboarding(idempotencyKey=key))

    payload = await stored.operator.change(
        "onboardTenant", onboarding(slug="initech", idempotencyKey=key)
    )

    assert (payload["__typename"], payload["code"], payload["path"]) == (
        "IdempotencyKeyReused",
        "IDEMPOTENCY_KEY_REUSED",
        ["idempotencyKey"],
    )
    document = "{ tenants { nodes { slug } } }"
    data = await stored.operator.data(document)
    assert data == {"tenants": {"nodes": [{"slug": "acme"}, {"slug": "globex"}]}}


async def test_a_key_may_be_left_out_in_either_way_and_is_no_other_word(asking: Asking) -> None:
    operator = asking.operator
    for slug, said in (("globex", {}), ("initech", {"idempotencyKey": None})):
        payload = await operator.change("onboardTenant", onboarding(slug=slug, **said))
        assert payload["clientSecret"]
    refused = await operator.denied(
        "onboardTenant", onboarding(slug="umbrella", idempotencyKey="tuesday")
    )
    assert refused["code"] == "BAD_USER_INPUT"
    assert await operator.data(STATUS, {"slug": "umbrella"}) == {"tenant": None}


async def test_what_cannot_be_made_is_seen_to_have_failed_and_may_be_asked_for_again(
    on_postgres: Asking, empty_database: Database
) -> None:
    await execute(empty_database, "CREATE TABLE globex_credentials (x int)")
    first = await on_postgres.operator.change("onboardTenant", onboarding())

    assert first["tenant"]["status"] == "PROVISIONING"
    status, reason = await standing(on_postgres)
    assert status == "FAILED"
    assert reason is not None
    assert "globex_credentials" in reason
    # The next tenant is none the worse for it, nor is this one once nothing is in the way.
    assert await on_postgres.running.token(await on_postgres.running.onboard("initech"))
    await execute(empty_database, "DROP TABLE globex_credentials")
    second = await on_postgres.operator.change("onboardTenant", onboarding())

    assert await standing(on_postgres) == ("ACTIVE", None)
    assert second["clientId"] != first["clientId"]
    client = Client("globex", second["clientId"], second["clientSecret"])
    assert await on_postgres.running.token(client)
