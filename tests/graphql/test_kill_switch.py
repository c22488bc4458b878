"""The kill switch through GraphQL: whom it means, what is shown of it, and to whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.graphql.asking import Asking

ENGAGE = """mutation($input: EngageKillSwitchInput!) { engageKillSwitch(input: $input) {
    __typename ... on KillSwitchEngaged {
        slug agentId killSwitch { engagedAt reason }
        agent { agentId status killSwitch { reason } } } } }"""
ENGAGE_AS_OPERATOR = """mutation($input: EngageKillSwitchInput!) { engageKillSwitch(input: $input) {
    __typename ... on KillSwitchEngaged {
        slug agentId tenant { slug status killSwitch { reason } } } } }"""
ALL = "{ agents { nodes { killSwitch { engagedAt reason } } } }"
TENANT = '{ tenant(slug: "acme") { status killSwitch { engagedAt reason } } }'


def instant(asking: Asking) -> str:
    return asking.running.clock.now.isoformat().replace("+00:00", "Z")


async def test_an_agent_shows_the_switch_that_is_engaged_and_none_otherwise(
    stored: Asking,
) -> None:
    agent_id = await stored.registered()
    stopped = {"engagedAt": instant(stored), "reason": "it misbehaves"}
    assert (await stored.data(ALL))["agents"]["nodes"] == [{"killSwitch": None}] * 2
    answer = await stored.data(ENGAGE, {"input": {"agentId": agent_id, "reason": "it misbehaves"}})
    assert answer["engageKillSwitch"] == {
        "__typename": "KillSwitchEngaged",
        "slug": "acme",
        "agentId": agent_id,
        "killSwitch": stopped,
        "agent": {
            "agentId": agent_id, "status": "ACTIVE", "killSwitch": {"reason": "it misbehaves"},
        },
    }  # fmt: skip
    nodes = (await stored.data(ALL))["agents"]["nodes"]
    assert sorted(nodes, key=str) == sorted(
        [{"killSwitch": None}, {"killSwitch": stopped}], key=str
    )
    released = await stored.change("releaseKillSwitch", {"agentId": agent_id})
    assert released == {"__typename": "KillSwitchReleased", "slug": "acme", "agentId": agent_id}
    assert (await stored.data(ALL))["agents"]["nodes"] == [{"killSwitch": None}] * 2


async def test_without_an_agent_the_whole_tenant_is_meant_and_the_caller_with_it(
    stored: Asking,
) -> None:
    payload = await stored.change("engageKillSwitch", {"reason": "they misbehave"})
    stopped = {"engagedAt": instant(stored), "reason": "they misbehave"}
    assert payload == {
        "__typename": "KillSwitchEngaged", "slug": "acme", "agentId": None, "killSwitch": stopped,
    }  # fmt: skip
    answer = await stored.post({"query": "{ viewer { agentId } }"})
    assert answer.status_code == 401
    assert await stored.operator.data(TENANT) == {
        "tenant": {"status": "ACTIVE", "killSwitch": stopped}
    }
    released = await stored.operator.change("releaseKillSwitch", {"tenant": "acme"})
    assert released == {"__typename": "KillSwitchReleased", "slug": "acme", "agentId": None}
    assert (await stored.operator.data(TENANT))["tenant"]["killSwitch"] is None


@pytest.mark.parametrize("mutation", ["engageKillSwitch", "releaseKillSwitch"])
async def test_an_agent_that_somebody_has_lost_does_not_mean_them_all(
    asking: Asking, mutation: str
) -> None:
    more = {"reason": "it misbehaves"} | ({"tenant": "acme"} if mutation[0] == "r" else {})
    for caller in (asking, asking.operator):
        payload = await caller.change(mutation, {"agentId": None, **more})
        assert payload["__typename"] == "InvalidInput"
        assert payload["path"] == ["agentId"]
    assert (await asking.operator.data(TENANT))["tenant"]["killSwitch"] is None


async def test_an_agent_does_not_release_its_tenant(asking: Asking) -> None:
    error = await asking.denied("releaseKillSwitch", {"reason": "enough"})
    assert error["code"] == "FORBIDDEN"
    assert "operator" in error["message"]


async def test_another_tenant_is_not_there_for_an_agent_and_no_tenant_for_the_operator(
    asking: Asking,
) -> None:
    await asking.running.onboard("globex")
    for slug in ("globex", "nobody"):
        payload = await asking.change("engageKillSwitch", {"tenant": slug, "reason": "a"})
        assert (payload["__typename"], payload["path"]) == ("NotFound", ["tenant"])
    payload = await asking.operator.change("engageKillSwitch", {"reason": "a"})
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["tenant"])


async def test_nobody_is_stopped_without_a_reason(asking: Asking) -> None:
    assert await asking.code(ENGAGE, {"input": {}}) == "BAD_USER_INPUT"
    for reason in ("", "  ", "x" * 501):
        payload = await asking.change("engageKillSwitch", {"reason": reason})
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["reason"])
    assert await asking.data("{ viewer { killSwitch { reason } } }") == {
        "viewer": {"killSwitch": None}
    }


async def test_the_operator_sees_the_tenant_and_nothing_of_the_agent(asking: Asking) -> None:
    agent_id = await asking.registered()
    input: dict[str, Any] = {"tenant": "acme", "agentId": agent_id, "reason": "it misbehaves"}
    body = await asking.operator.ask(ENGAGE, {"input": input})
    payload = body["data"]["engageKillSwitch"]
    assert (payload["agentId"], payload["agent"]) == (agent_id, None)
    assert [each["extensions"]["code"] for each in body["errors"]] == ["FORBIDDEN"]
    body = await asking.operator.ask(ENGAGE_AS_OPERATOR, {"input": {**input, "agentId": agent_id}})
    assert body["data"]["engageKillSwitch"] == {"__typename": "InvalidTransition"}
    del input["agentId"]
    answer = await asking.operator.data(ENGAGE_AS_OPERATOR, {"input": input})
    assert answer["engageKillSwitch"] == {
        "__typename": "KillSwitchEngaged",
        "slug": "acme",
        "agentId": None,
        "tenant": {
            "slug": "acme", "status": "ACTIVE", "killSwitch": {"reason": "it misbehaves"},
        },
    }  # fmt: skip


async def test_an_agent_sees_nothing_of_what_is_the_operator_s(asking: Asking) -> None:
    agent_id = await asking.registered()
    input = {"agentId": agent_id, "reason": "it misbehaves"}
    body = await asking.ask(ENGAGE_AS_OPERATOR, {"input": input})
    payload = body["data"]["engageKillSwitch"]
    assert (payload["slug"], payload["agentId"], payload["tenant"]) == ("acme", agent_id, None)
    assert [each["extensions"]["code"] for each in body["errors"]] == ["FORBIDDEN"]
