"""Who is asking: nobody, an agent, the operator, or somebody with a token that is not accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.graphql.asking import JSON, RESPONSE_JSON, Asking, profile

WHO = "{ viewer { email } }"


async def test_without_a_token_only_guarded_fields_are_refused(asking: Asking) -> None:
    """RFC 6750 §3.1 has a 401 without an error code. Some fields are for anybody, so it is a field
    that is refused here and not the request; the OAuth endpoints answer 401."""
    document = '{ __typename node(id: "x") { id } __schema { queryType { name } } }'
    answer = await asking.nobody.post({"query": document}, accept=RESPONSE_JSON)
    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers
    body = answer.json()
    assert body["data"] == {
        "__typename": "Query",
        "node": None,
        "__schema": {"queryType": {"name": "Query"}},
    }
    [error] = body["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["node"], "UNAUTHENTICATED")


async def test_without_a_token_a_document_is_still_judged_first(asking: Asking) -> None:
    assert await asking.nobody.code("{ nope }") == "GRAPHQL_VALIDATION_FAILED"


@pytest.mark.parametrize("accept", [JSON, RESPONSE_JSON])
@pytest.mark.parametrize(
    "authorization",
    ["Bearer nope", "bearer nope=", "Basic YTpi", "Bearer\tnope", "nope",
     "Bearer " + "x" * 9000],
)  # fmt: skip
async def test_a_token_that_is_not_accepted_is_challenged(
    asking: Asking, authorization: str, accept: str
) -> None:
    for document in ("{ __typename }", "{ nope", WHO):
        answer = await asking.post({"query": document}, authorization=authorization, accept=accept)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
        body = answer.json()
        assert set(body) == {"errors"}
        [error] = body["errors"]
        assert error["extensions"]["code"] == "UNAUTHENTICATED"
        assert authorization not in answer.text


MALFORMED = [
    ["Bearer"], ["bearer "], ["Bearer a b"], ["Bearer  {t}"], ["Bearer {t} "], ["Bearer {t},"],
    ["Bearer \"{t}\""], ["Bearer {t}", "Bearer {t}"], ["Bearer {t}", "Basic YTpi"],
]  # fmt: skip


@pytest.mark.parametrize("headers", MALFORMED)
async def test_what_cannot_be_read_as_one_token_is_a_bad_request(
    asking: Asking, headers: list[str]
) -> None:
    """RFC 6750 §3.1 tells a malformed request from a token that is not accepted."""
    assert asking.token
    sent = [("authorization", each.replace("{t}", asking.token)) for each in headers]
    await _bad_request(asking, "", sent)


@pytest.mark.parametrize("query", ["?access_token={t}", "?a=b&access_token={t}"])
async def test_a_token_in_the_address_is_a_bad_request(asking: Asking, query: str) -> None:
    """With another in the header or without: addresses are written to logs."""
    assert asking.token
    query = query.replace("{t}", asking.token)
    await _bad_request(asking, query, [])
    await _bad_request(asking, query, [("authorization", f"Bearer {asking.token}")])


async def _bad_request(asking: Asking, query: str, headers: list[tuple[str, str]]) -> None:
    answer = await asking.running.client.post(
        "/graphql" + query, json={"query": WHO}, headers=headers
    )
    assert answer.status_code == 400
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_request"'
    assert answer.headers["cache-control"] == "no-store"
    [error] = answer.json()["errors"]
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert "eyJ" not in answer.text


async def test_a_token_ends_with_its_time(asking: Asking) -> None:
    asking.running.clock.advance(3599)
    assert (await asking.post({"query": WHO})).status_code == 200
    asking.running.clock.advance(1)
    assert (await asking.post({"query": WHO})).status_code == 401


async def test_a_revoked_token_is_refused(stored: Asking) -> None:
    other = await stored.by(stored.admin)
    payload = await stored.change("revokeToken", {"token": other.token})
    assert payload == {"__typename": "TokenRevoked", "active": False}
    assert (await other.post({"query": WHO})).status_code == 401
    assert (await stored.post({"query": WHO})).status_code == 200


async def test_a_suspended_agent_s_live_token_is_refused_and_stays_so(stored: Asking) -> None:
    scout = await stored.by(await stored.enabled(await stored.registered()))
    agent_id = (await scout.data("{ viewer { agentId } }"))["viewer"]["agentId"]
    await stored.change("suspendAgent", {"agentId": agent_id})
    assert (await scout.post({"query": WHO})).status_code == 401
    await stored.change("reactivateAgent", {"agentId": agent_id})
    assert (await scout.post({"query": WHO})).status_code == 401


async def test_a_token_for_somebody_else_is_not_one_for_the_gateway(asking: Asking) -> None:
    storage = asking.running.gateway.storage
    async with storage.registry_unit() as unit:
        tenant = await unit.tenants.get("acme")
        assert tenant is not None
        await unit.tenants.save(replace(tenant, resource_servers=("https://billing.example",)))
    payload = await asking.change(
        "issueToken",
        {
            "tenant": "acme",
            "clientId": asking.admin.client_id,
            "clientSecret": asking.admin.secret,
            "resource": "https://billing.example",
        },
    )
    answer = await asking.post({"query": WHO}, authorization=f"Bearer {payload['accessToken']}")
    assert answer.status_code == 401


async def test_the_operator_is_no_tenant_s_agent(asking: Asking) -> None:
    error = await asking.operator.error(WHO)
    assert (error["code"], error["path"]) == ("FORBIDDEN", ["viewer"])


async def test_a_scope_that_is_missing_is_named(asking: Asking) -> None:
    """RFC 6750 §3.1 has a 403 for it, `insufficient_scope`, with the scope. A GraphQL answer may
    hold what other fields were allowed, so its status is of the whole; the refusal stands in
    `errors[]` at the field's own path, FORBIDDEN, and names the scope."""
    narrow = await asking.by(asking.admin, "agents:read")
    error = await narrow.denied("registerAgent", profile())
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "agents:write")
    assert error["message"] == "this needs the scope agents:write"


SUSPEND_THEN = """
    mutation($me: UUID!) {
      first: suspendAgent(input: {agentId: $me}) { __typename }
      second: %s
    }
"""


@pytest.mark.parametrize(
    "second",
    [
        "generateCredential(input: {agentId: $me}) { __typename }",
        "reactivateAgent(input: {agentId: $me}) { __typename }",
        'revokeToken(input: {token: "x"}) { __typename }',
    ],
)
async def test_a_mutation_sees_what_the_one_before_did_to_its_caller(
    stored: Asking, second: str
) -> None:
    scout = await stored.by(
        await stored.enabled(
            await stored.registered(
                capabilities=["agents:write", "credentials:write", "tokens:write"]
            )
        )
    )
    me = (await scout.data("{ viewer { agentId } }"))["viewer"]["agentId"]
    before = await stored.running.trail(stored.admin)
    body = await scout.ask(SUSPEND_THEN % second, {"me": me})
    [error] = body["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["second"], "UNAUTHENTICATED")
    # Suspended, and nothing else.
    after = await stored.running.trail(stored.admin)
    assert [event.action.value for event in after[len(before) :]] == ["agent.suspended"]
    agent = await stored.data("query($me: UUID!) { agent(agentId: $me) { status } }", {"me": me})
    assert agent == {"agent": {"status": "SUSPENDED"}}


async def test_an_agent_that_revokes_its_own_token_has_no_next_mutation(asking: Asking) -> None:
    document = """
        mutation($token: String!, $input: RegisterAgentInput!) {
          revokeToken(input: {token: $token}) { __typename }
          registerAgent(input: $input) { __typename }
        }
    """
    body = await asking.ask(document, {"token": asking.token, "input": profile()})
    [error] = body["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["registerAgent"], "UNAUTHENTICATED")
    assert await asking.running.actions(asking.admin) == [
        "agent.created", "credential.generated", "token.issued", "token.revoked",
    ]  # fmt: skip


async def test_a_public_mutation_needs_no_standing(asking: Asking) -> None:
    """It is its own authentication, also after the caller has ended its token."""
    document = """
        mutation($token: String!, $input: IssueTokenInput!) {
          revokeToken(input: {token: $token}) { __typename }
          issueToken(input: $input) { __typename }
        }
    """
    client = {
        "tenant": "acme",
        "clientId": asking.admin.client_id,
        "clientSecret": asking.admin.secret,
    }
    data = await asking.data(document, {"token": asking.token, "input": client})
    assert data["issueToken"] == {"__typename": "TokenIssued"}


async def test_an_agent_with_a_narrow_token_still_has_itself(asking: Asking) -> None:
    scout = await asking.by(await asking.enabled(await asking.registered()))
    data = await scout.data("{ viewer { email credentials { nodes { clientId } } } }")
    assert data["viewer"]["email"] == "scout@agents.example"
    assert len(data["viewer"]["credentials"]["nodes"]) == 1
    error = await scout.error("{ viewer { auditEvents { nodes { action } } } }")
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "audit:read")
