"""The kill switch of an agent, and of a tenant's whole fleet."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET

from db import errors, records
from gateway.graphql.access import AGENT, OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import InvalidInput, InvalidTransition, NotFound, ScopeExceeded
from gateway.graphql.pages import described, given
from gateway.services.kill_switch import Switched

if TYPE_CHECKING:
    from gateway.graphql.agents import Agent
    from gateway.graphql.tenants import Tenant

WRITE = "agents:write"


@strawberry.type(description="A kill switch that is engaged.")
class KillSwitch:
    engaged_at: datetime
    reason: str


def switch_of(record: records.Agent | records.Tenant) -> KillSwitch | None:
    """None while it is not engaged."""
    if record.kill_switched_at is None:
        return None
    return KillSwitch(engaged_at=record.kill_switched_at, reason=record.kill_switch_reason or "")


@strawberry.input
class EngageKillSwitchInput:
    reason: str = strawberry.field(
        description="For the trail and `killSwitch`; 1 to 500 characters."
    )
    agent_id: UUID | None = strawberry.field(
        default=UNSET,
        description=(
            "The agent to stop. Left out: every agent of the tenant. Null is refused, so that an "
            "id that somebody has lost does not stop them all."
        ),
    )
    tenant: str | None = strawberry.field(
        default=UNSET,
        description="Named by the operator; an agent's is its own, and it may leave it out.",
    )


@strawberry.input
class ReleaseKillSwitchInput:
    agent_id: UUID | None = strawberry.field(
        default=UNSET,
        description=(
            "The agent that may go on. Left out: the whole tenant, which the operator alone "
            "releases. Null is refused."
        ),
    )
    tenant: str | None = strawberry.field(
        default=UNSET,
        description="Named by the operator; an agent's is its own, and it may leave it out.",
    )
    reason: str | None = strawberry.field(default=UNSET, description="For the trail.")


@strawberry.type
class _Switched:
    switched: strawberry.Private[Switched]

    @described("The tenant's.")
    def slug(self) -> str:
        return self.switched.tenant.slug

    @described("Null: the switch is that of the whole tenant.")
    def agent_id(self) -> UUID | None:
        agent = self.switched.agent
        return None if agent is None else agent.agent_id

    @guarded(AGENT, description="Null: the switch is that of the whole tenant.")
    async def agent(
        self, info: Info
    ) -> Annotated[Agent, strawberry.lazy("gateway.graphql.agents")] | None:
        return cast("Agent | None", self.switched.agent)

    @guarded(OPERATOR)
    async def tenant(
        self, info: Info
    ) -> Annotated[Tenant, strawberry.lazy("gateway.graphql.tenants")] | None:
        return cast("Tenant", self.switched.tenant)


@strawberry.type(
    description="Every token that was issued before is refused from now on, and no other is issued."
)
class KillSwitchEngaged(_Switched):
    @strawberry.field
    def kill_switch(self) -> KillSwitch:
        engaged = switch_of(self.switched.agent or self.switched.tenant)
        assert engaged is not None, "it was engaged a moment ago"
        return engaged


@strawberry.type(description="The status is what it was; tokens from before stay refused.")
class KillSwitchReleased(_Switched):
    pass


EngageKillSwitchPayload = Annotated[
    KillSwitchEngaged | InvalidInput | NotFound | InvalidTransition,
    strawberry.union("EngageKillSwitchPayload"),
]
ReleaseKillSwitchPayload = Annotated[
    KillSwitchReleased | InvalidInput | NotFound | InvalidTransition | ScopeExceeded,
    strawberry.union("ReleaseKillSwitchPayload"),
]


@strawberry.type
class KillSwitchMutations:
    @guarded(
        WRITE,
        or_operator=True,
        description=(
            "Stops an agent, or without one every agent of the tenant, the caller included. The "
            "status stays as it is; whatever it becomes, nobody acts until the switch is released. "
            "One that is engaged already is refused, after the cut was made known once more: "
            "repeat it when the first answer was UNAVAILABLE; when that cut the caller off too, "
            "the operator repeats it."
        ),
    )
    async def engage_kill_switch(
        self, info: Info, input: EngageKillSwitchInput
    ) -> EngageKillSwitchPayload:
        context = info.context
        switched = await context.gateway.kill_switch.engage(
            context.call, input.reason, agent_id=_agent(input.agent_id), slug=given(input.tenant)
        )
        return KillSwitchEngaged(switched=switched)

    @guarded(
        WRITE,
        or_operator=True,
        description=(
            "Lets an agent go on as what it was; its secrets work again, so the caller's token "
            "must cover every gateway capability of it. The tenant's own switch has cut off "
            "everybody in it, and is released by the operator alone."
        ),
    )
    async def release_kill_switch(
        self, info: Info, input: ReleaseKillSwitchInput
    ) -> ReleaseKillSwitchPayload:
        context = info.context
        switched = await context.gateway.kill_switch.release(
            context.call,
            given(input.reason),
            agent_id=_agent(input.agent_id),
            slug=given(input.tenant),
        )
        return KillSwitchReleased(switched=switched)


def _agent(agent_id: UUID | None) -> UUID | None:
    """None for one that was left out, which means them all. Raises InvalidInput for null."""
    if agent_id is None:
        raise errors.InvalidInput("agentId cannot be null; give the agent's id", ("agentId",))
    return given(agent_id)
