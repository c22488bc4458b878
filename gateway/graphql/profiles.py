"""What a client says of an agent: all of it at registration, some of it at an update."""

from __future__ import annotations

from typing import cast
from uuid import UUID

import strawberry
from strawberry import UNSET
from strawberry.scalars import JSON
from strawberry.utils.str_converters import to_camel_case

from db.errors import InvalidInput
from gateway.graphql import enums
from gateway.services.profiles import AgentChanges, NewAgent

MAX_BATCH = 100
_PROFILE = tuple(AgentChanges.__annotations__)
_CAN_BE_NULL = frozenset({"name", "framework", "description", "permissions", "metadata"})
_VERSION = "A semantic version, such as `1.4.0`."
_CAPABILITIES = (
    "Each a `resource:action`: what the agent may ask for as the scope of its tokens. The caller's "
    "own token must hold those of the gateway itself."
)


@strawberry.input
class RegisterAgentInput:
    email: str = strawberry.field(description="Unique within the tenant, for ever.")
    agent_type: enums.AgentType
    version: str = strawberry.field(description=_VERSION)
    capabilities: list[str] = strawberry.field(description=_CAPABILITIES)
    owner: str = strawberry.field(description="The team or organisation that answers for it.")
    deployment_env: enums.DeploymentEnv
    name: str | None = UNSET
    framework: str | None = UNSET
    description: str | None = UNSET
    channels: list[str] | None = UNSET
    tools: list[str] | None = UNSET
    permissions: JSON | None = UNSET
    metadata: JSON | None = UNSET

    def meant(self) -> NewAgent:
        """Null is as good as left out: there is nothing yet that it could clear."""
        said = {name: getattr(self, name) for name in _PROFILE}
        profile = {n: value for n, value in said.items() if value not in (None, UNSET)}
        return NewAgent(self.email, cast(AgentChanges, profile))


@strawberry.input
class RegisterAgentsInput:
    agents: list[RegisterAgentInput] = strawberry.field(description=f"1 to {MAX_BATCH} of them.")


@strawberry.input(
    description="What is left out stays. Null clears what can be null, and is refused elsewhere."
)
class UpdateAgentInput:
    agent_id: UUID
    agent_type: enums.AgentType | None = UNSET
    version: str | None = strawberry.field(default=UNSET, description=_VERSION)
    capabilities: list[str] | None = strawberry.field(default=UNSET, description=_CAPABILITIES)
    owner: str | None = UNSET
    deployment_env: enums.DeploymentEnv | None = UNSET
    name: str | None = UNSET
    framework: str | None = UNSET
    description: str | None = UNSET
    channels: list[str] | None = UNSET
    tools: list[str] | None = UNSET
    permissions: JSON | None = UNSET
    metadata: JSON | None = UNSET

    def meant(self) -> AgentChanges:
        """Raises InvalidInput."""
        said = {name: getattr(self, name) for name in _PROFILE}
        changes = {name: value for name, value in said.items() if value is not UNSET}
        for name, value in changes.items():
            if value is None and name not in _CAN_BE_NULL:
                path = to_camel_case(name)
                raise InvalidInput(f"{path} cannot be null; leave it out to keep it", (path,))
        return cast(AgentChanges, changes)
