"""Resource servers: registered by the operator, named by `resource`, and then the audience
(RFC 8707)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt
import pytest

from db.pages import PageRequest
from db.records import AuditAction, OperatorEvent
from tests.gateway import OPERATOR_TOKEN, PUBLIC_URL, RunningGateway
from tests.oauth.asking import GRANT, Asking, error_of

ISSUER = f"{PUBLIC_URL}/t/acme"
API, FILES = "https://api.example.com/", "https://files.example.com/v1?region=eu"
UPDATE = """
mutation($input: UpdateTenantInput!) { updateTenant(input: $input) {
  __typename
  ... on TenantUpdated { tenant { resourceServers } }
  ... on UserError { code message path }
} }"""


async def register(gateway: RunningGateway, servers: object, slug: str = "acme") -> dict[str, Any]:
    """By the operator."""
    said = {"slug": slug, "resourceServers": servers}
    body = await gateway.graphql(UPDATE, {"input": said}, OPERATOR_TOKEN)
    payload: dict[str, Any] = body["data"]["updateTenant"]
    return payload


async def registered(gateway: RunningGateway, slug: str = "acme") -> tuple[str, ...]:
    tenant = await gateway.gateway.storage.registry.tenants.get(slug)
    assert tenant is not None
    return tenant.resource_servers


async def operator_events(gateway: RunningGateway) -> list[OperatorEvent]:
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest())
    return list(page.items)


async def audience(asking: Asking, *resources: str) -> Any:
    """The `aud` of a token for these, or the error."""
    answer = await asking.token([*GRANT.items(), *(("resource", each) for each in resources)])
    if answer.status_code != 200:
        return error_of(answer)
    token = answer.json()["access_token"]
    return jwt.decode(token, options={"verify_signature": False})["aud"]


async def test_what_the_operator_registers_can_be_asked_for_at_once(stored: Asking) -> None:
    gateway = stored.running
    assert await audience(stored, API) == (400, "invalid_target")
    payload = await register(gateway, [API, FILES, "urn:example:billing"])
    assert payload["tenant"]["resourceServers"] == [API, FILES, "urn:example:billing"]
    assert await registered(gateway) == (API, FILES, "urn:example:billing")
    event = (await operator_events(gateway))[0]
    assert (event.action, event.tenant) == ("tenant.updated", "acme")
    assert event.metadata["resourceServers"] == [API, FILES, "urn:example:billing"]

    assert await audience(stored) == ISSUER
    assert await audience(stored, API) == API
    assert await audience(stored, "urn:example:billing", API) == ["urn:example:billing", API]
    assert await audience(stored, API, API) == API
    assert await audience(stored, ISSUER, FILES) == [ISSUER, FILES]


async def test_a_name_is_compared_as_it_is_written(asking: Asking) -> None:
    """Two that mean the same to a browser are two (RFC 8707 §2 names a URI, RFC 3986 §6.2.1)."""
    await register(asking.running, [API])
    for other in ("https://api.example.com", "https://API.example.com/", "HTTPS://api.example.com/",
                  "https://api.example.com:443/", "https://api.example.com/#", f"{API}#x",
                  f"{API}x", "https://api.example.com/.", "//api.example.com/", "/", f" {API}",
                  f"{API}?", "https://api.example.com/%2e"):  # fmt: skip
        assert await audience(asking, other) == (400, "invalid_target")
        assert await audience(asking, API, other) == (400, "invalid_target")
    assert await audience(asking, API) == API


async def test_all_of_them_are_said_each_time_and_nothing_else_is_changed(
    stored: Asking,
) -> None:
    gateway = stored.running
    await register(gateway, [API])
    before = await gateway.gateway.storage.registry.tenants.get("acme")
    assert before is not None
    events = await operator_events(gateway)
    assert (await register(gateway, [API]))["tenant"] == {"resourceServers": [API]}
    assert await operator_events(gateway) == events
    assert await gateway.gateway.storage.registry.tenants.get("acme") == before
    assert (await register(gateway, [FILES]))["tenant"] == {"resourceServers": [FILES]}
    assert await audience(stored, API) == (400, "invalid_target")
    assert (await register(gateway, []))["tenant"] == {"resourceServers": []}
    assert await registered(gateway) == ()


async def test_one_tenant_s_are_no_other_s(stored: Asking) -> None:
    await stored.running.onboard("globex")
    await register(stored.running, [API], "globex")
    assert await registered(stored.running) == ()
    assert await audience(stored, API) == (400, "invalid_target")


async def test_a_token_for_one_that_is_taken_away_is_good_until_it_ends(stored: Asking) -> None:
    await register(stored.running, [API])
    answer = await stored.token({**GRANT, "resource": API})
    token = answer.json()["access_token"]
    await register(stored.running, [])
    assert await stored.active(token)
    stored.running.clock.advance(timedelta(hours=1).total_seconds())
    assert not await stored.active(token)


async def test_a_token_for_another_server_opens_nothing_here(stored: Asking) -> None:
    await register(stored.running, [API])
    answer = await stored.token({**GRANT, "resource": API})
    token = answer.json()["access_token"]
    body = await stored.running.graphql("{ viewer { agentId } }", token=token)
    assert body["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert error_of(await stored.introspect(token, authorization=f"Bearer {token}")) == (
        401, "invalid_token",
    )  # fmt: skip
    # One that is for both does.
    both = await stored.token([*GRANT.items(), ("resource", API), ("resource", ISSUER)])
    body = await stored.running.graphql("{ viewer { agentId } }", token=both.json()["access_token"])
    assert body["data"]["viewer"] == {"agentId": stored.admin.client_id}


@pytest.mark.parametrize(
    "wrong",
    [
        "api.example.com",
        "/v1",
        "//api.example.com/",
        "https:",
        "https://",
        "https:///v1",
        "https://api.example.com/#",
        f"{API}#fragment",
        f" {API}",
        f"{API} ",
        f"{API}\n",
        f"{API}\x00",
        "https://user@api.example.com/",
        "https://user:secret@api.example.com/",
        "https://api.example.com/ä",
        "https://api.example.com/%",
        "https://api.example.com/%zz",
        "https://api.example.com/a b",
        "https://api.example.com:port/",
        "https://[::1/",
        "https://api.example.com/<x>",
        'https://api.example.com/"',
        "https://api.example.com/\\",
        "1https://api.example.com/",
        ":x",
        "",
        "https://api.example.com/".ljust(513, "x"),
        ISSUER,
        f"{ISSUER}/v1",
        f"{PUBLIC_URL}/t/globex",
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_what_is_no_resource_server_changes_nothing(asking: Asking, wrong: str) -> None:
    """A fragment, a relative reference, a password in it; and whatever is an issuer of ours."""
    await register(asking.running, [FILES])
    events = await operator_events(asking.running)
    for servers in ([wrong], [API, wrong]):
        payload = await register(asking.running, servers)
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["resourceServers"])
        assert "secret" not in payload["message"]
    assert await registered(asking.running) == (FILES,)
    assert await operator_events(asking.running) == events


async def test_too_many_and_two_of_the_same_change_nothing(asking: Asking) -> None:
    many = [f"urn:x:{number}" for number in range(65)]
    for servers in (many, [API, FILES, API]):
        payload = await register(asking.running, servers)
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["resourceServers"])
    assert await registered(asking.running) == ()
    assert (await register(asking.running, many[:64]))["__typename"] == "TenantUpdated"
    assert await audience(asking, *many[:64]) == many[:64]


@pytest.mark.parametrize(
    "sound",
    [
        "https://api.example.com",
        "https://api.example.com:8443/v1/",
        "https://[2001:db8::1]/",
        "http://localhost:9000",
        "urn:example:api",
        "spiffe://example.org/ns/billing",
        "api://billing",
        "tag:example.com,2026:api",
        "https://api.example.com/a%20b;c=d,e/'(x)*!$&@:~",
        "https://api.example.com/?x=/y?z",
        "mcp+https://tools.example.com/sse",
        "x:y",
        "https://api.example.com/".ljust(512, "x"),
    ],
    ids=lambda value: value[:40],
)
async def test_any_absolute_uri_may_be_one(asking: Asking, sound: str) -> None:
    payload = await register(asking.running, [sound])
    assert payload["__typename"] == "TenantUpdated", payload
    assert await audience(asking, sound) == sound


async def test_a_refused_resource_is_in_the_trail_and_issues_nothing(asking: Asking) -> None:
    await register(asking.running, [API])
    assert await audience(asking, API, "https://unknown.example") == (400, "invalid_target")
    [told] = await asking.running.trail(asking.admin, AuditAction.TOKEN_ISSUED)
    assert told.metadata["reason"] == "invalid_target"
