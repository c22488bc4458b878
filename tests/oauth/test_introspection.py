"""What a client may learn of a token (RFC 7662)."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import jwt
import pytest

from db.records import AuditAction, TenantStatus
from tests.gateway import OPERATOR_TOKEN, PUBLIC_URL
from tests.oauth.asking import Asking, error_of

INACTIVE = b'{"active":false}'
ISSUER = f"{PUBLIC_URL}/t/acme"


async def test_a_live_token_is_described_as_its_owner_s(stored: Asking) -> None:
    """Whoever asks: `client_id` and `sub` are those of the token."""
    worker = await stored.running.client_of(stored.admin, ["resume:read"])
    token = await stored.running.token(worker)
    claims = jwt.decode(token, options={"verify_signature": False})
    answer = await stored.introspect(token)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "active": True,
        "iss": ISSUER,
        "sub": worker.client_id,
        "aud": ISSUER,
        "client_id": worker.client_id,
        "scope": "resume:read",
        "exp": claims["exp"],
        "iat": claims["iat"],
        "nbf": claims["nbf"],
        "jti": claims["jti"],
        "token_type": "Bearer",
    }


async def test_an_introspection_is_in_the_trail_and_changes_nothing(stored: Asking) -> None:
    worker = await stored.running.client_of(stored.admin, ["resume:read"])
    token = await stored.running.token(worker)
    assert await stored.active(token)
    assert not await stored.active("garbage")
    claims = jwt.decode(token, options={"verify_signature": False})
    live, inactive = await stored.running.trail(stored.admin, AuditAction.TOKEN_INTROSPECTED)
    assert str(live.agent_id) == str(inactive.agent_id) == stored.admin.client_id
    assert live.metadata == {
        "active": True, "jti": claims["jti"], "clientId": worker.client_id
    }  # fmt: skip
    assert inactive.metadata == {"active": False}
    assert await stored.active(token)


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token_type_hint": "access_token"}])
async def test_a_missing_token_is_refused(
    asking: Asking, endpoint: str, form: dict[str, str]
) -> None:
    assert error_of(await asking.post(endpoint, form)) == (400, "invalid_request")


async def test_a_token_that_is_there_twice_is_refused(asking: Asking) -> None:
    token = await asking.running.token(asking.admin)
    for endpoint in ("introspect", "revoke"):
        answer = await asking.post(endpoint, [("token", token), ("token", token)])
        assert error_of(answer) == (400, "invalid_request")
    assert await asking.active(token)


@pytest.mark.parametrize(
    "garbage",
    ["x", "a.b.c", "..", "é", "=", "x" * 60_000, "' or 1=1 --", "{}", "null", OPERATOR_TOKEN],
)
async def test_garbage_is_inactive_and_nothing_more(asking: Asking, garbage: str) -> None:
    answer = await asking.introspect(garbage)
    assert (answer.status_code, answer.content) == (200, INACTIVE)


async def test_a_token_that_has_ended_is_inactive_to_the_second(stored: Asking) -> None:
    running = stored.running
    token = await running.token(stored.admin)
    running.clock.now = running.clock.now.replace(microsecond=0)
    running.clock.advance(3599.999)
    assert await stored.active(token)
    running.clock.advance(0.001)
    assert (await stored.introspect(token)).content == INACTIVE


async def test_another_tenant_s_token_is_inactive(stored: Asking) -> None:
    other = await stored.running.onboard("globex")
    token = await stored.running.token(other)
    assert (await stored.introspect(token)).content == INACTIVE
    assert await stored.active(token, client=other, slug="globex")


async def test_a_changed_token_is_inactive(asking: Asking) -> None:
    token = await asking.running.token(asking.admin)
    head, payload, signature = token.split(".")
    forged = [
        f"{head}.{payload}.{'A' * len(signature)}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}.{payload[:-2]}.{signature}",
        f"{token}=",
        f"{token}.x",
        f" {token}",
    ]
    for each in forged:
        assert (await asking.introspect(each)).content == INACTIVE
    assert await asking.active(token)


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "no_such_type", ""])
async def test_the_hint_makes_no_difference(asking: Asking, hint: str) -> None:
    token = await asking.running.token(asking.admin)
    form = {"token": token, "token_type_hint": hint}
    assert (await asking.post("introspect", form)).json()["active"]
    assert (await asking.post("revoke", form)).status_code == 200
    assert not await asking.active(token)


async def test_a_client_sees_its_own_tokens_and_others_with_tokens_read(stored: Asking) -> None:
    running = stored.running
    plain = await running.client_of(stored.admin, ["resume:read"], email="plain@a.example")
    reader = await running.client_of(stored.admin, ["tokens:read"], email="reader@a.example")
    token = await running.token(plain)
    assert await stored.active(token, client=plain)
    assert await stored.active(token, client=reader)
    foreign = await running.token(reader)
    assert (await stored.introspect(foreign, client=plain)).content == INACTIVE


async def test_a_token_for_a_resource_server_can_be_introspected(stored: Asking) -> None:
    """Introspection is for the one who receives the token, whatever its audience is."""
    gateway = stored.running.gateway
    async with gateway.storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, resource_servers=("https://api.example.com",)))
    answer = await stored.token(
        {"grant_type": "client_credentials", "resource": "https://api.example.com"}
    )
    token = answer.json()["access_token"]
    found = (await stored.introspect(token)).json()
    assert (found["active"], found["aud"]) == (True, "https://api.example.com")
    # It is not meant for the gateway, so it opens nothing here.
    refused = await stored.introspect(token, authorization=f"Bearer {token}")
    assert error_of(refused) == (401, "invalid_token")


class TestByBearerToken:
    async def test_an_access_token_of_the_tenant_will_do(self, stored: Asking) -> None:
        token = await stored.running.token(stored.admin)
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = await stored.introspect(token, authorization=f"{scheme} {token}")
            assert answer.json()["active"]

    async def test_its_scope_counts_and_not_the_agent_s(self, stored: Asking) -> None:
        worker = await stored.running.client_of(stored.admin, ["resume:read"])
        theirs = await stored.running.token(worker)
        narrow = await stored.running.token(stored.admin, "agents:read")
        wide = await stored.running.token(stored.admin, "tokens:read")
        answer = await stored.introspect(theirs, authorization=f"Bearer {narrow}")
        assert answer.content == INACTIVE
        assert (await stored.introspect(theirs, authorization=f"Bearer {wide}")).json()["active"]
        assert (await stored.introspect(narrow, authorization=f"Bearer {narrow}")).json()["active"]

    async def test_one_of_another_tenant_is_refused(self, stored: Asking) -> None:
        other = await stored.running.onboard("globex")
        token = await stored.running.token(stored.admin)
        foreign = await stored.running.token(other)
        answer = await stored.introspect(token, authorization=f"Bearer {foreign}")
        assert error_of(answer) == (401, "invalid_token")
        assert "Bearer" in answer.headers["www-authenticate"]

    @pytest.mark.parametrize(
        "bad", ["Bearer x", "Bearer {token}=", "Bearer {token}x", "Bearer " + OPERATOR_TOKEN]
    )
    @pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
    async def test_a_bad_one_is_refused_with_the_challenge(
        self, asking: Asking, endpoint: str, bad: str
    ) -> None:
        """The operator's token among them: what belongs to a tenant is not the operator's."""
        token = await asking.running.token(asking.admin)
        answer = await asking.post(
            endpoint, {"token": token}, authorization=bad.format(token=token)
        )
        assert error_of(answer) == (401, "invalid_token")
        assert (
            answer.headers["www-authenticate"] == 'Bearer realm="agentidp", error="invalid_token"'
        )
        assert await asking.active(token)

    @pytest.mark.parametrize(
        "malformed", ["Bearer", "Bearer ", "Bearer  {token}", "Bearer {token} ", "Bearer\t{token}",
                      "Bearer {token}, Bearer {token}", "Bearer {token} x", "Bearer \"{token}\"",
                      "Bearer token={token}"]
    )  # fmt: skip
    @pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
    async def test_a_malformed_header_is_no_token_at_all(
        self, asking: Asking, endpoint: str, malformed: str
    ) -> None:
        """RFC 6750 §3.1 tells a request that is malformed from a token that is not accepted. Its
        grammar would allow more blanks than one; here there is one spelling."""
        token = await asking.running.token(asking.admin)
        answer = await asking.post(
            endpoint, {"token": token}, authorization=malformed.format(token=token)
        )
        status = (401, "invalid_client") if "\t" in malformed else (400, "invalid_request")
        assert error_of(answer) == status
        assert await asking.active(token)

    @pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
    async def test_one_in_the_uri_or_in_the_body_is_not_read(
        self, asking: Asking, endpoint: str
    ) -> None:
        """Of RFC 6750 §2 the header alone. A body is the client's own, so nobody has proved
        anything; a URI is written to logs, so whoever sends a token in one is told."""
        token = await asking.running.token(asking.admin)
        form = {"token": token}
        answer = await asking.post(endpoint, form | {"access_token": token}, authorization=None)
        assert error_of(answer) == (401, "invalid_client")
        for authorization in (None, f"Bearer {token}"):
            for query in (f"?access_token={token}", f"?a=b&access_token={token}"):
                answer = await asking.post(endpoint, form, authorization=authorization, query=query)
                assert error_of(answer) == (400, "invalid_request")
        assert await asking.active(token)

    @pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
    async def test_who_sends_no_proof_is_told_both_ways_and_of_no_error(
        self, asking: Asking, endpoint: str
    ) -> None:
        """RFC 6750 §3.1: without any token the challenge has no error code."""
        answer = await asking.post(endpoint, {"token": "x"}, authorization=None)
        assert error_of(answer) == (401, "invalid_client")
        assert answer.headers.get_list("www-authenticate") == [
            'Basic realm="agentidp", charset="UTF-8"',
            'Bearer realm="agentidp"',
        ]

    async def test_a_revoked_one_is_refused(self, stored: Asking) -> None:
        token = await stored.running.token(stored.admin)
        assert (await stored.revoke(token, authorization=f"Bearer {token}")).status_code == 200
        answer = await stored.introspect(token, authorization=f"Bearer {token}")
        assert error_of(answer) == (401, "invalid_token")

    async def test_one_of_a_suspended_agent_is_refused(self, stored: Asking) -> None:
        worker = await stored.running.client_of(stored.admin, ["resume:read"])
        token = await stored.running.token(worker)
        call = await stored.running.as_caller(stored.admin)
        await stored.running.gateway.agents.suspend(call, UUID(worker.client_id))
        answer = await stored.introspect(token, authorization=f"Bearer {token}")
        assert error_of(answer) == (401, "invalid_token")

    async def test_a_second_proof_or_another_client_id_beside_it_is_refused(
        self, asking: Asking
    ) -> None:
        token = await asking.running.token(asking.admin)
        bearer = f"Bearer {token}"
        for beside in ({"client_secret": "x"}, {"client_id": str(uuid4())}):
            answer = await asking.post(
                "introspect", {"token": token, **beside}, authorization=bearer
            )
            assert error_of(answer) == (400, "invalid_request")
        same = {"token": token, "client_id": asking.admin.client_id}
        answer = await asking.post("introspect", same, authorization=bearer)
        assert answer.json()["active"]

    async def test_no_token_is_issued_for_one(self, asking: Asking) -> None:
        token = await asking.running.token(asking.admin)
        answer = await asking.token(
            {"grant_type": "client_credentials"}, authorization=f"Bearer {token}"
        )
        assert error_of(answer) == (401, "invalid_client")


async def test_a_suspended_tenant_is_not_served(stored: Asking) -> None:
    token = await stored.running.token(stored.admin)
    async with stored.running.gateway.storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, status=TenantStatus.SUSPENDED))
    for answer in (
        await stored.token({"grant_type": "client_credentials"}),
        await stored.introspect(token),
        await stored.revoke(token),
        await stored.running.client.get("/t/acme/.well-known/jwks.json"),
        await stored.running.client.get("/.well-known/oauth-authorization-server/t/acme"),
    ):
        assert error_of(answer) == (404, "invalid_request")
