"""What is said of an agent, by its registration or an update, checked value by value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from db import grammar
from db.records import JSON, AgentType, DeploymentEnv


class AgentChanges(TypedDict, total=False):
    """What an update may change: what is absent stays, None clears."""

    agent_type: AgentType
    version: str
    capabilities: list[str]
    owner: str
    deployment_env: DeploymentEnv
    name: str | None
    framework: str | None
    description: str | None
    channels: list[str]
    tools: list[str]
    permissions: JSON
    metadata: JSON


class Checked(TypedDict, total=False):
    """The same, as a record holds it."""

    agent_type: AgentType
    version: str
    capabilities: tuple[str, ...]
    owner: str
    deployment_env: DeploymentEnv
    name: str | None
    framework: str | None
    description: str | None
    channels: tuple[str, ...]
    tools: tuple[str, ...]
    permissions: JSON
    metadata: JSON


@dataclass(frozen=True, slots=True)
class NewAgent:
    """What a registration says of an agent; the address is for ever."""

    email: str
    profile: AgentChanges


def checked(changes: AgentChanges) -> Checked:
    """Raises InvalidInput."""
    found = Checked()
    if "agent_type" in changes:
        found["agent_type"] = changes["agent_type"]
    if "deployment_env" in changes:
        found["deployment_env"] = changes["deployment_env"]
    if "version" in changes:
        found["version"] = grammar.version(changes["version"])
    if "capabilities" in changes:
        found["capabilities"] = grammar.capabilities(changes["capabilities"])
    if "owner" in changes:
        found["owner"] = grammar.owner(changes["owner"])
    if "name" in changes:
        found["name"] = _text_or_none(changes["name"], "name", 128)
    if "framework" in changes:
        found["framework"] = _text_or_none(changes["framework"], "framework", 64)
    if "description" in changes:
        found["description"] = _text_or_none(changes["description"], "description", 4096)
    if "channels" in changes:
        found["channels"] = grammar.words(changes["channels"], "channels")
    if "tools" in changes:
        found["tools"] = grammar.words(changes["tools"], "tools")
    if "permissions" in changes:
        found["permissions"] = grammar.json(changes["permissions"], "permissions")
    if "metadata" in changes:
        found["metadata"] = grammar.json(changes["metadata"], "metadata")
    return found


def _text_or_none(value: str | None, path: str, most: int) -> str | None:
    return None if value is None else grammar.text(value, path, most=most)
