"""Inside a unit: the rows that it changes, and whether its caller may still act at all.

A token is checked when its request arrives. What the request then does may take a while: a password
hash, a batch, a queue. Whoever cuts the caller off meanwhile must not see it act afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from db.contract import UnitOfWork
from db.errors import Unauthenticated
from db.records import Agent
from gateway.services.call import Call

_NO_TOKEN = UUID(int=0)


async def hold(unit: UnitOfWork, call: Call, *changing: UUID) -> Mapping[UUID, Agent]:
    """Holds the rows of the agents that are `changing`, and the caller's own against a change.

    Until the unit ends nobody can suspend the caller or its tenant, or revoke its token or
    credential; whoever did so before makes this raise Unauthenticated. Returns those of `changing`
    that exist.
    """
    caller = call.agent
    of_agent, of_tenant = caller.generation
    tenant = await unit.tenant()
    if tenant is None or not tenant.is_active or tenant.is_killed:
        raise _not_accepted()
    if tenant.token_generation > of_tenant:
        raise _not_accepted()
    held: dict[UUID, Agent] = {}
    # In one order everywhere, so that two units never wait for each other.
    for agent_id in sorted({caller.agent_id, *changing}):
        if agent_id not in changing:
            await unit.agents.share(agent_id)
        elif agent := await unit.agents.get(agent_id):
            held[agent_id] = agent
    standing = await unit.revocations.standing(
        caller.jti or _NO_TOKEN, caller.agent_id, caller.credential_id
    )
    if standing is None or not standing.admits(caller.agent_id, of_agent):
        raise _not_accepted()
    return held


def _not_accepted() -> Unauthenticated:
    return Unauthenticated("the access token is not accepted")
