"""Clients of /graphql: documents in, answers out, and the mutations ready made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tests.gateway import Client, RunningGateway

JSON = "application/json"
RESPONSE_JSON = "application/graphql-response+json"

AGENT = "agentId email status"
CREDENTIAL = "credentialId clientId label status expiresAt revokedAt"
SIGNING_KEY = "kid algorithm status createdAt changedAt readyAt"
TENANT = "slug status statusReason removesAt"
# What is asked of each mutation when it succeeds.
SUCCESSES = {
    "registerAgent": f"... on AgentRegistered {{ agent {{ {AGENT} }} }}",
    "registerAgents": f"""... on AgentsRegistered {{ results {{
        __typename ... on AgentRegistered {{ agent {{ {AGENT} }} }}
        ... on UserError {{ message code path }} }} }}""",
    "updateAgent": f"... on AgentUpdated {{ agent {{ {AGENT} }} }}",
    "suspendAgent": f"... on AgentSuspended {{ agent {{ {AGENT} }} }}",
    "reactivateAgent": f"... on AgentReactivated {{ agent {{ {AGENT} }} }}",
    "decommissionAgent": f"... on AgentDecommissioned {{ agent {{ {AGENT} }} }}",
    "engageKillSwitch": "... on KillSwitchEngaged { slug agentId killSwitch { engagedAt reason } }",
    "releaseKillSwitch": "... on KillSwitchReleased { slug agentId }",
    "generateCredential": f"""... on CredentialGenerated {{
        credential {{ {CREDENTIAL} }} clientId clientSecret }}""",
    "rotateCredential": f"""... on CredentialRotated {{
        credential {{ {CREDENTIAL} }} clientSecret }}""",
    "revokeCredential": f"... on CredentialRevoked {{ credential {{ {CREDENTIAL} }} }}",
    "issueToken": "... on TokenIssued { accessToken tokenType expiresIn scope }",
    "introspectToken": """active clientId scope tokenType expiresAt issuedAt issuer audience jti
        credentialId""",
    "revokeToken": "... on TokenRevoked { active }",
    "onboardTenant": """... on TenantOnboarded {
        tenant { slug displayName status } clientId clientSecret }""",
    "updateTenant": "... on TenantUpdated { tenant { slug displayName retentionDays } }",
    "suspendTenant": f"... on TenantSuspended {{ tenant {{ {TENANT} }} }}",
    "reactivateTenant": f"... on TenantReactivated {{ tenant {{ {TENANT} }} }}",
    "removeTenant": f"... on TenantRemovalRequested {{ tenant {{ {TENANT} }} }}",
    "resetTenantAdministrator": f"""... on TenantAdministratorReset {{
        tenant {{ {TENANT} }} clientId clientSecret }}""",
    "publishSigningKey": f"... on SigningKeyPublished {{ signingKey {{ {SIGNING_KEY} }} }}",
    "activateSigningKey": f"... on SigningKeyActivated {{ signingKey {{ {SIGNING_KEY} }} }}",
    "retireSigningKey": f"... on SigningKeyRetired {{ signingKey {{ {SIGNING_KEY} }} }}",
    "runJob": "... on JobQueued { work { key state tenant } }",
}


def profile(**changes: Any) -> dict[str, Any]:
    """An input for registerAgent, with the least that it must say."""
    return {
        "email": "scout@agents.example",
        "agentType": "SCREENER",
        "version": "1.0.0",
        "capabilities": ["billing:read"],
        "owner": "the suite",
        "deploymentEnv": "STAGING",
    } | changes


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks with `token`, or as nobody without one."""

    running: RunningGateway
    admin: Client
    token: str | None = None

    async def by(self, client: Client, scope: str | None = None) -> Asking:
        """The same, with a fresh token of that client."""
        return replace(self, token=await self.running.token(client, scope))

    @property
    def operator(self) -> Asking:
        return replace(self, token=self.running.operator_token)

    @property
    def nobody(self) -> Asking:
        return replace(self, token=None)

    async def post(
        self, body: object = None, *, content: bytes | None = None, **headers: str
    ) -> httpx.Response:
        """Headers are named with underscores; an empty one is not sent."""
        sent = {"content-type": JSON, "accept": JSON, "authorization": self._authorization}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        url = "/graphql"
        if content is None:
            request = self.running.client.build_request("POST", url, json=body, headers=sent)
        else:
            request = self.running.client.build_request("POST", url, content=content, headers=sent)
        if "accept" not in sent:
            del request.headers["accept"]
        return await self.running.client.send(request)

    @property
    def _authorization(self) -> str:
        return f"Bearer {self.token}" if self.token else ""

    async def ask(
        self, document: str, variables: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The whole answer."""
        answer = await self.post({"query": document, "variables": variables})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def data(
        self, document: str, variables: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The data of an answer without errors."""
        body = await self.ask(document, variables)
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data

    async def error(
        self, document: str, variables: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The one error of an answer, its extensions beside it but for the request's id."""
        body = await self.ask(document, variables)
        assert len(body.get("errors", [])) == 1, body
        error: dict[str, Any] = body["errors"][0]
        extensions: dict[str, Any] = error.pop("extensions")
        assert extensions.pop("requestId")
        return {**error, **extensions}

    async def code(self, document: str, variables: Mapping[str, Any] | None = None) -> str:
        code: str = (await self.error(document, variables))["code"]
        return code

    async def change(self, mutation: str, input: Mapping[str, Any]) -> dict[str, Any]:
        """The payload of a mutation that met no error outside its union."""
        data = await self.data(change(mutation), {"input": input})
        payload: dict[str, Any] = data[mutation]
        return payload

    async def denied(self, mutation: str, input: Mapping[str, Any]) -> dict[str, Any]:
        """The error of a mutation that never came as far as its union."""
        return await self.error(change(mutation), {"input": input})

    async def registered(self, **changes: Any) -> str:
        """The id of an agent that has just been registered."""
        payload = await self.change("registerAgent", profile(**changes))
        assert payload["__typename"] == "AgentRegistered", payload
        agent_id: str = payload["agent"]["agentId"]
        return agent_id

    async def enabled(self, agent_id: str) -> Client:
        """The agent, with a credential that has just been generated."""
        payload = await self.change("generateCredential", {"agentId": agent_id})
        assert payload["__typename"] == "CredentialGenerated", payload
        return Client(self.admin.slug, payload["clientId"], payload["clientSecret"])


def change(mutation: str) -> str:
    """A document with one mutation, whose input is a variable."""
    input_type = mutation[0].upper() + mutation[1:] + "Input!"
    refused = "" if mutation in ("introspectToken", "revokeToken") else REFUSAL
    return (
        f"mutation($input: {input_type}) {{ {mutation}(input: $input) "
        f"{{ __typename {SUCCESSES[mutation]} {refused} }} }}"
    )


REFUSAL = "... on UserError { message code path }"
