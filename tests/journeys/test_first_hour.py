"""What a newcomer does first: an agent gets an identity, a credential, a token, and a trail."""

from __future__ import annotations

from tests.gateway import Client
from tests.journeys.served import Served

REGISTER = """
mutation($input: RegisterAgentInput!) {
  registerAgent(input: $input) {
    ... on AgentRegistered { agent { agentId email status compositeScore } }
    ... on UserError { code message }
  }
}
"""
GENERATE = """
mutation($agentId: UUID!) {
  generateCredential(input: {agentId: $agentId, label: "first"}) {
    ... on CredentialGenerated { clientId clientSecret credential { credentialId label status } }
    ... on UserError { code message }
  }
}
"""
TRAIL = (
    "{ auditEvents(first: 50) { nodes { action outcome agentId ipAddress userAgent metadata } } }"
)
VIEWER = "{ viewer { email capabilities } }"


def test_an_agent_gets_an_identity_a_credential_a_token_and_a_trail(served: Served) -> None:
    admin = served.onboard("acme")
    token = served.token(admin)

    registered = served.graphql(
        REGISTER,
        {
            "input": {
                "email": "screener@acme.example",
                "agentType": "SCREENER",
                "version": "1.0.0",
                "owner": "talent",
                "capabilities": ["resume:read", "audit:read"],
                "deploymentEnv": "PRODUCTION",
            }
        },
        token,
    )["data"]["registerAgent"]["agent"]
    assert (registered["email"], registered["status"]) == ("screener@acme.example", "ACTIVE")

    generated = served.graphql(GENERATE, {"agentId": registered["agentId"]}, token)
    credential = generated["data"]["generateCredential"]
    assert credential["clientId"] == registered["agentId"]
    assert (credential["credential"]["label"], credential["credential"]["status"]) == (
        "first",
        "ACTIVE",
    )

    agent = Client("acme", credential["clientId"], credential["clientSecret"])
    own = served.token(agent)
    assert served.graphql(VIEWER, token=own)["data"]["viewer"] == {
        "email": "screener@acme.example",
        "capabilities": ["resume:read", "audit:read"],
    }
    refused = served.graphql(REGISTER, {"input": None}, own)
    assert refused["errors"]

    answer = served.oauth(admin, "introspect", {"token": own})
    assert answer.json()["client_id"] == registered["agentId"]
    assert served.oauth(agent, "revoke", {"token": own}).status_code == 200
    again = served.token(agent)
    gone = served.graphql(VIEWER, token=own)
    assert [error["extensions"]["code"] for error in gone["errors"]] == ["UNAUTHENTICATED"]

    nodes = served.graphql(TRAIL, token=again)["data"]["auditEvents"]["nodes"]
    story = [(node["action"], node["agentId"]) for node in reversed(nodes)]
    assert story == [
        ("AGENT_CREATED", admin.client_id),
        ("CREDENTIAL_GENERATED", admin.client_id),
        ("TOKEN_ISSUED", admin.client_id),
        ("AGENT_CREATED", admin.client_id),
        ("CREDENTIAL_GENERATED", admin.client_id),
        ("TOKEN_ISSUED", agent.client_id),
        ("TOKEN_INTROSPECTED", admin.client_id),
        ("TOKEN_REVOKED", agent.client_id),
        ("TOKEN_ISSUED", agent.client_id),
    ]
    assert {node["outcome"] for node in nodes} == {"SUCCESS"}
    assert {node["ipAddress"] for node in nodes} == {"127.0.0.1"}
    assert all("httpx" in node["userAgent"] for node in nodes)
    for secret in (admin.secret, agent.secret, own, again):
        assert secret not in repr(nodes)


def test_head_and_get_differ_by_the_body_alone(served_in_memory: Served) -> None:
    served_in_memory.onboard("acme")
    for path in (
        "/t/acme/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server/t/acme",
        "/health/live",
    ):
        got, headed = served_in_memory.http.get(path), served_in_memory.http.head(path)
        assert got.status_code == 200
        assert got.json()
        assert headed.status_code == 200
        assert headed.content == b""
        assert headed.headers["content-length"] == got.headers["content-length"]
