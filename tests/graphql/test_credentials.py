"""Credentials through GraphQL: a secret is made, replaced and ended; it is shown once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.gateway import Client
from tests.graphql.asking import Asking

NOBODY = "00000000-0000-4000-8000-000000000000"
THEIRS = """
    query($id: UUID!) { agent(agentId: $id) { credentials {
      nodes { credentialId status label expiresAt revokedAt lastUsedAt } } } }
"""


async def statuses(asking: Asking, agent_id: str) -> list[str]:
    data = await asking.data(THEIRS, {"id": agent_id})
    return [each["status"] for each in data["agent"]["credentials"]["nodes"]]


async def only_credential(asking: Asking, agent_id: str) -> str:
    [found] = (await asking.data(THEIRS, {"id": agent_id}))["agent"]["credentials"]["nodes"]
    credential_id: str = found["credentialId"]
    return credential_id


async def test_a_generated_secret_gets_its_agent_a_token(stored: Asking) -> None:
    agent_id = await stored.registered()
    expires = stored.running.clock.now + timedelta(days=1)
    payload = await stored.change(
        "generateCredential",
        {"agentId": agent_id, "label": "ci", "expiresAt": expires.isoformat()},
    )
    assert payload["__typename"] == "CredentialGenerated"
    assert payload["clientId"] == agent_id
    assert payload["clientSecret"].startswith("sk_live_")
    assert payload["credential"]["clientId"] == agent_id
    assert payload["credential"]["label"] == "ci"
    assert payload["credential"]["status"] == "ACTIVE"
    assert payload["credential"]["expiresAt"] == expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    client = Client("acme", agent_id, payload["clientSecret"])
    scout = await stored.by(client)
    assert (await scout.data("{ viewer { agentId } }"))["viewer"]["agentId"] == agent_id


async def test_an_expiry_must_lie_ahead(stored: Asking) -> None:
    agent_id = await stored.registered()
    now = stored.running.clock.now
    for expires in (now, now - timedelta(days=400)):
        payload = await stored.change(
            "generateCredential", {"agentId": agent_id, "expiresAt": expires.isoformat()}
        )
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["expiresAt"])
    assert await statuses(stored, agent_id) == []


@pytest.mark.parametrize("label", ["a" * 65, "a\x00"])
async def test_a_label_has_its_grammar(stored: Asking, label: str) -> None:
    agent_id = await stored.registered()
    payload = await stored.change("generateCredential", {"agentId": agent_id, "label": label})
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["label"])
    assert await statuses(stored, agent_id) == []


@pytest.mark.parametrize("mutation", ["suspendAgent", "decommissionAgent"])
async def test_only_an_active_agent_is_given_a_secret(stored: Asking, mutation: str) -> None:
    agent_id = await stored.registered()
    await stored.enabled(agent_id)
    credential_id = await only_credential(stored, agent_id)
    await stored.change(mutation, {"agentId": agent_id})
    trail = await stored.running.trail(stored.admin)
    generated = await stored.change("generateCredential", {"agentId": agent_id})
    rotated = await stored.change("rotateCredential", {"credentialId": credential_id})
    assert generated["__typename"] == rotated["__typename"] == "AgentNotActive"
    assert generated["code"] == "AGENT_NOT_ACTIVE"
    assert len(await statuses(stored, agent_id)) == 1
    assert await stored.running.trail(stored.admin) == trail


async def test_a_rotation_ends_the_old_secret_and_its_tokens(stored: Asking) -> None:
    agent_id = await stored.registered()
    payload = await stored.change("generateCredential", {"agentId": agent_id, "label": "ci"})
    old = Client("acme", agent_id, payload["clientSecret"])
    token = await stored.by(old)
    rotated = await stored.change(
        "rotateCredential", {"credentialId": payload["credential"]["credentialId"]}
    )
    assert rotated["__typename"] == "CredentialRotated"
    assert rotated["credential"]["label"] == "ci"
    assert rotated["clientSecret"] != old.secret
    assert sorted(await statuses(stored, agent_id)) == ["ACTIVE", "REVOKED"]
    assert (await token.post({"query": "{ viewer { id } }"})).status_code == 401
    await stored.by(Client("acme", agent_id, rotated["clientSecret"]))
    refused = await stored.change("issueToken", as_input(old))
    assert refused["__typename"] == "InvalidClient"


async def test_what_has_ended_is_neither_rotated_nor_revoked_again(stored: Asking) -> None:
    agent_id = await stored.registered()
    await stored.enabled(agent_id)
    credential_id = await only_credential(stored, agent_id)
    revoked = await stored.change("revokeCredential", {"credentialId": credential_id})
    assert revoked["__typename"] == "CredentialRevoked"
    assert revoked["credential"]["status"] == "REVOKED"
    assert revoked["credential"]["revokedAt"] is not None
    trail = await stored.running.trail(stored.admin)
    for mutation in ("rotateCredential", "revokeCredential"):
        payload = await stored.change(mutation, {"credentialId": credential_id})
        assert payload["__typename"] == "CredentialNotActive"
        assert payload["code"] == "CREDENTIAL_NOT_ACTIVE"
    assert await stored.running.trail(stored.admin) == trail


async def test_an_expired_credential_is_not_rotated(asking: Asking) -> None:
    agent_id = await asking.registered()
    expires = asking.running.clock.now + timedelta(seconds=60)
    payload = await asking.change(
        "generateCredential", {"agentId": agent_id, "expiresAt": expires.isoformat()}
    )
    asking.running.clock.advance(60)
    rotated = await asking.change(
        "rotateCredential", {"credentialId": payload["credential"]["credentialId"]}
    )
    assert rotated["__typename"] == "CredentialNotActive"


async def test_a_credential_that_is_unknown_or_another_tenant_s_is_not_found(
    stored: Asking,
) -> None:
    globex = await stored.running.onboard("globex")
    theirs = await (await stored.by(globex)).data(
        "{ viewer { credentials { nodes { credentialId } } } }"
    )
    foreign = theirs["viewer"]["credentials"]["nodes"][0]["credentialId"]
    for mutation in ("rotateCredential", "revokeCredential"):
        answers = [await stored.change(mutation, {"credentialId": c}) for c in (NOBODY, foreign)]
        assert answers[0] == answers[1]
        assert (answers[0]["__typename"], answers[0]["path"]) == ("NotFound", ["credentialId"])
    for agent_id in (NOBODY, globex.client_id):
        payload = await stored.change("generateCredential", {"agentId": agent_id})
        assert (payload["__typename"], payload["path"]) == ("NotFound", ["agentId"])
    document = "query($id: UUID!) { credential(credentialId: $id) { status } }"
    for credential_id in (NOBODY, foreign):
        assert await stored.data(document, {"id": credential_id}) == {"credential": None}


async def test_nobody_makes_a_secret_that_could_do_more_than_its_token(stored: Asking) -> None:
    narrow = await stored.by(stored.admin, "credentials:write credentials:read agents:read")
    generated = await narrow.change("generateCredential", {"agentId": stored.admin.client_id})
    assert generated["__typename"] == "ScopeExceeded"
    credential_id = await only_credential(narrow, stored.admin.client_id)
    rotated = await narrow.change("rotateCredential", {"credentialId": credential_id})
    assert rotated["__typename"] == "ScopeExceeded"
    assert await statuses(narrow, stored.admin.client_id) == ["ACTIVE"]


async def test_an_agent_manages_its_own_credentials_and_no_others(stored: Asking) -> None:
    mine = await stored.registered()
    other = await stored.registered(email="other@agents.example")
    await stored.enabled(other)
    scout = await stored.by(await stored.enabled(mine))
    theirs = await only_credential(stored, other)
    trail = await stored.running.trail(stored.admin)

    error = await scout.denied("generateCredential", {"agentId": other})
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "credentials:write")
    for mutation in ("rotateCredential", "revokeCredential"):
        payload = await scout.change(mutation, {"credentialId": theirs})
        assert payload["__typename"] == "NotFound"
    document = "query($id: UUID!) { credential(credentialId: $id) { status } }"
    assert await scout.data(document, {"id": theirs}) == {"credential": None}
    assert await stored.running.trail(stored.admin) == trail
    assert await statuses(stored, other) == ["ACTIVE"]

    own = await only_credential(stored, mine)
    assert await scout.data(document, {"id": own}) == {"credential": {"status": "ACTIVE"}}
    fresh = await scout.change("generateCredential", {"agentId": mine})
    assert fresh["__typename"] == "CredentialGenerated"
    payload = await scout.change(
        "revokeCredential", {"credentialId": fresh["credential"]["credentialId"]}
    )
    assert payload["__typename"] == "CredentialRevoked"


def as_input(client: Client) -> dict[str, str]:
    return {
        "tenant": client.slug,
        "clientId": client.client_id,
        "clientSecret": client.secret,
    }
