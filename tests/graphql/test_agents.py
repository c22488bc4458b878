"""Agents through GraphQL: what is shown, and every way to be registered, changed or refused."""

from __future__ import annotations

from typing import Any

import pytest

from db.scoring import score
from tests.gateway import Client
from tests.graphql.asking import Asking, profile

NOBODY = "00000000-0000-4000-8000-000000000000"
EVERYTHING = """
    query($id: UUID!) { agent(agentId: $id) {
      agentId email agentType version capabilities owner deploymentEnv status createdAt updatedAt
      name framework description channels tools permissions metadata compositeScore governanceLevel
    } }
"""


async def shown(asking: Asking, agent_id: str) -> dict[str, Any]:
    data = await asking.data(EVERYTHING, {"id": agent_id})
    agent: dict[str, Any] = data["agent"]
    return agent


async def test_an_agent_is_shown_as_it_was_registered(stored: Asking) -> None:
    said = profile(
        name="Scout",
        framework="langchain",
        description="looks at invoices",
        channels=["slack"],
        tools=["ocr", "search"],
        permissions={"billing": {"max": 12.5, "dry": True}},
        metadata=[1, "zwei", None, {"drei": []}],
        capabilities=["billing:read", "agents:read", "billing:read"],
    )
    agent_id = await stored.registered(**said)
    now = stored.running.clock.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    record = await stored.running.agent(Client("acme", agent_id, ""))
    levels = ["UNREGISTERED", "BASIC", "MANAGED", "GOVERNED", "CERTIFIED"]
    assert await shown(stored, agent_id) == said | {
        "agentId": agent_id,
        "capabilities": ["billing:read", "agents:read"],
        "status": "ACTIVE",
        "createdAt": now,
        "updatedAt": now,
        "compositeScore": score(record, has_credential=False).composite,
        "governanceLevel": levels[record.governance_level],
    }
    assert record.composite_score > 40


async def test_what_is_left_out_or_null_at_registration_is_empty(stored: Asking) -> None:
    nulls = dict.fromkeys(
        ["name", "framework", "description", "channels", "tools", "permissions", "metadata"]
    )
    for agent_id in (
        await stored.registered(email="a@agents.example"),
        await stored.registered(email="b@agents.example", **nulls),
    ):
        agent = await shown(stored, agent_id)
        assert {name: agent[name] for name in nulls} == nulls | {"channels": [], "tools": []}


@pytest.mark.parametrize("value", [False, 0, "", [], {}])
async def test_empty_json_is_not_null(stored: Asking, value: object) -> None:
    agent_id = await stored.registered(permissions=value, metadata=value)
    agent = await shown(stored, agent_id)
    assert (agent["permissions"], agent["metadata"]) == (value, value)


REFUSED_VALUES = [
    ({"email": "nope"}, "email"),
    ({"email": "a\x00b@agents.example"}, "email"),
    ({"email": "a" * 250 + "@agents.example"}, "email"),
    ({"version": "1.0"}, "version"),
    ({"version": "v1.0.0"}, "version"),
    ({"capabilities": []}, "capabilities"),
    ({"capabilities": ["billing"]}, "capabilities"),
    ({"capabilities": ["Billing:Read"]}, "capabilities"),
    ({"capabilities": ["tenants:write"]}, "capabilities"),
    ({"capabilities": ["billing:read\n"]}, "capabilities"),
    ({"owner": " "}, "owner"),
    ({"owner": "a\x00b"}, "owner"),
    ({"owner": "a" * 129}, "owner"),
    ({"name": "a" * 129}, "name"),
    ({"framework": "\x00"}, "framework"),
    ({"description": "\x00"}, "description"),
    ({"channels": [""]}, "channels"),
    ({"tools": ["a\x00"]}, "tools"),
    ({"metadata": {"a": "\x00"}}, "metadata"),
    ({"metadata": {"\x00": 1}}, "metadata"),
    ({"metadata": 2**53}, "metadata"),
    ({"permissions": "a" * 17_000}, "permissions"),
]


@pytest.mark.parametrize(("changes", "path"), REFUSED_VALUES)
async def test_a_value_outside_its_grammar_is_told_with_its_place_and_changes_nothing(
    asking: Asking, changes: dict[str, Any], path: str
) -> None:
    agent_id = await asking.registered(email="other@agents.example")
    before = await shown(asking, agent_id)
    trail = await asking.running.trail(asking.admin)

    registered = await asking.change("registerAgent", profile(**changes))
    assert (registered["__typename"], registered["path"]) == ("InvalidInput", [path])
    assert registered["code"] == "INVALID_INPUT"
    if path != "email":
        updated = await asking.change("updateAgent", {"agentId": agent_id} | changes)
        assert (updated["__typename"], updated["path"]) == ("InvalidInput", [path])

    assert await shown(asking, agent_id) == before
    assert await asking.running.trail(asking.admin) == trail
    agents = await asking.data("{ agents { totalCount } }")
    assert agents == {"agents": {"totalCount": 2}}


async def test_json_of_hundreds_of_levels_is_refused_as_a_value(asking: Asking) -> None:
    deep: object = None
    for _ in range(400):
        deep = [deep]
    payload = await asking.change("registerAgent", profile(metadata=deep))
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["metadata"])


async def test_json_may_stand_in_the_document_with_variables_in_it(asking: Asking) -> None:
    document = """
        mutation($a: JSON, $b: Int) { registerAgent(input: {
          email: "scout@agents.example" agentType: SCREENER version: "1.0.0"
          capabilities: ["billing:read"] owner: "x" deploymentEnv: STAGING
          metadata: {a: $a, b: [$b, 1.5, true, null, "s"]}
        }) { ... on AgentRegistered { agent { metadata } } } }
    """
    data = await asking.data(document, {"a": {"x": [1]}, "b": 7})
    assert data["registerAgent"]["agent"]["metadata"] == {
        "a": {"x": [1]},
        "b": [7, 1.5, True, None, "s"],
    }


async def test_an_address_is_given_once_and_for_ever(stored: Asking) -> None:
    agent_id = await stored.registered()
    await stored.change("decommissionAgent", {"agentId": agent_id})
    trail = await stored.running.trail(stored.admin)
    payload = await stored.change("registerAgent", profile())
    assert (payload["__typename"], payload["code"]) == ("EmailTaken", "EMAIL_TAKEN")
    assert await stored.running.trail(stored.admin) == trail


async def test_nobody_registers_an_agent_that_could_do_more_than_its_token(
    stored: Asking,
) -> None:
    narrow = await stored.by(stored.admin, "agents:write agents:read")
    payload = await narrow.change(
        "registerAgent", profile(capabilities=["agents:read", "credentials:write"])
    )
    assert payload["__typename"] == "ScopeExceeded"
    assert (payload["code"], payload["path"]) == ("SCOPE_EXCEEDED", ["capabilities"])
    assert "credentials:write" in payload["message"]
    agent_id = await narrow.registered(capabilities=["agents:read", "billing:write"])
    payload = await narrow.change(
        "updateAgent", {"agentId": agent_id, "capabilities": ["audit:read"]}
    )
    assert payload["__typename"] == "ScopeExceeded"
    assert (await shown(narrow, agent_id))["capabilities"] == ["agents:read", "billing:write"]


async def test_an_update_changes_what_it_names_and_nothing_else(stored: Asking) -> None:
    agent_id = await stored.registered(name="Scout", tools=["ocr"], metadata={"a": 1})
    before = await shown(stored, agent_id)
    stored.running.clock.advance(5)
    payload = await stored.change(
        "updateAgent", {"agentId": agent_id, "owner": "others", "agentType": "ROUTER"}
    )
    assert payload["__typename"] == "AgentUpdated"
    after = await shown(stored, agent_id)
    assert after.pop("updatedAt") > before.pop("updatedAt")
    assert after == before | {"owner": "others", "agentType": "ROUTER"}


async def test_null_clears_what_can_be_null(stored: Asking) -> None:
    clearable = {
        "name": "Scout",
        "framework": "langchain",
        "description": "d",
        "permissions": {"a": 1},
        "metadata": [1],
    }
    agent_id = await stored.registered(**clearable)
    payload = await stored.change("updateAgent", {"agentId": agent_id} | dict.fromkeys(clearable))
    assert payload["__typename"] == "AgentUpdated"
    agent = await shown(stored, agent_id)
    assert {name: agent[name] for name in clearable} == dict.fromkeys(clearable)


@pytest.mark.parametrize(
    "name",
    ["agentType", "version", "capabilities", "owner", "deploymentEnv", "channels", "tools"],
)
async def test_null_is_refused_where_there_must_be_something(asking: Asking, name: str) -> None:
    agent_id = await asking.registered(channels=["slack"])
    before = await shown(asking, agent_id)
    payload = await asking.change("updateAgent", {"agentId": agent_id, "name": "n", name: None})
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", [name])
    assert await shown(asking, agent_id) == before


async def test_an_update_that_changes_nothing_leaves_no_trace(stored: Asking) -> None:
    agent_id = await stored.registered(name="Scout")
    before, trail = await shown(stored, agent_id), await stored.running.trail(stored.admin)
    stored.running.clock.advance(5)
    for input in ({}, {"name": "Scout"}):
        payload = await stored.change("updateAgent", {"agentId": agent_id} | input)
        assert payload["__typename"] == "AgentUpdated"
    assert await shown(stored, agent_id) == before
    assert await stored.running.trail(stored.admin) == trail


@pytest.mark.parametrize(
    "mutation", ["updateAgent", "suspendAgent", "reactivateAgent", "decommissionAgent"]
)
async def test_an_agent_that_is_unknown_or_another_tenant_s_is_not_found(
    stored: Asking, mutation: str
) -> None:
    foreign = (await stored.running.onboard("globex")).client_id
    trail = await stored.running.trail(stored.admin)
    answers = [
        await stored.change(mutation, {"agentId": agent_id}) for agent_id in (NOBODY, foreign)
    ]
    assert answers[0] == answers[1]
    assert (answers[0]["__typename"], answers[0]["path"]) == ("NotFound", ["agentId"])
    assert await stored.running.trail(stored.admin) == trail


ALLOWED = {
    "ACTIVE": {"suspendAgent": "SUSPENDED", "decommissionAgent": "DECOMMISSIONED"},
    "SUSPENDED": {"reactivateAgent": "ACTIVE", "decommissionAgent": "DECOMMISSIONED"},
    "DECOMMISSIONED": {},
}
LEADING_TO = {
    "ACTIVE": [],
    "SUSPENDED": ["suspendAgent"],
    "DECOMMISSIONED": ["decommissionAgent"],
}


@pytest.mark.parametrize("mutation", ["suspendAgent", "reactivateAgent", "decommissionAgent"])
@pytest.mark.parametrize("status", ["ACTIVE", "SUSPENDED", "DECOMMISSIONED"])
async def test_a_status_changes_only_as_it_may(stored: Asking, status: str, mutation: str) -> None:
    agent_id = await stored.registered()
    for step in LEADING_TO[status]:
        await stored.change(step, {"agentId": agent_id})
    trail = await stored.running.trail(stored.admin)
    payload = await stored.change(mutation, {"agentId": agent_id})
    after = await shown(stored, agent_id)
    if mutation in ALLOWED[status]:
        assert payload["agent"]["status"] == after["status"] == ALLOWED[status][mutation]
    else:
        assert payload["__typename"] == "InvalidTransition"
        assert payload["code"] == "INVALID_TRANSITION"
        assert after["status"] == status
        assert await stored.running.trail(stored.admin) == trail


async def test_a_decommissioned_agent_cannot_be_changed(stored: Asking) -> None:
    agent_id = await stored.registered()
    await stored.change("decommissionAgent", {"agentId": agent_id})
    payload = await stored.change("updateAgent", {"agentId": agent_id, "owner": "x"})
    assert payload["__typename"] == "InvalidTransition"


async def test_decommissioning_revokes_the_credentials(stored: Asking) -> None:
    agent_id = await stored.registered()
    await stored.enabled(agent_id)
    document = """
        mutation($input: DecommissionAgentInput!) { decommissionAgent(input: $input) {
          ... on AgentDecommissioned { agent { status credentials { nodes { status } } } } } }
    """
    data = await stored.data(document, {"input": {"agentId": agent_id}})
    assert data["decommissionAgent"]["agent"] == {
        "status": "DECOMMISSIONED",
        "credentials": {"nodes": [{"status": "REVOKED"}]},
    }


async def test_many_are_registered_each_by_itself_in_order(stored: Asking) -> None:
    inputs = [
        profile(email="a@agents.example"),
        profile(email="nope"),
        profile(email="a@agents.example"),
        profile(email="b@agents.example", capabilities=["tenants:read"]),
        profile(email="c@agents.example"),
    ]
    payload = await stored.change("registerAgents", {"agents": inputs})
    assert [each["__typename"] for each in payload["results"]] == [
        "AgentRegistered", "InvalidInput", "EmailTaken", "InvalidInput", "AgentRegistered",
    ]  # fmt: skip
    assert payload["results"][1]["path"] == ["email"]
    data = await stored.data("{ agents { nodes { email } } }")
    assert {each["email"] for each in data["agents"]["nodes"]} == {
        "admin@acme.example", "a@agents.example", "c@agents.example",
    }  # fmt: skip
    actions = await stored.running.actions(stored.admin)
    assert actions.count("agent.created") == 3


@pytest.mark.parametrize("number", [0, 101])
async def test_a_batch_has_one_to_a_hundred(asking: Asking, number: int) -> None:
    inputs = [profile(email=f"a{n}@agents.example") for n in range(number)]
    payload = await asking.change("registerAgents", {"agents": inputs})
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["agents"])
    assert await asking.data("{ agents { totalCount } }") == {"agents": {"totalCount": 1}}


async def test_a_hundred_are_registered_at_once(stored: Asking) -> None:
    inputs = [profile(email=f"a{n}@agents.example") for n in range(100)]
    payload = await stored.change("registerAgents", {"agents": inputs})
    assert {each["__typename"] for each in payload["results"]} == {"AgentRegistered"}
    assert await stored.data("{ agents { totalCount } }") == {"agents": {"totalCount": 101}}


async def test_an_agent_is_found_by_its_address_as_it_was_written(stored: Asking) -> None:
    agent_id = await stored.registered(email="Scout@agents.example")
    document = "query($email: String!) { agentByEmail(email: $email) { agentId } }"
    found = await stored.data(document, {"email": "Scout@agents.example"})
    assert found == {"agentByEmail": {"agentId": agent_id}}
    for other in ("scout@agents.example", "nobody@agents.example"):
        assert await stored.data(document, {"email": other}) == {"agentByEmail": None}


@pytest.mark.parametrize("email", ["nope", "a\x00@agents.example", ""])
async def test_what_is_no_address_is_bad_input(stored: Asking, email: str) -> None:
    document = "query($email: String!) { agentByEmail(email: $email) { agentId } }"
    error = await stored.error(document, {"email": email})
    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", ["email"])
