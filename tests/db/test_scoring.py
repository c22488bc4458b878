"""The score of a profile: seven dimensions, their weights, and the five levels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.records import JSON, Agent
from db.scoring import WEIGHTS, score
from tests.contract.cast import new_agent

BARE = replace(
    new_agent(), owner="team", version="1.0.0", name=None, framework=None, description=None,
    channels=(), tools=(), permissions=None, metadata=None,
)  # fmt: skip
FULL = replace(
    BARE,
    name="Screener",
    framework="mastra",
    description="reads applications",
    version="2.1.0",
    channels=("slack",),
    tools=("search", "mail"),
    permissions={"files": "read"},
    metadata={"hasGuardrails": True, "hasObservability": True},
)


def test_a_bare_profile_has_what_its_owner_and_the_audit_log_give_it() -> None:
    found = score(BARE, has_credential=False)

    assert found.dimensions == {
        "identity": 20,
        "permissions": 20,
        "guardrails": 0,
        "observability": 30,
        "auditability": 65,
        "compliance": 35,
        "lifecycle": 45,
    }
    # (20·1.5 + 20·1.5 + 0·1.3 + 30·1.2 + 65 + 35 + 45·0.8) / 8.3 = 27.95
    assert (found.composite, found.level) == (28, 1)


def test_a_full_profile_with_a_credential_has_everything() -> None:
    found = score(FULL, has_credential=True)

    assert found.dimensions == dict.fromkeys(WEIGHTS, 100)
    assert (found.composite, found.level) == (100, 4)


@pytest.mark.parametrize(
    ("said", "dimension", "points"),
    [
        ({"name": "n"}, "identity", 35),
        ({"framework": "langchain"}, "identity", 35),
        ({"framework": "unheard-of"}, "identity", 20),
        ({"framework": "unknown"}, "identity", 20),
        ({"version": "1.0.1"}, "identity", 30),
        ({"description": "d"}, "auditability", 75),
        ({"channels": ("mail",)}, "lifecycle", 55),
        ({"tools": tuple("abcde")}, "permissions", 40),
        ({"tools": tuple("abcdef")}, "permissions", 30),
        ({"tools": tuple("abcdefghijklmnop")}, "permissions", 20),
        ({"tools": tuple("abcdefghijklmnopqrstu")}, "permissions", 10),
        ({"tools": tuple("abcdefghijklmnopqrstu"), "permissions": {}}, "permissions", 50),
        ({"framework": "mastra"}, "observability", 50),
        ({"framework": "openai"}, "observability", 40),
        ({"metadata": {}}, "observability", 40),
        ({"metadata": {"hasObservability": True}}, "observability", 80),
        ({"metadata": {"hasGuardrails": True}}, "guardrails", 40),
        ({"metadata": {"hasGuardrails": "yes"}}, "guardrails", 0),
        ({"metadata": ["hasGuardrails"]}, "guardrails", 0),
    ],
)
def test_each_statement_is_worth_its_points(
    said: dict[str, JSON], dimension: str, points: int
) -> None:
    agent: Agent = replace(BARE, **said)  # type: ignore[arg-type]  # values of several fields

    assert score(agent, has_credential=False).dimensions[dimension] == points


@pytest.mark.parametrize(("dimension", "more"), [
    ("identity", 20), ("permissions", 20), ("guardrails", 20), ("compliance", 15),
    ("observability", 0), ("auditability", 0), ("lifecycle", 0),
])  # fmt: skip
def test_a_credential_is_observed_and_worth_its_points(dimension: str, more: int) -> None:
    without = score(BARE, has_credential=False).dimensions[dimension]

    assert score(BARE, has_credential=True).dimensions[dimension] == without + more


@given(
    st.booleans(),
    st.sets(st.sampled_from(["name", "framework", "description", "channels", "tools",
                             "permissions", "metadata", "version"])),
)  # fmt: skip
def test_saying_more_never_leads_out_of_bounds_and_the_level_follows_the_score(
    has_credential: bool, said: set[str]
) -> None:
    agent = replace(BARE, **{name: getattr(FULL, name) for name in said})
    found = score(agent, has_credential=has_credential)

    assert 0 <= found.composite <= 100
    assert all(0 <= points <= 100 for points in found.dimensions.values())
    bounds = ((0, 20), (21, 40), (41, 60), (61, 80), (81, 100))
    low, high = bounds[found.level]
    assert low <= found.composite <= high
