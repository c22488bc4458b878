"""Agents on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import TIMESTAMP

from db import lists
from db.contract import Wanted
from db.filters import AgentFilter, AgentOrder
from db.lists import ByInstant
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.postgres.connections import Changing, Reading
from db.postgres.listing import Listing, Parameters, among, given
from db.postgres.rows import AGENTS, parameters
from db.postgres.turns import held, shared
from db.records import Agent
from db.tables import agents

_INSTANT = TIMESTAMP(timezone=True)
_KEY = (agents.c.created_at, agents.c.agent_id)
_CONDITIONS = {
    "status": among(agents.c.status, "status"),
    "agent_type": among(agents.c.agent_type, "agent_type"),
    "owner": among(agents.c.owner, "owner"),
    "created_from": agents.c.created_at >= bindparam("created_from", type_=_INSTANT),
    "created_until": agents.c.created_at < bindparam("created_until", type_=_INSTANT),
}
_LISTS: Mapping[AgentOrder, Listing[Agent, ByInstant]] = {
    AgentOrder.CREATED_AT_DESC: Listing(_KEY, _CONDITIONS, descending=True),
    AgentOrder.CREATED_AT_ASC: Listing(_KEY, _CONDITIONS, descending=False),
}
_ALL = select(*AGENTS.columns(AGENTS.names))
_ID = bindparam("agent_id", type_=Uuid)
_GET = _ALL.where(agents.c.agent_id == _ID)
_HOLD = held(_GET, agents, _ID)
_SHARE = shared(_GET, agents, _ID)
_BY_EMAIL = _ALL.where(agents.c.email == bindparam("email"))
_ADD = insert(agents)
_SAVE = (
    update(agents)
    .where(agents.c.agent_id == bindparam("key", type_=Uuid))
    .returning(agents.c.agent_id)
)
_NEVER_CHANGES = ("agent_id", "email", "created_at")


class PostgresAgentReader:
    def __init__(self, tenant: TenantPrefix, reading: Reading) -> None:
        self._tenant = tenant
        self._reading = reading

    async def get(self, agent_id: UUID) -> Agent | None:
        rows = await self._reading.rows(_GET, {"agent_id": agent_id})
        return AGENTS.record(rows[0]) if rows else None

    async def get_many(
        self, agent_ids: Collection[UUID], wanted: Wanted = None
    ) -> Mapping[UUID, Agent]:
        names = AGENTS.wanted(wanted)
        rows = await self._reading.rows(_many(names), {"agent_ids": list(set(agent_ids))})
        found = (AGENTS.record(row, names) for row in rows)
        return {agent.agent_id: agent for agent in found}

    async def by_email(self, email: str) -> Agent | None:
        rows = await self._reading.rows(_BY_EMAIL, {"email": email})
        return AGENTS.record(rows[0]) if rows else None

    async def page(
        self,
        request: PageRequest,
        filter: AgentFilter = AgentFilter(),
        order: AgentOrder = AgentOrder.CREATED_AT_DESC,
        wanted: Wanted = None,
    ) -> Page[Agent]:
        names = AGENTS.wanted(wanted)
        return await _LISTS[order].page(
            self._reading,
            lists.agents(self._tenant, filter, order),
            request,
            _given(filter),
            names,
            lambda row: AGENTS.record(row, names),
        )

    async def count(self, filter: AgentFilter = AgentFilter(), cap: int = 10_000) -> int:
        return await _LISTS[AgentOrder.CREATED_AT_DESC].count(self._reading, _given(filter), cap)


class PostgresAgentStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, agent: Agent) -> None:
        await self._changing.rows(_ADD, parameters(agent))

    async def get(self, agent_id: UUID) -> Agent | None:
        rows = await self._changing.rows(_HOLD, {"agent_id": agent_id})
        return AGENTS.record(rows[0]) if rows else None

    async def share(self, agent_id: UUID) -> Agent | None:
        rows = await self._changing.rows(_SHARE, {"agent_id": agent_id})
        return AGENTS.record(rows[0]) if rows else None

    async def save(self, agent: Agent) -> None:
        changed = parameters(agent)
        for name in _NEVER_CHANGES:
            del changed[name]
        await self._changing.change(
            _SAVE, {**changed, "key": agent.agent_id}, missing="there is no such agent"
        )


@lru_cache(256)
def _many(names: tuple[str, ...]) -> Select[Any]:
    return select(*AGENTS.columns(names)).where(among(agents.c.agent_id, "agent_ids"))


def _given(filter: AgentFilter) -> Parameters:
    return given(
        status=filter.status,
        agent_type=filter.agent_type,
        owner=filter.owner,
        created_from=filter.created_at.gte,
        created_until=filter.created_at.lt,
    )
