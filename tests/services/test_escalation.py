"""From one token nobody comes to more than it holds, whatever is asked, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from graphql import build_schema
from graphql.execution import get_directive_values
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.services import agents, kill_switch, minting
from tests.gateway import running
from tests.services.attack import (
    CONDITIONS,
    EVERYTHING,
    HONEST,
    RULES,
    Attack,
    Escalated,
    Start,
    Step,
)

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
MANAGING = ("agents:write", "credentials:write")

# What an attacker gets further with; the others mostly cut it off.
FRUITFUL = (
    "registerAgent", "updateAgent", "reactivateAgent", "releaseKillSwitch", "generateCredential",
    "generateCredential:key", "rotateCredential", "token endpoint", "token endpoint:assertion",
)  # fmt: skip

sets = st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=5, unique=True)
some = st.integers(0, 11)
steps = st.lists(
    st.builds(
        Step,
        rule=st.sampled_from([*RULES, *HONEST, *FRUITFUL, *FRUITFUL]),
        token=some,
        agent=some,
        thing=some,
        capabilities=sets,
    ),
    min_size=4,
    max_size=16,
)


@st.composite
def starts(draw: st.DrawFn) -> Start:
    """Most tokens can manage agents: who holds another has little to try."""
    own, managing = draw(sets), draw(st.integers(0, 3))
    if managing:
        own = list(dict.fromkeys([*MANAGING, *own]))
    scope = draw(st.lists(st.sampled_from(own), min_size=1, max_size=6, unique=True))
    if managing > 1:
        scope = list(dict.fromkeys([*MANAGING, *scope]))
    others = draw(st.lists(st.tuples(sets, st.sampled_from(CONDITIONS)), min_size=1, max_size=3))
    return Start([(own, "active"), *others], scope)


async def attacked(start: Start, taken: list[Step]) -> int:
    """How many of the attacker's requests did something. Raises Escalated."""
    async with running() as gateway:
        attack = await Attack.begin(gateway, "acme", start)
        for step in taken:
            await attack.take(step)
        return attack.done


def property_over(examples: int, *, shrink: bool = True) -> Callable[[], None]:
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(starts(), steps)
    def no_sequence_of_requests_gives_more_than_the_first_token_holds(
        start: Start, taken: list[Step]
    ) -> None:
        asyncio.run(attacked(start, taken))

    return no_sequence_of_requests_gives_more_than_the_first_token_holds


def test_no_sequence_of_requests_gives_more_than_the_first_token_holds() -> None:
    property_over(120)()


LAX = {
    "whoever manages credentials makes a secret for anybody": (minting, "beyond"),
    "whoever manages agents gives any capability": (agents, "require_cover"),
    "whoever manages agents releases any of them": (kill_switch, "require_cover"),
}


@pytest.mark.parametrize("hole", LAX)
def test_and_where_there_is_a_hole_it_is_found(hole: str) -> None:
    """The proof that the property can fail: each check is taken away in turn."""
    module, name = LAX[hole]
    with (
        patch.object(module, name, lambda *_: frozenset[str]()),
        pytest.raises(Escalated, match="beyond"),
    ):
        property_over(600, shrink=False)()


def test_everything_that_a_tenant_s_callers_can_change_is_tried() -> None:
    mutation, directive = SCHEMA.mutation_type, SCHEMA.get_directive("access")
    assert mutation is not None
    assert directive is not None
    open_to_them = set()
    for name, field in mutation.fields.items():
        assert field.ast_node is not None
        access = get_directive_values(directive, field.ast_node)
        assert access is not None
        if access["requires"] != "OPERATOR":
            open_to_them.add(name)
    assert {name.partition(":")[0] for name in RULES} - {"token endpoint"} == open_to_them


# A caller who may do much, and one who is stronger than its token.
SCOPE = ["agents:write", "credentials:write", "tokens:read"]
STRONG = Start([(SCOPE, "active"), (["audit:read"], "active")], SCOPE)


async def test_and_much_of_it_works_within_what_the_token_holds() -> None:
    """The attacker is no straw man: what a step is refused in the property, this one is given."""

    def step(rule: str, agent: int = 0, thing: int = 0) -> Step:
        return Step(rule, 0, agent, thing, ["tokens:read"])

    taken = [
        step("registerAgent"),
        step("generateCredential"),
        step("token endpoint"),
        step("issueToken"),
        step("generateCredential:key"),
        step("token endpoint:assertion"),
        step("issueToken:assertion"),
        step("rotateCredential", thing=1),
        step("suspendAgent"),
        step("reactivateAgent"),
        step("engageKillSwitch"),
        step("releaseKillSwitch"),
        step("decommissionAgent"),
    ]
    async with running() as gateway:
        attack = await Attack.begin(gateway, "acme", STRONG)
        for each in taken:
            # With the token that it began with: those that it made end with the agent.
            await attack.take(
                Step(each.rule, len(attack.tokens) - 1, each.agent, each.thing, each.capabilities)
            )
        assert attack.done == len(taken) - 4, "a token is issued without a change"
        assert len(attack.tokens) == 5
        assert len(attack.secrets) == 2
