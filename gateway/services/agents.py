"""Agents: registered, changed, suspended, brought back, retired.

Status: active ⇄ suspended, either → decommissioned, which is final. Leaving `active`, and losing a
capability, raises the agent's token generation: every token issued before is refused at once. The
kill switch (`kill_switch`) stands beside the status: while it is engaged the status changes as
ever, and the agent stays stopped whatever its status becomes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from uuid import UUID, uuid4

from db import grammar
from db.contract import AgentReader, Storage, UnitOfWork
from db.errors import InvalidTransition, NotFound, ScopeExceeded
from db.filters import AgentFilter, AgentOrder
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import (
    Agent,
    AgentStatus,
    AuditAction,
    AuditEvent,
    JSONObject,
)
from db.revocations import Revocations
from db.scoring import score
from gateway.auth.principal import beyond
from gateway.services.call import Call
from gateway.services.profiles import AgentChanges, NewAgent, checked
from gateway.services.standing import hold


class AgentService:
    def __init__(self, storage: Storage, revocations: Revocations) -> None:
        self._storage = storage
        self._revocations = revocations

    async def get(self, call: Call, agent_id: UUID) -> Agent | None:
        return await self._reader(call).get(agent_id)

    async def get_many(
        self, call: Call, agent_ids: Collection[UUID], wanted: Collection[str] | None = None
    ) -> Mapping[UUID, Agent]:
        return await self._reader(call).get_many(agent_ids, wanted)

    async def by_email(self, call: Call, email: str) -> Agent | None:
        """Raises InvalidInput."""
        return await self._reader(call).by_email(grammar.email(email))

    async def page(
        self,
        call: Call,
        request: PageRequest,
        filter: AgentFilter,
        order: AgentOrder,
        wanted: Collection[str] | None = None,
    ) -> Page[Agent]:
        """Raises InvalidCursor."""
        return await self._reader(call).page(request, filter, order, wanted)

    async def count(self, call: Call, filter: AgentFilter) -> int:
        """At most COUNT_CAP + 1, which stands for more than COUNT_CAP."""
        return await self._reader(call).count(filter, COUNT_CAP)

    async def register(self, call: Call, new: NewAgent) -> Agent:
        """Raises InvalidInput, ScopeExceeded, EmailTaken."""
        agent = new_agent(call, new)
        require_cover(call, frozenset(agent.capabilities))
        async with self._storage.unit(call.tenant.prefix) as unit:
            await hold(unit, call)
            await unit.agents.add(agent)
            await unit.audit.append(created_event(call, agent))
        return agent

    async def update(self, call: Call, agent_id: UUID, changes: AgentChanges) -> Agent:
        """An agent that loses a capability loses its live tokens with it.

        Raises InvalidInput, NotFound, InvalidTransition (decommissioned), ScopeExceeded, and
        Unavailable while not everybody knows of that loss; repeat it.
        """
        said = checked(changes)
        prefix = call.tenant.prefix
        async with self._storage.unit(prefix) as unit:
            agent = await _held(unit, call, agent_id)
            if agent.status is AgentStatus.DECOMMISSIONED:
                raise InvalidTransition("a decommissioned agent cannot be changed")
            changed = replace(agent, **said)
            before, after = frozenset(agent.capabilities), frozenset(changed.capabilities)
            # What is taken away counts too: a secret made for the agent while it has less would be
            # worth more as soon as somebody puts that right.
            require_cover(call, before ^ after)
            usable = await unit.credentials.of_client(agent_id, call.now)
            changed = scored(changed, has_credential=bool(usable))
            names = sorted(n for n in said if getattr(changed, n) != getattr(agent, n))
            if not names:
                changed = agent
            else:
                changed = replace(
                    changed,
                    updated_at=call.now,
                    token_generation=agent.token_generation + bool(before - after),
                )
                await unit.agents.save(changed)
                await unit.audit.append(
                    call.event(
                        AuditAction.AGENT_UPDATED,
                        {"agentId": str(agent_id), "changed": list(names)},
                    )
                )
        if "capabilities" in said:
            # What says nothing new may repeat what could not be acknowledged.
            await self._publish(call, changed if before - after else agent)
        return changed

    async def suspend(self, call: Call, agent_id: UUID) -> Agent:
        """Raises NotFound, InvalidTransition, and Unavailable as `update`."""
        return await self._leave_active(
            call, agent_id, AgentStatus.SUSPENDED, AuditAction.AGENT_SUSPENDED
        )

    async def reactivate(self, call: Call, agent_id: UUID) -> Agent:
        """Tokens from before the suspension stay refused, but the agent's secrets work again: the
        caller gives what they give; they do so once no kill switch is engaged either. Raises
        NotFound, InvalidTransition, ScopeExceeded."""
        async with self._storage.unit(call.tenant.prefix) as unit:
            agent = await _held(unit, call, agent_id)
            _require_transition(agent, AgentStatus.ACTIVE)
            require_cover(call, frozenset(agent.capabilities))
            changed = replace(agent, status=AgentStatus.ACTIVE, updated_at=call.now)
            await unit.agents.save(changed)
            await unit.audit.append(
                call.event(AuditAction.AGENT_REACTIVATED, {"agentId": str(agent_id)})
            )
        return changed

    async def decommission(self, call: Call, agent_id: UUID) -> Agent:
        """For good, with all its credentials. Raises as `suspend`."""
        return await self._leave_active(
            call, agent_id, AgentStatus.DECOMMISSIONED, AuditAction.AGENT_DECOMMISSIONED
        )

    async def _leave_active(
        self, call: Call, agent_id: UUID, status: AgentStatus, action: AuditAction
    ) -> Agent:
        try:
            changed = await self._left_active(call, agent_id, status, action)
        except InvalidTransition:
            # It has left already, and whoever asked for that may have been told to ask again.
            agent = await self._reader(call).get(agent_id)
            if agent is not None and not agent.is_active:
                await self._publish(call, agent)
            raise
        await self._publish(call, changed)
        return changed

    async def _left_active(
        self, call: Call, agent_id: UUID, status: AgentStatus, action: AuditAction
    ) -> Agent:
        async with self._storage.unit(call.tenant.prefix) as unit:
            agent = await _held(unit, call, agent_id)
            _require_transition(agent, status)
            changed = replace(
                agent,
                status=status,
                updated_at=call.now,
                token_generation=agent.token_generation + 1,
            )
            await unit.agents.save(changed)
            subject: JSONObject = {"agentId": str(agent_id)}
            events = [call.event(action, {**subject, "previousStatus": agent.status.value})]
            if status is AgentStatus.DECOMMISSIONED:
                revoked = await unit.credentials.revoke_all(agent_id, call.now)
                events += [
                    call.event(
                        AuditAction.CREDENTIAL_REVOKED, {**subject, "credentialId": str(each)}
                    )
                    for each in revoked
                ]
            await unit.audit.append(*events)
        return changed

    async def _publish(self, call: Call, agent: Agent) -> None:
        """Refuses every token of an older generation than the agent's; those of its credentials
        are all among them, so however many end with it, this is one cut."""
        if agent.token_generation > 0:
            await self._revocations.publish_generation(
                call.tenant.prefix,
                agent.agent_id,
                agent.token_generation,
                agent.updated_at,
                call.now,
            )

    def _reader(self, call: Call) -> AgentReader:
        return self._storage.read(call.tenant.prefix).agents


def new_agent(call: Call, new: NewAgent) -> Agent:
    """The agent as it will be registered. Raises InvalidInput."""
    email = grammar.email(new.email)
    agent = Agent(
        agent_id=uuid4(),
        email=email,
        status=AgentStatus.ACTIVE,
        created_at=call.now,
        updated_at=call.now,
        **checked(new.profile),
    )
    return scored(agent, has_credential=False)


def created_event(call: Call, agent: Agent, actor: UUID | None = None) -> AuditEvent:
    return call.event(
        AuditAction.AGENT_CREATED,
        {
            "agentId": str(agent.agent_id),
            "email": agent.email,
            "agentType": agent.agent_type.value,
            "capabilities": list(agent.capabilities),
        },
        agent_id=actor,
    )


async def _held(unit: UnitOfWork, call: Call, agent_id: UUID) -> Agent:
    agent = (await hold(unit, call, agent_id)).get(agent_id)
    if agent is None:
        raise NotFound("there is no such agent", ("agentId",))
    return agent


def _require_transition(agent: Agent, status: AgentStatus) -> None:
    allowed = {
        AgentStatus.ACTIVE: {AgentStatus.SUSPENDED, AgentStatus.DECOMMISSIONED},
        AgentStatus.SUSPENDED: {AgentStatus.ACTIVE, AgentStatus.DECOMMISSIONED},
        AgentStatus.DECOMMISSIONED: set[AgentStatus](),
    }
    if status not in allowed[agent.status]:
        raise InvalidTransition(
            f"the agent is {agent.status.value} and cannot become {status.value}"
        )


def require_cover(call: Call, given: frozenset[str]) -> None:
    """Raises ScopeExceeded unless the caller's token holds what its act would give."""
    if missing := beyond(call.agent.scope, given):
        raise ScopeExceeded(
            f"your token does not hold {' '.join(sorted(missing))}, so it cannot give it",
            ("capabilities",),
        )


def scored(agent: Agent, *, has_credential: bool) -> Agent:
    result = score(agent, has_credential=has_credential)
    return replace(agent, composite_score=result.composite, governance_level=result.level)
