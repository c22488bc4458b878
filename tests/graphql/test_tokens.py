"""Tokens through GraphQL: issued, looked into, revoked, by the same rules as over OAuth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.records import AuditAction, AuditOutcome
from tests.gateway import PUBLIC_URL, Client
from tests.graphql.asking import Asking

EVERYTHING = "agents:read agents:write audit:read audit:write credentials:read credentials:write"
INACTIVE = {
    "__typename": "TokenIntrospection", "active": False, "clientId": None, "scope": None,
    "tokenType": None, "expiresAt": None, "issuedAt": None, "issuer": None, "audience": None,
    "jti": None, "credentialId": None,
}  # fmt: skip


def as_input(client: Client, **more: object) -> dict[str, object]:
    return {
        "tenant": client.slug,
        "clientId": client.client_id,
        "clientSecret": client.secret,
    } | more


async def test_a_client_that_proves_itself_gets_a_token_that_works(stored: Asking) -> None:
    payload = await stored.nobody.change("issueToken", as_input(stored.admin))
    token = payload.pop("accessToken")
    assert payload == {
        "__typename": "TokenIssued",
        "tokenType": "Bearer",
        "expiresIn": 3600,
        "scope": f"{EVERYTHING} tokens:read tokens:write",
    }
    data = await replace(stored, token=token).data("{ viewer { agentId } }")
    assert data == {"viewer": {"agentId": stored.admin.client_id}}


async def test_a_scope_that_is_asked_for_is_all_that_is_given(stored: Asking) -> None:
    payload = await stored.nobody.change(
        "issueToken", as_input(stored.admin, scope="audit:read agents:read")
    )
    assert payload["scope"] == "audit:read agents:read"
    narrow = replace(stored, token=payload["accessToken"])
    assert await narrow.data("{ agents { totalCount } }") == {"agents": {"totalCount": 1}}
    error = await narrow.denied("suspendAgent", {"agentId": stored.admin.client_id})
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "agents:write")


@pytest.mark.parametrize("scope", ["", "billing:read", "agents:read  audit:read", "a\x00b", "*"])
async def test_any_other_scope_is_refused(asking: Asking, scope: str) -> None:
    before = await asking.running.trail(asking.admin)
    payload = await asking.nobody.change("issueToken", as_input(asking.admin, scope=scope))
    assert (payload["__typename"], payload["code"]) == ("InvalidScope", "INVALID_SCOPE")
    *kept, told = await asking.running.trail(asking.admin)
    assert kept == before
    assert (told.action, told.outcome) == (AuditAction.TOKEN_ISSUED, AuditOutcome.FAILURE)


@pytest.mark.parametrize(
    "resource", ["https://unknown.example", "", "billing", "https://a#b", "http://[x", "\x00"]
)
async def test_a_resource_that_is_not_known_is_refused(asking: Asking, resource: str) -> None:
    before = await asking.running.trail(asking.admin)
    payload = await asking.nobody.change("issueToken", as_input(asking.admin, resource=resource))
    assert (payload["__typename"], payload["code"]) == ("InvalidTarget", "INVALID_TARGET")
    *kept, told = await asking.running.trail(asking.admin)
    assert kept == before
    assert (told.action, told.outcome) == (AuditAction.TOKEN_ISSUED, AuditOutcome.FAILURE)


async def test_the_gateway_itself_may_be_named_as_the_resource(asking: Asking) -> None:
    resource = f"{PUBLIC_URL}/t/acme"
    payload = await asking.nobody.change("issueToken", as_input(asking.admin, resource=resource))
    found = await asking.change("introspectToken", {"token": payload["accessToken"]})
    assert found["audience"] == [resource]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clientSecret": "sk_live_" + "0" * 64},
        {"clientSecret": ""},
        {"clientSecret": "\x00"},
        {"clientSecret": "a" * 100},
        {"clientId": "00000000-0000-4000-8000-000000000000"},
        {"clientId": "nope"},
        {"clientId": "\x00"},
        {"tenant": "unknown"},
        {"tenant": "NOPE; --"},
        {"tenant": "a\x00b"},
        {"tenant": ""},
    ],
)
async def test_every_reason_for_a_refusal_answers_the_same(
    asking: Asking, wrong: dict[str, str]
) -> None:
    payload = await asking.nobody.change("issueToken", as_input(asking.admin) | wrong)
    assert payload == {
        "__typename": "InvalidClient",
        "message": "client authentication failed",
        "code": "INVALID_CLIENT",
        "path": None,
    }
    failed = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
    assert len(failed) == (0 if "tenant" in wrong else 1)


async def test_a_token_is_introspected_by_its_own_client(stored: Asking) -> None:
    client = await stored.enabled(await stored.registered())
    scout = await stored.by(client)
    found = await scout.change("introspectToken", {"token": scout.token})
    assert found["active"] is True
    assert found["clientId"] == client.client_id
    assert found["scope"] == "billing:read"
    assert found["tokenType"] == "Bearer"
    assert found["issuer"] == f"{PUBLIC_URL}/t/acme"
    assert found["audience"] == [f"{PUBLIC_URL}/t/acme"]
    now = stored.running.clock.now.replace(microsecond=0)
    assert found["issuedAt"] == now.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    assert found["expiresAt"] > found["issuedAt"]
    [event] = await stored.running.trail(stored.admin, AuditAction.TOKEN_INTROSPECTED)
    assert event.metadata["active"] is True


async def test_others_tokens_need_tokens_read(stored: Asking) -> None:
    scout = await stored.by(await stored.enabled(await stored.registered()))
    assert await scout.change("introspectToken", {"token": stored.token}) == INACTIVE
    found = await stored.change("introspectToken", {"token": scout.token})
    assert found["active"] is True


async def test_what_is_no_live_token_of_the_tenant_is_not_told_apart(stored: Asking) -> None:
    globex = await stored.running.onboard("globex")
    revoked = await stored.running.token(stored.admin)
    await stored.change("revokeToken", {"token": revoked})
    token = stored.token or ""
    for text in (
        "", "nope", "\x00", "a" * 10_000, token + "x", token[:-2], "é",
        await stored.running.token(globex), revoked,
    ):  # fmt: skip
        assert await stored.change("introspectToken", {"token": text}) == INACTIVE


async def test_revoking_what_is_no_live_token_is_a_success_that_does_nothing(
    stored: Asking,
) -> None:
    globex = await stored.running.onboard("globex")
    foreign = await stored.running.token(globex)
    trail = await stored.running.trail(stored.admin)
    for text in ("nope", "\x00", foreign):
        payload = await stored.change("revokeToken", {"token": text})
        assert payload == {"__typename": "TokenRevoked", "active": False}
    assert await stored.running.trail(stored.admin) == trail
    assert await (await stored.by(globex)).data("{ viewer { email } }")
    assert (await replace(stored, token=foreign).data("{ viewer { email } }"))["viewer"] == {
        "email": "admin@globex.example"
    }


async def test_revoking_twice_is_harmless_and_written_once(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    for _ in range(2):
        await stored.change("revokeToken", {"token": token})
    assert len(await stored.running.trail(stored.admin, AuditAction.TOKEN_REVOKED)) == 1


async def test_others_tokens_are_not_revoked_without_tokens_write(stored: Asking) -> None:
    scout = await stored.by(await stored.enabled(await stored.registered()))
    trail = await stored.running.trail(stored.admin)
    error = await scout.denied("revokeToken", {"token": stored.token})
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "tokens:write")
    assert await stored.running.trail(stored.admin) == trail
    assert await stored.data("{ viewer { email } }")
