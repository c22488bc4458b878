"""Agents: read one by one and in pages, registered, changed, suspended, brought back, retired."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET
from strawberry.scalars import JSON

from db import errors, filters, records
from gateway.graphql import enums, selection
from gateway.graphql.access import AGENT, Access, guarded
from gateway.graphql.audit import AuditEventConnection, audit_events_of
from gateway.graphql.context import Context, Info
from gateway.graphql.credentials import CredentialConnection, credentials_of
from gateway.graphql.errors import (
    EmailTaken,
    InvalidInput,
    InvalidTransition,
    NotFound,
    ScopeExceeded,
    member,
)
from gateway.graphql.filters import AgentAuditEventFilter, AgentCredentialFilter, AgentFilter
from gateway.graphql.kill_switch import KillSwitch, switch_of
from gateway.graphql.nodes import FINDERS, Node
from gateway.graphql.pages import (
    Connection,
    Count,
    Counter,
    Cursor,
    described,
    given,
    page_request,
)
from gateway.graphql.profiles import (
    MAX_BATCH,
    RegisterAgentInput,
    RegisterAgentsInput,
    UpdateAgentInput,
)

READ, WRITE = "agents:read", "agents:write"


@strawberry.type(description="A registered identity.")
class Agent(Node):
    """A record stands for it: fields without a resolver are read from the record by name."""

    agent_id: UUID
    email: str
    agent_type: enums.AgentType
    version: str
    capabilities: list[str]
    owner: str
    deployment_env: enums.DeploymentEnv
    status: enums.AgentStatus
    created_at: datetime
    updated_at: datetime
    name: str | None
    framework: str | None
    description: str | None
    channels: list[str]
    tools: list[str]
    permissions: JSON | None
    metadata: JSON | None
    composite_score: int = strawberry.field(description="0 to 100, from the declared profile.")

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, records.Agent)

    @strawberry.field
    def governance_level(parent: strawberry.Parent[records.Agent]) -> enums.GovernanceLevel:
        return enums.GovernanceLevel(parent.governance_level)

    @described(
        "Null while its own is not engaged. While it is, the agent is stopped whatever its status; "
        "so it is, too, by the switch of its whole tenant, which is not shown here."
    )
    def kill_switch(self) -> KillSwitch | None:
        return switch_of(cast(records.Agent, self))

    @guarded("credentials:read", or_self=True, description="Newest first.")
    async def credentials(
        self,
        info: Info,
        filter: AgentCredentialFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> CredentialConnection:
        request, filter = page_request(first, after, last, before), given(filter)
        meant = filters.CredentialFilter() if filter is None else filter.meant()
        return await credentials_of(info, self.agent_id, meant, request)

    @guarded("audit:read", description="What the agent itself has done, newest first.")
    async def audit_events(
        self,
        info: Info,
        filter: AgentAuditEventFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> AuditEventConnection:
        request, filter = page_request(first, after, last, before), given(filter)
        meant = filters.AuditEventFilter() if filter is None else filter.meant()
        return await audit_events_of(info, self.agent_id, meant, request)


def shown(agent: records.Agent) -> Agent:
    return cast(Agent, agent)


def _shown_if_any(agent: records.Agent | None) -> Agent | None:
    return cast("Agent | None", agent)


async def _find(context: Context, agent_id: UUID) -> Node | None:
    return _shown_if_any(await context.loaders.agent(agent_id, None))


FINDERS["Agent"] = (Access(requires=READ), _find)


@strawberry.type
class AgentConnection(Connection[Agent]):
    pass


@strawberry.type
class AgentQueries:
    @guarded(AGENT, description="The agent whose token this is.")
    async def viewer(self, info: Info) -> Agent:
        context = info.context
        agent = await context.gateway.agents.get(context.call, context.call.agent.agent_id)
        assert agent is not None, "its token was accepted a moment ago, and no agent is deleted"
        return shown(agent)

    @guarded(READ)
    async def agent(self, info: Info, agent_id: UUID) -> Agent | None:
        context = info.context
        return _shown_if_any(await context.gateway.agents.get(context.call, agent_id))

    @guarded(READ, description="The address exactly as it was registered.")
    async def agent_by_email(self, info: Info, email: str) -> Agent | None:
        context = info.context
        return _shown_if_any(await context.gateway.agents.by_email(context.call, email))

    @guarded(READ, description="Newest first by default.")
    async def agents(
        self,
        info: Info,
        filter: AgentFilter | None = UNSET,
        order_by: enums.AgentOrder | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> AgentConnection:
        context, filter = info.context, given(filter)
        request = page_request(first, after, last, before)
        order = given(order_by) or filters.AgentOrder.CREATED_AT_DESC
        meant = filters.AgentFilter() if filter is None else filter.meant()
        page = await context.gateway.agents.page(
            context.call, request, meant, order, selection.AGENT.wanted(info, selection.ROWS)
        )
        counter = Counter(lambda: context.gateway.agents.count(context.call, meant))
        return AgentConnection(page=page, counter=counter)


@strawberry.input
class SuspendAgentInput:
    agent_id: UUID


@strawberry.input
class ReactivateAgentInput:
    agent_id: UUID


@strawberry.input
class DecommissionAgentInput:
    agent_id: UUID


@strawberry.type
class AgentRegistered:
    agent: Agent


@strawberry.type
class AgentUpdated:
    agent: Agent


@strawberry.type(description="Its live tokens are refused from now on.")
class AgentSuspended:
    agent: Agent


@strawberry.type(
    description=(
        "It may ask for new tokens, once no kill switch is engaged; those from before stay refused."
    )
)
class AgentReactivated:
    agent: Agent


@strawberry.type(description="For good, with all its credentials and live tokens.")
class AgentDecommissioned:
    agent: Agent


RegisterAgentPayload = Annotated[
    AgentRegistered | InvalidInput | ScopeExceeded | EmailTaken,
    strawberry.union("RegisterAgentPayload"),
]
UpdateAgentPayload = Annotated[
    AgentUpdated | InvalidInput | NotFound | InvalidTransition | ScopeExceeded,
    strawberry.union("UpdateAgentPayload"),
]
SuspendAgentPayload = Annotated[
    AgentSuspended | NotFound | InvalidTransition, strawberry.union("SuspendAgentPayload")
]
ReactivateAgentPayload = Annotated[
    AgentReactivated | NotFound | InvalidTransition | ScopeExceeded,
    strawberry.union("ReactivateAgentPayload"),
]
DecommissionAgentPayload = Annotated[
    AgentDecommissioned | NotFound | InvalidTransition,
    strawberry.union("DecommissionAgentPayload"),
]


@strawberry.type
class AgentsRegistered:
    results: list[RegisterAgentPayload | None] = strawberry.field(
        description=(
            "One for each agent of the input, in its order. Null where it could not be tried: "
            "`errors` says why."
        )
    )


RegisterAgentsPayload = Annotated[
    AgentsRegistered | InvalidInput, strawberry.union("RegisterAgentsPayload")
]


async def _register(context: Context, input: RegisterAgentInput) -> AgentRegistered:
    """Raises as AgentService.register."""
    agent = await context.gateway.agents.register(context.call, input.meant())
    return AgentRegistered(agent=shown(agent))


@strawberry.type
class AgentMutations:
    @guarded(WRITE)
    async def register_agent(self, info: Info, input: RegisterAgentInput) -> RegisterAgentPayload:
        return await _register(info.context, input)

    @guarded(WRITE, description="Each is registered or refused by itself, one after the other.")
    async def register_agents(
        self, info: Info, input: RegisterAgentsInput
    ) -> RegisterAgentsPayload:
        if not 1 <= len(input.agents) <= MAX_BATCH:
            raise errors.InvalidInput(f"register 1 to {MAX_BATCH} agents at once", ("agents",))
        results: list[object] = []
        for each in input.agents:
            try:
                results.append(await _register(info.context, each))
            except errors.Refused as refused:
                results.append(member(refused) or refused)
            except (errors.Unavailable, errors.Denied) as stopped:
                # What has been registered is told; what is left would fail the same way.
                results += [stopped] * (len(input.agents) - len(results))
                break
        return AgentsRegistered(results=cast("list[RegisterAgentPayload | None]", results))

    @guarded(
        WRITE,
        description=(
            "An agent that loses a capability loses its live tokens with it. The caller's token "
            "must cover every gateway capability that is given or taken away."
        ),
    )
    async def update_agent(self, info: Info, input: UpdateAgentInput) -> UpdateAgentPayload:
        context = info.context
        agent = await context.gateway.agents.update(context.call, input.agent_id, input.meant())
        return AgentUpdated(agent=shown(agent))

    @guarded(WRITE)
    async def suspend_agent(self, info: Info, input: SuspendAgentInput) -> SuspendAgentPayload:
        context = info.context
        agent = await context.gateway.agents.suspend(context.call, input.agent_id)
        return AgentSuspended(agent=shown(agent))

    @guarded(WRITE)
    async def reactivate_agent(
        self, info: Info, input: ReactivateAgentInput
    ) -> ReactivateAgentPayload:
        context = info.context
        agent = await context.gateway.agents.reactivate(context.call, input.agent_id)
        return AgentReactivated(agent=shown(agent))

    @guarded(WRITE)
    async def decommission_agent(
        self, info: Info, input: DecommissionAgentInput
    ) -> DecommissionAgentPayload:
        context = info.context
        agent = await context.gateway.agents.decommission(context.call, input.agent_id)
        return AgentDecommissioned(agent=shown(agent))
