"""Agents in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from uuid import UUID

from db import lists
from db.contract import Wanted
from db.errors import EmailTaken
from db.filters import AgentFilter, AgentOrder
from db.memory.copies import fresh, showing, stored
from db.memory.drafts import Draft
from db.memory.rows import Rows, Selection
from db.memory.units import Life
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import Agent

_EVERY = AgentFilter()
_LEAST = UUID(int=0)


class Agents(Rows[Agent, lists.ByInstant]):
    """The table; `emails` is its unique index, to which an address once added belongs for ever."""

    def __init__(self) -> None:
        super().__init__(lists.agent_position)
        self.emails: dict[str, UUID] = {}


class MemoryAgents:
    def __init__(self, tenant: TenantPrefix, rows: Agents) -> None:
        self._tenant = tenant
        self._rows = rows

    async def get(self, agent_id: UUID) -> Agent | None:
        agent = self._rows.get(agent_id)
        return agent and fresh(agent)

    async def get_many(
        self, agent_ids: Collection[UUID], wanted: Wanted = None
    ) -> Mapping[UUID, Agent]:
        show = showing(Agent, wanted, lists.AGENT_KEYS) or fresh
        found = ((agent_id, self._rows.get(agent_id)) for agent_id in set(agent_ids))
        return {agent_id: show(agent) for agent_id, agent in found if agent is not None}

    async def by_email(self, email: str) -> Agent | None:
        agent_id = self._rows.emails.get(email)
        return None if agent_id is None else await self.get(agent_id)

    async def page(
        self,
        request: PageRequest,
        filter: AgentFilter = _EVERY,
        order: AgentOrder = AgentOrder.CREATED_AT_DESC,
        wanted: Wanted = None,
    ) -> Page[Agent]:
        return self._select(filter).page(
            lists.agents(self._tenant, filter, order),
            request,
            descending=order is AgentOrder.CREATED_AT_DESC,
            show=showing(Agent, wanted, lists.AGENT_KEYS) or fresh,
        )

    async def count(self, filter: AgentFilter = _EVERY, cap: int = 10_000) -> int:
        return self._select(filter).count(cap)

    def _select(self, filter: AgentFilter) -> Selection[Agent, lists.ByInstant]:
        span = filter.created_at
        return self._rows.select(
            start=None if span.gte is None else (span.gte, _LEAST),
            end=None if span.lt is None else (span.lt, _LEAST),
            matches=None if filter == _EVERY else filter.matches,
        )


class MemoryAgentStore:
    def __init__(self, rows: Agents, life: Life) -> None:
        self._rows = rows
        self._life = life
        self._draft = Draft(rows, "agent", life)
        self._emails: dict[str, UUID] = {}

    async def add(self, agent: Agent) -> None:
        self._draft.new(agent)
        if agent.email in self._emails or agent.email in self._rows.emails:
            raise self._life.fail(EmailTaken("another agent has this address", ("email",)))
        self._emails[agent.email] = agent.agent_id
        self._draft.put(stored(agent))

    async def get(self, agent_id: UUID) -> Agent | None:
        agent = self._draft.get(agent_id)
        return agent and fresh(agent)

    async def share(self, agent_id: UUID) -> Agent | None:
        return await self.get(agent_id)

    async def save(self, agent: Agent) -> None:
        first = self._draft.known(agent.agent_id)
        self._draft.put(replace(stored(agent), email=first.email, created_at=first.created_at))

    def keep(self) -> None:
        self._draft.keep()
        self._rows.emails.update(self._emails)
