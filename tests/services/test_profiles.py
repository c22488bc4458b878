"""Whatever can be said of an agent is checked, and reaches its record."""

from __future__ import annotations

from dataclasses import fields

from db.records import Agent, AgentType, DeploymentEnv
from gateway.graphql.profiles import RegisterAgentInput, UpdateAgentInput
from gateway.services.profiles import AgentChanges, Checked, checked

NEVER_SAID = {
    "agent_id", "email", "status", "created_at", "updated_at", "composite_score",
    "governance_level", "token_generation", "kill_switched_at", "kill_switch_reason",
}  # fmt: skip
EVERYTHING = AgentChanges(
    agent_type=AgentType.CUSTOM,
    version="1.0.0",
    capabilities=["a:b"],
    owner="o",
    deployment_env=DeploymentEnv.STAGING,
    name="n",
    framework="f",
    description="d",
    channels=["c"],
    tools=["t"],
    permissions={"p": 1},
    metadata={"m": 1},
)


def test_a_field_of_an_agent_is_told_from_the_inputs_to_the_record() -> None:
    said = {each.name for each in fields(Agent)} - NEVER_SAID

    assert set(AgentChanges.__annotations__) == said
    assert set(Checked.__annotations__) == said
    assert set(EVERYTHING) == set(checked(EVERYTHING)) == said
    assert {each.name for each in fields(RegisterAgentInput)} == said | {"email"}
    assert {each.name for each in fields(UpdateAgentInput)} == said | {"agent_id"}
