"""How well an agent is governed, from its declared profile: a score of 0–100 and a level of 0–4.

Seven dimensions of 0–100 points, weighted. Authentication and audit log are observed here, not
declared; guardrails and observability are read from the agent's own `metadata`.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.records import Agent

FRAMEWORKS = frozenset({
    "mastra", "langchain", "crewai", "autogen", "openai", "vercel-ai", "mcp", "bedrock", "genkit",
    "semantic-kernel", "anthropic", "mistral", "ollama", "e2b", "composio", "custom",
})  # fmt: skip

WEIGHTS = {
    "identity": 1.5,
    "permissions": 1.5,
    "guardrails": 1.3,
    "observability": 1.2,
    "auditability": 1.0,
    "compliance": 1.0,
    "lifecycle": 0.8,
}
_LEVEL_CEILINGS = (20, 40, 60, 80)


@dataclass(frozen=True, slots=True)
class Score:
    """`dimensions` has the points of each dimension, under the names of WEIGHTS."""

    composite: int
    level: int
    dimensions: dict[str, int]


def score(agent: Agent, *, has_credential: bool) -> Score:
    """The score of `agent`; `has_credential` says whether it has a usable one."""
    dimensions = {
        name: max(0, min(100, points)) for name, points in _points(agent, has_credential).items()
    }
    weighted = sum(WEIGHTS[name] * points for name, points in dimensions.items())
    composite = int(weighted / sum(WEIGHTS.values()) + 0.5)
    level = sum(composite > ceiling for ceiling in _LEVEL_CEILINGS)
    return Score(composite, level, dimensions)


def _points(agent: Agent, authenticated: bool) -> dict[str, int]:
    declared = agent.metadata if isinstance(agent.metadata, dict) else {}
    guardrails = declared.get("hasGuardrails") is True
    observable = declared.get("hasObservability") is True
    audited = True
    owned = bool(agent.owner)
    known = agent.framework in FRAMEWORKS
    mastra = agent.framework == "mastra"
    described = bool(agent.description)
    permitted = agent.permissions is not None
    speaks = bool(agent.channels)
    tools = len(agent.tools)
    return {
        "identity": 15 * bool(agent.name)
        + 20 * owned
        + 15 * known
        + 10 * (agent.version != "1.0.0")
        + 10 * described
        + 20 * authenticated
        + 10 * speaks,
        "permissions": 30 * permitted
        + 20 * (tools > 0)
        + (20 if tools <= 5 else 10 if tools <= 15 else 0)
        - 10 * (tools > 20 and not permitted)
        + 20 * authenticated
        + 10 * speaks,
        "guardrails": 40 * guardrails
        + 20 * authenticated
        + 20 * mastra
        + 10 * (1 <= tools <= 15)
        + 10 * permitted,
        "observability": 40 * observable
        + 30 * audited
        + (20 if mastra else 10 if known else 0)
        + 10 * (agent.metadata is not None),
        "auditability": 40 * audited + 25 * observable + 15 * owned + 10 + 10 * described,
        "compliance": 25 * audited
        + 20 * guardrails
        + 15 * authenticated
        + 15 * observable
        + 15 * permitted
        + 10 * owned,
        "lifecycle": 25 * owned
        + 20
        + 15 * described
        + 15 * known
        + 15 * (agent.metadata is not None)
        + 10 * speaks,
    }
