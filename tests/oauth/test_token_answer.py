"""What a token is good for: its scope, its audience, its claims, its life."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import jwt
import pytest

from db.records import AuditAction, AuditOutcome
from tests.gateway import PUBLIC_URL
from tests.oauth.asking import GRANT, Asking, error_of

ISSUER = f"{PUBLIC_URL}/t/acme"
ALL = (
    "agents:read agents:write audit:read audit:write "
    "credentials:read credentials:write tokens:read tokens:write"
)


async def test_the_answer_has_what_the_protocol_names_and_no_more(stored: Asking) -> None:
    answer = await stored.token({**GRANT, "scope": "agents:read"})
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert body["scope"] == "agents:read"


async def test_the_token_is_a_jwt_of_rfc_9068_that_the_published_keys_verify(
    stored: Asking,
) -> None:
    token = await stored.running.token(stored.admin)
    published = (await stored.running.client.get("/t/acme/.well-known/jwks.json")).json()
    header = jwt.get_unverified_header(token)
    [key] = [key for key in jwt.PyJWKSet.from_dict(published).keys if key.key_id == header["kid"]]
    claims = jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=ISSUER,
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    now = int(stored.running.clock.now.timestamp())
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key.key_id}
    assert set(claims) == {
        "iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope",
        "credential_id", "gen",
    }  # fmt: skip
    assert claims["sub"] == claims["client_id"] == stored.admin.client_id
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now, now + 3600)
    assert claims["scope"] == ALL
    assert UUID(claims["jti"]).version == 4


async def test_without_a_scope_the_client_gets_all_that_it_may_have(stored: Asking) -> None:
    worker = await stored.running.client_of(stored.admin, ["resume:read", "audit:read"])
    assert (await stored.token(GRANT, client=stored.admin)).json()["scope"] == ALL
    assert (await stored.token(GRANT, client=worker)).json()["scope"] == "resume:read audit:read"


async def test_a_scope_narrows_and_names_nothing_twice(stored: Asking) -> None:
    answer = await stored.token({**GRANT, "scope": "tokens:read agents:read tokens:read"})
    assert answer.json()["scope"] == "tokens:read agents:read"


@pytest.mark.parametrize(
    "scope",
    [
        "tenants:read",
        "jobs:write",
        "agents:read billing:read",
        "agents:*",
        "agents",
        "AGENTS:READ",
        " ",
        " agents:read",
        "agents:read ",
        "agents:read  tokens:read",
        "agents:read,tokens:read",
        '"agents:read"',
        "agents:read\\",
        "agents:read\ttokens:read",
        "agents:read\n",
        "agents:read\x00",
        "agénts:read",
        "openid",
        "x" * 20_000,
    ],
    ids=lambda value: ascii(value[:20]),
)
async def test_a_scope_beyond_the_capabilities_or_malformed_is_invalid(
    asking: Asking, scope: str
) -> None:
    answer = await asking.token({**GRANT, "scope": scope})
    assert error_of(answer) == (400, "invalid_scope")
    [told] = await asking.running.trail(asking.admin, AuditAction.TOKEN_ISSUED)
    assert told.outcome is AuditOutcome.FAILURE
    assert set(told.metadata) == {"reason", "credentialId"}, "nothing of what was sent"
    assert told.metadata["reason"] == "invalid_scope"


@pytest.mark.parametrize(
    "resource",
    [
        "https://api.example.com",
        "/t/acme",
        "t/acme",
        f"{ISSUER}#fragment",
        f"{ISSUER}#",
        f"{ISSUER}/",
        ISSUER.upper(),
        f"{PUBLIC_URL}/t/globex",
        "https://",
        "https://[",
        "urn:x",
        "é:x",
        " ",
    ],
)
async def test_a_resource_that_is_not_registered_or_malformed_is_an_invalid_target(
    asking: Asking, resource: str
) -> None:
    answer = await asking.token({**GRANT, "resource": resource})
    assert error_of(answer) == (400, "invalid_target")
    # One that is good does not make up for it, in either order.
    for form in ([("resource", ISSUER), ("resource", resource)],
                 [("resource", resource), ("resource", ISSUER)]):  # fmt: skip
        answer = await asking.token([*GRANT.items(), *form])
        assert error_of(answer) == (400, "invalid_target")
    told = await asking.running.trail(asking.admin, AuditAction.TOKEN_ISSUED)
    assert [event.metadata["reason"] for event in told] == ["invalid_target"] * 3
    assert {event.outcome for event in told} == {AuditOutcome.FAILURE}


async def test_a_resource_becomes_the_audience(stored: Asking) -> None:
    gateway = stored.running.gateway
    servers = ("https://api.example.com", "https://files.example.com/v1")
    async with gateway.storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, resource_servers=servers))

    async def audience(*resources: str) -> object:
        form = [*GRANT.items(), *(("resource", each) for each in resources)]
        answer = await stored.token(form)
        assert answer.status_code == 200
        claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
        return claims["aud"]

    assert await audience() == ISSUER
    assert await audience(ISSUER) == ISSUER
    assert await audience(servers[0]) == servers[0]
    assert await audience(servers[0], servers[0]) == servers[0]
    assert await audience(*servers, ISSUER) == [*servers, ISSUER]


async def test_every_token_is_another(stored: Asking) -> None:
    tokens = {await stored.running.token(stored.admin) for _ in range(5)}
    assert len(tokens) == 5


async def test_an_issued_token_is_in_the_trail_without_its_text(stored: Asking) -> None:
    token = await stored.running.token(stored.admin, "agents:read")
    claims = jwt.decode(token, options={"verify_signature": False})
    [event] = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
    assert str(event.agent_id) == stored.admin.client_id
    assert event.metadata["jti"] == claims["jti"]
    assert event.metadata["credentialId"] == claims["credential_id"]
    assert event.metadata["scope"] == "agents:read"
    assert token not in repr(event)
