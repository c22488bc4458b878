"""Revoked tokens in memory, and the standing of a live one."""

from __future__ import annotations

from uuid import UUID

from db.memory.agents import Agents
from db.memory.credentials import Credentials
from db.memory.units import Life
from db.records import Revocation, Standing


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
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        credential = self._credentials.get(credential_id)
        return Standing(
            revoked=jti in self._revoked,
            agent_status=agent.status,
            token_generation=agent.token_generation,
            credential=credential if credential and credential.client_id == agent_id else None,
        )


class MemoryRevocationStore:
    def __init__(self, revoked: dict[UUID, Revocation], life: Life) -> None:
        self._revoked = revoked
        self._life = life
        self._added: dict[UUID, Revocation] = {}

    async def add(self, revocation: Revocation) -> bool:
        self._life.go_on()
        if revocation.jti in self._revoked or revocation.jti in self._added:
            return False
        self._added[revocation.jti] = revocation
        return True

    def keep(self) -> None:
        self._revoked.update(self._added)
