"""The kill switch: one agent, or every agent of a tenant, stopped at once and for a reason.

It stands beside the status and leaves it as it is: what was is back when the switch is released,
whatever became of the status meanwhile. However many agents and tokens there are, engaging is one
row raised to another token generation, and one key in the cache; nothing is gone through.

An agent with `agents:write` engages and releases for its own tenant, the operator for any. The
fleet's switch cuts the tokens of all who could release it, so that is the operator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from db import grammar
from db.contract import JointUnit, Storage
from db.errors import Forbidden, InvalidInput, InvalidTransition, NotFound
from db.namespace import TenantPrefix, prefix_problem
from db.records import (
    NIL_AGENT,
    Agent,
    AgentStatus,
    AuditAction,
    JSONObject,
    Severity,
    Tenant,
    TenantStatus,
)
from db.revocations import Revocations
from gateway.auth.principal import Operator
from gateway.services.agents import require_cover
from gateway.services.call import Call
from gateway.services.standing import hold
from gateway.services.tenants import hold_tenant

_LONGEST_REASON = 500
_SERVED = (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)


@dataclass(frozen=True, slots=True)
class Switched:
    """Whose switch it is, as it is now; `agent` None: the whole tenant's."""

    tenant: Tenant
    agent: Agent | None


class KillSwitchService:
    def __init__(self, storage: Storage, revocations: Revocations) -> None:
        self._storage = storage
        self._revocations = revocations

    async def engage(
        self, call: Call, reason: str, *, agent_id: UUID | None = None, slug: str | None = None
    ) -> Switched:
        """Refuses every token of the agent, or of the whole tenant without one, from now on, and
        gives no other. `slug` is what the operator has to name.

        Asked again it changes nothing, but makes the cut known once more, for whoever was answered
        Unavailable. Raises InvalidInput, NotFound, InvalidTransition, Unavailable.
        """
        reason = _checked(reason)
        prefix = await self._prefix(call, slug)
        if agent_id is None:
            return await self._engage_fleet(call, prefix, reason)
        return await self._engage_agent(call, prefix, agent_id, reason)

    async def release(
        self,
        call: Call,
        reason: str | None = None,
        *,
        agent_id: UUID | None = None,
        slug: str | None = None,
    ) -> Switched:
        """What was before is back, but no token from before. The caller gives what an agent's
        secrets give, as whoever reactivates it.

        Raises InvalidInput, NotFound, InvalidTransition, ScopeExceeded, and Forbidden to an agent
        that means its tenant's.
        """
        reason = None if reason is None else _checked(reason)
        if agent_id is None and not isinstance(call.principal, Operator):
            raise Forbidden("the switch of a whole tenant is released by the operator alone")
        prefix = await self._prefix(call, slug)
        if agent_id is None:
            return await self._release_fleet(call, prefix, reason)
        return await self._release_agent(call, prefix, agent_id, reason)

    async def _engage_agent(
        self, call: Call, prefix: TenantPrefix, agent_id: UUID, reason: str
    ) -> Switched:
        async with self._storage.joint_unit(prefix) as unit:
            tenant, agent = await _held(unit, call, agent_id)
            problem = _engaging_problem(agent)
            if problem is None:
                agent = replace(
                    agent,
                    kill_switched_at=call.now,
                    kill_switch_reason=reason,
                    token_generation=agent.token_generation + 1,
                    updated_at=call.now,
                )
                await unit.agents.save(agent)
                await _tell(
                    unit, call, tenant, AuditAction.KILL_SWITCH_ENGAGED, agent, {"reason": reason}
                )
        if agent.token_generation > 0:
            await self._revocations.publish_generation(
                prefix, agent_id, agent.token_generation, agent.updated_at, call.now
            )
        if problem is not None:
            raise InvalidTransition(problem, ("agentId",))
        return Switched(tenant, agent)

    async def _engage_fleet(self, call: Call, prefix: TenantPrefix, reason: str) -> Switched:
        # Whoever is changing something of the tenant's holds its row too: they are waited for, and
        # who comes later finds the switch engaged.
        async with self._storage.joint_unit(prefix) as unit:
            tenant = await hold_tenant(unit.registry, prefix.value, "tenant")
            await _admit(unit, call, tenant)
            repeated = tenant.is_killed
            if not repeated:
                tenant = replace(
                    tenant,
                    kill_switched_at=call.now,
                    kill_switch_reason=reason,
                    token_generation=tenant.token_generation + 1,
                    updated_at=call.now,
                )
                await unit.registry.tenants.save(tenant)
                await _tell(
                    unit, call, tenant, AuditAction.KILL_SWITCH_ENGAGED, None, {"reason": reason}
                )
        await self._revocations.publish_generation(
            prefix, None, tenant.token_generation, tenant.updated_at, call.now
        )
        if repeated:
            raise InvalidTransition("the kill switch is engaged already", ("tenant",))
        return Switched(tenant, None)

    async def _release_agent(
        self, call: Call, prefix: TenantPrefix, agent_id: UUID, reason: str | None
    ) -> Switched:
        async with self._storage.joint_unit(prefix) as unit:
            tenant, agent = await _held(unit, call, agent_id)
            if agent.kill_switched_at is None:
                raise InvalidTransition(
                    "the kill switch of the agent itself is not engaged", ("agentId",)
                )
            if not isinstance(call.principal, Operator):
                require_cover(call, frozenset(agent.capabilities))
            said: JSONObject = {
                "reason": reason,
                "engagedAt": agent.kill_switched_at.isoformat(),
                "status": agent.status.value,
            }
            agent = replace(
                agent, kill_switched_at=None, kill_switch_reason=None, updated_at=call.now
            )
            await unit.agents.save(agent)
            await _tell(unit, call, tenant, AuditAction.KILL_SWITCH_RELEASED, agent, said)
        return Switched(tenant, agent)

    async def _release_fleet(
        self, call: Call, prefix: TenantPrefix, reason: str | None
    ) -> Switched:
        async with self._storage.joint_unit(prefix) as unit:
            tenant = await hold_tenant(unit.registry, prefix.value, "tenant")
            await _admit(unit, call, tenant)
            if tenant.kill_switched_at is None:
                raise InvalidTransition("the kill switch is not engaged", ("tenant",))
            said: JSONObject = {
                "reason": reason,
                "engagedAt": tenant.kill_switched_at.isoformat(),
                "status": tenant.status.value,
            }
            tenant = replace(
                tenant, kill_switched_at=None, kill_switch_reason=None, updated_at=call.now
            )
            await unit.registry.tenants.save(tenant)
            await _tell(unit, call, tenant, AuditAction.KILL_SWITCH_RELEASED, None, said)
        return Switched(tenant, None)

    async def _prefix(self, call: Call, slug: str | None) -> TenantPrefix:
        """Of the tenant that is meant: an agent's is its own, whatever it names."""
        if not isinstance(call.principal, Operator):
            if slug not in (None, call.tenant.slug):
                raise _no_such_tenant()
            return call.tenant.prefix
        if slug is None:
            raise InvalidInput("the operator says which tenant is meant", ("tenant",))
        tenant = None
        if prefix_problem(slug) is None:
            tenant = await self._storage.registry.tenants.get(slug)
        if tenant is None:
            raise _no_such_tenant()
        # Asked again when the row is held; one that has no tables can have no unit.
        _require_served(tenant)
        return tenant.prefix


async def _held(unit: JointUnit, call: Call, agent_id: UUID) -> tuple[Tenant, Agent]:
    """The tenant, which is not going to change, and the agent, which is."""
    tenant = await unit.tenant()
    if tenant is None:
        raise _no_such_tenant()
    agent = (await _admit(unit, call, tenant, agent_id)).get(agent_id)
    if agent is None:
        raise NotFound("there is no such agent", ("agentId",))
    return tenant, agent


async def _admit(
    unit: JointUnit, call: Call, tenant: Tenant, *changing: UUID
) -> Mapping[UUID, Agent]:
    """The rows of the agents that are `changing`, held, if the caller may act on them now."""
    if not isinstance(call.principal, Operator):
        return await hold(unit, call, *changing)
    _require_served(tenant)
    held = [await unit.agents.get(each) for each in sorted(changing)]
    return {agent.agent_id: agent for agent in held if agent is not None}


def _require_served(tenant: Tenant) -> None:
    if tenant.status not in _SERVED:
        raise InvalidTransition(
            f"the tenant is {tenant.status.value}: none of its agents can act", ("tenant",)
        )


async def _tell(
    unit: JointUnit,
    call: Call,
    tenant: Tenant,
    action: AuditAction,
    agent: Agent | None,
    said: JSONObject,
) -> None:
    """In the tenant's trail, in nobody's name when it was the operator, and then in its own too."""
    by_operator = isinstance(call.principal, Operator)
    scope: JSONObject = (
        {"scope": "fleet"} if agent is None else {"scope": "agent", "agentId": str(agent.agent_id)}
    )
    event = call.event(
        action,
        {**scope, **said, "by": "operator" if by_operator else "agent"},
        agent_id=NIL_AGENT if by_operator else None,
        severity=Severity.CRITICAL,
    )
    await unit.audit.append(event)
    if by_operator:
        await unit.registry.operator_events.append(
            call.operator_event(action.value, tenant.slug, {**scope, **said})
        )


def _engaging_problem(agent: Agent) -> str | None:
    if agent.kill_switched_at is not None:
        return "the kill switch is engaged already"
    if agent.status is AgentStatus.DECOMMISSIONED:
        return "a decommissioned agent is stopped for good"
    return None


def _checked(reason: str) -> str:
    if not reason.strip():
        raise InvalidInput("say why", ("reason",))
    return grammar.text(reason, "reason", most=_LONGEST_REASON)


def _no_such_tenant() -> NotFound:
    return NotFound("there is no such tenant", ("tenant",))
