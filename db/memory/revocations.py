"""Revoked tokens in memory, and the standing of a live one."""

from __future__ import annotations

from uuid import UUID

from db.contract import AgentStore, CredentialStore
from db.memory.agents import Agents
from db.memory.credentials import Credentials
from db.memory.units import Life
from db.records import Agent, Credential, Revocation, Standing


class MemoryRevocations:
    def __init__(
        self, revoked: dict[UUID, Revocation], agents: Agents, credentials: Credentials
    ) -> None:
        self._revoked = revoked
        self._agents = agents
        self._credentials = credentials

    async def contains(self, jti: UUID) -> bool:
        return jti in self._revoked

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return _standing(
            jti in self._revoked,
            self._agents.get(agent_id),
            self._credentials.get(credential_id),
        )


class MemoryRevocationStore:
    def __init__(
        self,
        revoked: dict[UUID, Revocation],
        agents: AgentStore,
        credentials: CredentialStore,
        life: Life,
    ) -> None:
        self._revoked = revoked
        self._agents = agents
        self._credentials = credentials
        self._life = life
        self._added: dict[UUID, Revocation] = {}

    async def add(self, revocation: Revocation) -> bool:
        self._life.go_on()
        if revocation.jti in self._revoked or revocation.jti in self._added:
            return False
        self._added[revocation.jti] = revocation
        return True

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return _standing(
            jti in self._revoked or jti in self._added,
            await self._agents.get(agent_id),
            await self._credentials.get(credential_id),
        )

    def keep(self) -> None:
        self._revoked.update(self._added)


def _standing(revoked: bool, agent: Agent | None, credential: Credential | None) -> Standing | None:
    if agent is None:
        return None
    own = credential is not None and credential.client_id == agent.agent_id
    return Standing(
        revoked=revoked,
        agent_status=agent.status,
        token_generation=agent.token_generation,
        credential=credential if own else None,
    )
