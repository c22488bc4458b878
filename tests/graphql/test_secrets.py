"""A secret is in one payload, once, and in no other answer, log line or row of the trail."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from db.pages import PageRequest
from tests.gateway import OPERATOR_TOKEN, Client
from tests.graphql.asking import Asking

SHOW_ALL = """{
  agents { nodes { agentId email name description permissions metadata capabilities
    credentials { nodes { id credentialId clientId label status createdAt expiresAt revokedAt
      lastUsedAt } }
    auditEvents { nodes { id action metadata ipAddress userAgent eventType policyRuleId } } } }
  auditEvents(first: 100) { nodes { action outcome metadata ipAddress userAgent } }
  viewer { credentials { nodes { credentialId label } } }
}"""


class Heard:
    """Every body that was answered, in order."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def times(self, secret: str) -> int:
        return sum(body.count(secret) for body in self.bodies)


@pytest.fixture
def heard(stored: Asking) -> Heard:
    heard = Heard()

    async def keep(response: Any) -> None:
        await response.aread()
        heard.bodies.append(response.text)

    stored.running.client.event_hooks["response"].append(keep)
    return heard


async def test_each_secret_is_shown_in_one_payload_and_nowhere_else(
    stored: Asking, heard: Heard
) -> None:
    with capture_logs() as logs:
        onboarded = await stored.operator.change(
            "onboardTenant",
            {"slug": "globex", "displayName": "G", "adminEmail": "root@globex.example"},
        )
        root = await stored.by(Client("globex", onboarded["clientId"], onboarded["clientSecret"]))
        agent_id = await root.registered()
        generated = await root.change("generateCredential", {"agentId": agent_id, "label": "ci"})
        credential = {"credentialId": generated["credential"]["credentialId"]}
        rotated = await root.change("rotateCredential", credential)
        client = {"tenant": "globex", "clientId": agent_id, "clientSecret": rotated["clientSecret"]}
        issued = await root.nobody.change("issueToken", client)
        token = issued["accessToken"]
        await root.change("introspectToken", {"token": token})
        wrong = "sk_live_" + "f" * 64
        await root.nobody.change("issueToken", client | {"clientSecret": wrong})
        await root.nobody.change("issueToken", client | {"clientId": wrong})
        await root.change("revokeToken", {"token": token})
        await root.change("rotateCredential", credential)
        await root.change("revokeCredential", credential)
        await root.data(SHOW_ALL)
        reset = await root.operator.change("resetTenantAdministrator", {"slug": "globex"})
        root = await stored.by(Client("globex", reset["clientId"], reset["clientSecret"]))
        await root.data(SHOW_ALL)
        await root.operator.data("{ tenants { nodes { slug displayName } } }")
    secrets = [
        onboarded["clientSecret"], generated["clientSecret"], rotated["clientSecret"], token,
        reset["clientSecret"],
    ]  # fmt: skip
    assert len(set(secrets)) == 5
    assert [heard.times(secret) for secret in secrets] == [1, 1, 1, 1, 1]
    assert heard.times(wrong) == 0

    storage = stored.running.gateway.storage
    acted = await storage.registry.operator_events.page(PageRequest(first=100))
    trail = await stored.running.trail(Client("globex", "", ""))
    kept = msgspec.json.encode([trail, acted.items]).decode()
    told = json.dumps(logs, default=str)
    for secret in [*secrets, wrong, OPERATOR_TOKEN, root.token or "", "$2b$"]:
        assert secret not in kept
        assert secret not in told
    # No answer holds a hash either.
    assert heard.times("$2b$") == 0


async def test_what_is_presented_in_place_of_a_client_id_is_kept_as_a_digest(
    stored: Asking,
) -> None:
    secret = stored.admin.secret
    await stored.nobody.change(
        "issueToken", {"tenant": "acme", "clientId": secret, "clientSecret": "x"}
    )
    document = """{ auditEvents(filter: {action: {in: [AUTH_FAILED]}}) { nodes {
        agentId agent { id } outcome severity metadata } } }"""
    [event] = (await stored.data(document))["auditEvents"]["nodes"]
    assert event["agentId"] == "00000000-0000-0000-0000-000000000000"
    assert (event["agent"], event["outcome"], event["severity"]) == (None, "FAILURE", "WARNING")
    assert event["metadata"]["clientIdLength"] == len(secret)
    assert secret not in json.dumps(event)
