"""Every way to cut tokens off: how it is got ready, asked for, and asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

from tests.faults.client import Answer, Gateways
from tests.faults.ledger import Cut, Token
from tests.gateway import Client

Maker: TypeAlias = Callable[[], Awaitable[Cut | None]]

_AGAIN = 0.2  # seconds
_REGISTER = """
mutation($email: String!) {
  registerAgent(input: {email: $email, agentType: CUSTOM, version: "1.0.0", owner: "torture",
                        capabilities: ["billing:read"], deploymentEnv: STAGING}) {
    ... on AgentRegistered { agent { agentId } }
  }
}
"""
_GENERATE = """
mutation($id: UUID!) {
  generateCredential(input: {agentId: $id}) {
    ... on CredentialGenerated { credential { credentialId } clientSecret }
  }
}
"""


def _document(field: str, subject: str, kind: str = "UUID!", more: str = "") -> str:
    return (
        f"mutation($id: {kind}) {{"
        f" done: {field}(input: {{{subject}: $id{more}}}) {{ __typename }} }}"
    )


_REASON = ', reason: "torture"'
_REACTIVATE = _document("reactivateAgent", "agentId")
_RELEASE = _document("releaseKillSwitch", "agentId")
_REACTIVATE_TENANT = _document("reactivateTenant", "slug", "String!")
_RELEASE_TENANT = _document("releaseKillSwitch", "tenant", "String!")


@dataclass(frozen=True, slots=True)
class _Asking:
    """A mutation that cuts: what it answers when it has, and what when it had before."""

    document: str
    done: str
    repeated: str = "InvalidTransition"


_OF_TOKEN = _Asking(_document("revokeToken", "token", "String!"), "TokenRevoked", "TokenRevoked")
_OF_CREDENTIAL = _Asking(
    _document("revokeCredential", "credentialId"), "CredentialRevoked", "CredentialNotActive"
)
_SUSPENSION = _Asking(_document("suspendAgent", "agentId"), "AgentSuspended")
_RETIREMENT = _Asking(_document("decommissionAgent", "agentId"), "AgentDecommissioned")
_SWITCH = _Asking(_document("engageKillSwitch", "agentId", more=_REASON), "KillSwitchEngaged")
_OF_TENANT = _Asking(_document("suspendTenant", "slug", "String!"), "TenantSuspended")
_OF_FLEET = _Asking(
    _document("engageKillSwitch", "tenant", "String!", _REASON), "KillSwitchEngaged"
)


class Cutting:
    """Cuts in the tenant of `admin`, by its token `keeper`, and of whole tenants by the operator.
    A maker gets one ready, down to its tokens, or says None when nothing could be got ready."""

    def __init__(self, gateways: Gateways, admin: Client, keeper: str) -> None:
        self.gateways = gateways
        self._admin = admin
        self._keeper = keeper

    async def agent(self) -> Client | None:
        """A new agent that can prove itself."""
        registered = await self._made(_REGISTER, {"email": f"{uuid4()}@agents.example"})
        agent_id = registered.get("agent", {}).get("agentId")
        return await self._client(agent_id) if agent_id else None

    async def token_at_oauth(self, client: Client) -> Cut | None:
        token = await self._token(client)
        if token is None:
            return None

        async def ask(gateway: int, again: bool) -> bool:
            answer = await self.gateways.oauth(
                gateway, client.slug, "revoke", token.text, self._keeper
            )
            return answer.status == 200 or self._later("revoke", answer)

        return Cut("token revoked at oauth2/revoke", [token], ask)

    async def token_at_graphql(self, client: Client) -> Cut | None:
        token = await self._token(client)
        if token is None:
            return None
        return Cut("token revoked by revokeToken", [token], self._by_keeper(_OF_TOKEN, token.text))

    async def credential(self, client: Client) -> Cut | None:
        made = await self._made(_GENERATE, {"id": client.client_id})
        if not made:
            return None
        # It alone is proved below: every other of the agent's has been revoked.
        fresh = Client(client.slug, client.client_id, made["clientSecret"])
        token = await self._token(fresh)
        if token is None:
            return None
        ask = self._by_keeper(_OF_CREDENTIAL, made["credential"]["credentialId"])
        return Cut("credential revoked", [token], ask, race=self._race(fresh))

    async def suspension(self, client: Client) -> Cut | None:
        return await self._of_agent("agent suspended", client, _SUSPENSION, _REACTIVATE)

    async def switch(self, client: Client) -> Cut | None:
        return await self._of_agent("agent's kill switch engaged", client, _SWITCH, _RELEASE)

    async def retirement(self) -> Cut | None:
        client = await self.agent()
        token = await self._token(client) if client else None
        if client is None or token is None:
            return None
        ask = self._by_keeper(_RETIREMENT, client.client_id)
        return Cut("agent decommissioned", [token], ask, self._race(client))

    async def tenant(self, client: Client) -> Cut | None:
        return await self._of_tenant("tenant suspended", client, _OF_TENANT, _REACTIVATE_TENANT)

    async def fleet(self, client: Client) -> Cut | None:
        kind = "tenant's kill switch engaged"
        return await self._of_tenant(kind, client, _OF_FLEET, _RELEASE_TENANT)

    async def _of_agent(self, kind: str, client: Client, asking: _Asking, undo: str) -> Cut | None:
        token = await self._token(client)
        if token is None:
            return None
        ask = self._by_keeper(asking, client.client_id)
        return Cut(
            kind, [token], ask, self._race(client), self._undo(undo, client.client_id, self._keeper)
        )

    async def _of_tenant(self, kind: str, client: Client, asking: _Asking, undo: str) -> Cut | None:
        token = await self._token(client, alone=True)
        if token is None:
            return None
        ask = self._asking(asking, client.slug, None)
        race = self._race(client, alone=True)
        return Cut(kind, [token], ask, race, self._undo(undo, client.slug, None))

    def _by_keeper(self, asking: _Asking, subject: str) -> Callable[[int, bool], Awaitable[bool]]:
        return self._asking(asking, subject, self._keeper)

    def _asking(
        self, asking: _Asking, subject: str, by: str | None
    ) -> Callable[[int, bool], Awaitable[bool]]:
        async def ask(gateway: int, again: bool) -> bool:
            answer = await self._mutate(gateway, asking.document, subject, by)
            word = _word(answer)
            if word == asking.done or (again and word == asking.repeated):
                return True
            return self._later(asking.done, answer)

        return ask

    def _race(
        self, client: Client, *, alone: bool = False
    ) -> Callable[[int], Awaitable[Token | None]]:
        async def race(gateway: int) -> Token | None:
            keeper = None if alone else self._keeper
            return await self.gateways.login(gateway, client, keeper)

        return race

    def _later(self, what: str, answer: Answer) -> bool:
        if not answer.later:
            self.gateways.ledger.unexpected.append(f"{what}: {answer} {_word(answer)}")
        return False

    async def _token(self, client: Client, *, alone: bool = False) -> Token | None:
        keeper = None if alone else self._keeper
        return await self.gateways.login(self.gateways.any(), client, keeper)

    async def _client(self, agent_id: str) -> Client | None:
        made = await self._made(_GENERATE, {"id": agent_id})
        return Client(self._admin.slug, agent_id, made["clientSecret"]) if made else None

    async def _made(self, document: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a mutation made; empty when it could not be told."""
        answer = await self.gateways.graphql(self.gateways.any(), document, variables, self._keeper)
        (made,) = (answer.body.get("data") or {"": None}).values()
        if not made and not answer.later:
            self.gateways.ledger.unexpected.append(f"made nothing: {answer}")
        return made or {}

    def _undo(self, document: str, subject: str, by: str | None) -> Callable[[], Awaitable[None]]:
        async def undo() -> None:
            # The answer to the first may have been lost: that it is undone already is as good.
            while True:
                answer = await self._mutate(self.gateways.any(), document, subject, by)
                if _word(answer):
                    return
                self._later("undo", answer)
                await asyncio.sleep(_AGAIN)

        return undo

    async def _mutate(self, gateway: int, document: str, subject: str, by: str | None) -> Answer:
        if by is None:
            return await self.gateways.operate(gateway, document, {"id": subject})
        return await self.gateways.graphql(gateway, document, {"id": subject}, by)


def _word(answer: Answer) -> str | None:
    """The type that a mutation answered with."""
    done = (answer.body.get("data") or {}).get("done")
    return str(done["__typename"]) if done else None
