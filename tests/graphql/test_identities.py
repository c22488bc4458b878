"""Who an agent is, is for the server to say: nobody chooses an id that looks like another's."""

from __future__ import annotations

from uuid import UUID

import jwt
import pytest

from tests.graphql.asking import Asking, change, profile


@pytest.mark.parametrize("name", ["agentId", "sub", "clientId", "id", "iss", "tenant"])
async def test_no_registration_says_its_own_id(stored: Asking, name: str) -> None:
    before = await stored.data("{ agents { totalCount } }")
    body = await stored.ask(
        change("registerAgent"), {"input": profile(**{name: stored.admin.client_id})}
    )
    assert {each["extensions"]["code"] for each in body["errors"]} == {"BAD_USER_INPUT"}
    assert "data" not in body
    assert await stored.data("{ agents { totalCount } }") == before


async def test_an_address_of_another_tenant_s_human_is_an_address_and_no_identity(
    stored: Asking,
) -> None:
    """RFC 9700 §4.15: the subject of a token is made by the server, whatever an agent is called;
    addresses are known within their own tenant alone."""
    other = await stored.running.onboard("globex")
    theirs = jwt.decode(await stored.running.token(other), options={"verify_signature": False})
    agent_id = await stored.registered(email="admin@globex.example", name=other.client_id)
    client = await stored.enabled(agent_id)
    token = await stored.running.token(client)
    claims = jwt.decode(token, options={"verify_signature": False})

    assert UUID(agent_id).version == 4
    assert claims["sub"] == claims["client_id"] == agent_id != theirs["sub"]
    assert claims["iss"] != theirs["iss"]
    assert not {"email", "name"} & set(claims)
    # Of whom it is named after it has nothing, there or here.
    there = await stored.running.client.post(
        "/t/globex/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, client.secret),
    )
    assert there.status_code == 401
    found = await stored.by(client)
    viewer = await found.data("{ viewer { agentId email capabilities } }")
    assert viewer["viewer"] == {
        "agentId": agent_id,
        "email": "admin@globex.example",
        "capabilities": ["billing:read"],
    }


async def test_an_address_is_one_agent_s_within_its_tenant(stored: Asking) -> None:
    """The administrator's too."""
    payload = await stored.change("registerAgent", profile(email="admin@acme.example"))
    assert payload["__typename"] == "EmailTaken"
