"""Revoked tokens in memory, and the standing of a live one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import nsmallest
from operator import attrgetter
from uuid import UUID

from db.contract import AgentStore, CredentialStore
from db.cuts import (
    CUT_LIFE,
    LEAST_ID,
    Cut,
    CutKind,
    Cuts,
    as_text,
    cut_until,
    token_until,
)
from db.memory.agents import Agents
from db.memory.copies import fresh
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

    async def get(self, jti: UUID) -> Revocation | None:
        return self._revoked.get(jti)

    async def batch(self, after: UUID, limit: int) -> Sequence[Revocation]:
        beyond = (jti for jti in self._revoked if jti > after)
        return [self._revoked[jti] for jti in nsmallest(limit, beyond)]

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return _standing(
            jti in self._revoked,
            self._agents.get(agent_id),
            self._credentials.get(credential_id),
        )

    async def cuts(
        self, kind: CutKind, now: datetime, since: datetime | None, after: UUID, limit: int
    ) -> Cuts:
        return self._cuts(kind, now, since, after, limit)

    async def recent_cuts(self, now: datetime, since: datetime, limit: int) -> Sequence[Cuts]:
        found = (self._cuts(kind, now, since, LEAST_ID, limit) for kind in CutKind)
        return [cuts for cuts in found if cuts]

    def _cuts(
        self, kind: CutKind, now: datetime, since: datetime | None, after: UUID, limit: int
    ) -> Cuts:
        every = {
            CutKind.TOKEN: self._tokens,
            CutKind.CREDENTIAL: self._revoked_credentials,
            CutKind.AGENT: self._raised_agents,
        }[kind](now)
        found = sorted(
            (cut for at, cut in every if (since is None or at >= since) and cut.id > after),
            key=attrgetter("id"),
        )
        return Cuts(kind, "".join(map(as_text, found[:limit])))

    def _tokens(self, now: datetime) -> Iterator[tuple[datetime, Cut]]:
        for each in self._revoked.values():
            if each.expires_at > now:
                yield each.revoked_at, Cut(each.jti, token_until(each.expires_at))

    def _revoked_credentials(self, now: datetime) -> Iterator[tuple[datetime, Cut]]:
        for each in self._credentials.every():
            at = each.revoked_at
            if each.was_cut and at is not None and at > now - CUT_LIFE:
                yield at, Cut(each.credential_id, cut_until(at))

    def _raised_agents(self, now: datetime) -> Iterator[tuple[datetime, Cut]]:
        for each in self._agents.every():
            at = each.updated_at
            if each.token_generation > 0 and at > now - CUT_LIFE:
                yield at, Cut(each.agent_id, cut_until(at), each.token_generation)


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
    own = credential if credential and credential.client_id == agent.agent_id else None
    return Standing(
        revoked=revoked,
        agent_status=agent.status,
        token_generation=agent.token_generation,
        credential=own and fresh(own),
        killed=agent.kill_switched_at is not None,
    )
