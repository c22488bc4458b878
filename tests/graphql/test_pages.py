"""Connections: pages that can be walked both ways, filters, counts, and cursors that only fit
where they came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from db.pages import COUNT_CAP
from tests.graphql.asking import Asking, profile

PAGE = """
    query($first: Int, $after: String, $last: Int, $before: String, $filter: AgentFilter,
          $orderBy: AgentOrder) {
      agents(first: $first, after: $after, last: $last, before: $before, filter: $filter,
             orderBy: $orderBy) {
        edges { cursor node { email } } nodes { email } totalCount totalCountCapped
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      }
    }
"""
NAMES = [f"{letter}@agents.example" for letter in "abcdefg"]


async def fill(asking: Asking) -> None:
    """Seven agents after the administrator, one second apart."""
    for number, email in enumerate(NAMES):
        asking.running.clock.advance(1)
        await asking.registered(
            email=email,
            owner=f"team {number % 2}",
            agentType="ROUTER" if number < 2 else "MONITOR",
        )


async def page(asking: Asking, **variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await asking.data(PAGE, variables))["agents"]
    assert [edge["node"] for edge in found["edges"]] == found["nodes"]
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert found["pageInfo"]["startCursor"] == (cursors[0] if cursors else None)
    assert found["pageInfo"]["endCursor"] == (cursors[-1] if cursors else None)
    return found


def emails(found: dict[str, Any]) -> list[str]:
    return [node["email"] for node in found["nodes"]]


async def test_a_list_is_walked_forward_page_by_page(stored: Asking) -> None:
    await fill(stored)
    seen: list[str] = []
    after = None
    for size, more in ((3, True), (3, True), (2, False)):
        found = await page(stored, first=3, after=after)
        assert len(found["nodes"]) == size
        assert found["pageInfo"]["hasNextPage"] is more
        assert found["pageInfo"]["hasPreviousPage"] is (after is not None)
        assert (found["totalCount"], found["totalCountCapped"]) == (8, False)
        seen += emails(found)
        after = found["pageInfo"]["endCursor"]
    assert seen == [*reversed(NAMES), "admin@acme.example"]


async def test_and_backward(stored: Asking) -> None:
    await fill(stored)
    last = await page(stored, last=3)
    assert emails(last) == ["b@agents.example", "a@agents.example", "admin@acme.example"]
    assert last["pageInfo"]["hasPreviousPage"] is True
    before = last["pageInfo"]["startCursor"]
    assert emails(await page(stored, last=2, before=before)) == NAMES[3:1:-1]


async def test_the_order_can_be_turned(stored: Asking) -> None:
    await fill(stored)
    found = await page(stored, first=3, orderBy="CREATED_AT_ASC")
    assert emails(found) == ["admin@acme.example", *NAMES[:2]]


async def test_twenty_are_shown_unless_more_are_asked_for(stored: Asking) -> None:
    inputs = [profile(email=f"a{n}@agents.example") for n in range(60)]
    await stored.change("registerAgents", {"agents": inputs})
    assert len((await page(stored))["nodes"]) == 20
    assert len((await page(stored, first=100))["nodes"]) == 61


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"first": 0}, "first"),
        ({"first": -1}, "first"),
        ({"first": 101}, "first"),
        ({"last": 0}, "last"),
        ({"last": 101}, "last"),
        ({"first": 1, "last": 1}, "last"),
    ],
)
async def test_a_size_out_of_range_is_refused_and_not_cut(
    asking: Asking, variables: dict[str, int], argument: str
) -> None:
    error = await asking.error(PAGE, variables)
    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", [argument])


@pytest.mark.parametrize("size", [2**31, -(2**31) - 1, 2**70, 1.5, "1", True])
async def test_what_is_no_int_is_no_size(asking: Asking, size: object) -> None:
    assert await asking.code(PAGE, {"first": size}) == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, 8),
        (None, 8),
        ({"status": None, "owner": None, "agentType": None, "createdAt": None}, 8),
        ({"status": {}, "owner": {}, "createdAt": {}}, 8),
        ({"status": {"in": None}, "owner": {"eq": None}, "createdAt": {"gte": None}}, 8),
        ({"status": {"in": ["ACTIVE", "ACTIVE"]}}, 7),
        ({"status": {"in": ["SUSPENDED", "DECOMMISSIONED"]}}, 1),
        ({"status": {"in": []}}, 0),
        ({"owner": {"eq": "team 0"}}, 4),
        ({"owner": {"in": ["team 0", "acme"]}}, 5),
        ({"owner": {"eq": "team 0", "in": ["team 0", "acme"]}}, 4),
        ({"owner": {"eq": "team 1", "in": ["team 0", "acme"]}}, 0),
        ({"owner": {"eq": "TEAM 0"}}, 0),
        ({"owner": {"in": []}}, 0),
        ({"agentType": {"in": ["ROUTER"]}}, 2),
        ({"agentType": {"in": ["ROUTER"]}, "owner": {"eq": "team 1"}}, 1),
        ({"agentType": {"in": ["ROUTER"]}, "status": {"in": ["SUSPENDED"]}}, 1),
    ],
)
async def test_filters_narrow_a_list_and_its_count(
    stored: Asking, filter: dict[str, Any] | None, expected: int
) -> None:
    await fill(stored)
    found = await page(stored, filter={"owner": {"eq": "team 1"}, "agentType": {"in": ["ROUTER"]}})
    data = await stored.data('query { agentByEmail(email: "b@agents.example") { agentId email } }')
    assert emails(found) == [data["agentByEmail"]["email"]]
    await stored.change("suspendAgent", {"agentId": data["agentByEmail"]["agentId"]})
    found = await page(stored, filter=filter)
    assert (len(found["nodes"]), found["totalCount"]) == (expected, expected)


async def test_a_span_holds_its_beginning_and_not_its_end(stored: Asking) -> None:
    await fill(stored)
    third = stored.running.clock.now.timestamp() - 4
    at = stored.running.clock.now.fromtimestamp(third, stored.running.clock.now.tzinfo)
    found = await page(stored, filter={"createdAt": {"gte": at.isoformat()}})
    assert emails(found) == NAMES[:1:-1]
    found = await page(stored, filter={"createdAt": {"lt": at.isoformat()}})
    assert emails(found) == ["b@agents.example", "a@agents.example", "admin@acme.example"]
    both = {"gte": at.isoformat(), "lt": at.isoformat()}
    assert emails(await page(stored, filter={"createdAt": both})) == []


async def test_a_filter_names_a_hundred_values_at_most(asking: Asking) -> None:
    owners = [f"team {n}" for n in range(101)]
    error = await asking.error(PAGE, {"filter": {"owner": {"in": owners}}})
    assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", ["owner", "in"])
    assert (await page(asking, filter={"owner": {"in": owners[:100]}}))["totalCount"] == 0


async def test_the_order_of_a_filter_s_values_is_of_no_account_to_cursors(asking: Asking) -> None:
    await fill(asking)
    first = await page(asking, first=1, filter={"owner": {"in": ["team 0", "team 1"]}})
    after = first["pageInfo"]["endCursor"]
    second = await page(
        asking, first=1, after=after, filter={"owner": {"in": ["team 1", "team 0", "team 0"]}}
    )
    assert emails(second) == ["f@agents.example"]


async def test_a_cursor_fits_only_where_it_came_from(stored: Asking) -> None:
    await fill(stored)
    cursor = (await page(stored, first=1))["pageInfo"]["endCursor"]
    globex = await stored.by(await stored.running.onboard("globex"))
    changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    events = """query($after: String) { auditEvents(first: 1, after: $after) {
        pageInfo { endCursor } } }"""
    of_events = (await stored.data(events))["auditEvents"]["pageInfo"]["endCursor"]
    for asked, variables in (
        (globex, {"after": cursor}),
        (stored, {"after": cursor, "orderBy": "CREATED_AT_ASC"}),
        (stored, {"after": cursor, "filter": {"owner": {"eq": "team 0"}}}),
        (stored, {"after": changed}),
        (stored, {"before": changed}),
        (stored, {"after": of_events}),
        (stored, {"after": ""}),
        (stored, {"after": "é\x00"}),
        (stored, {"after": "YXJyYXljb25uZWN0aW9uOjE="}),
        (stored, {"after": "A" * 5000}),
    ):
        error = await asked.error(PAGE, variables)
        assert (error["code"], error["reason"]) == ("BAD_USER_INPUT", "INVALID_CURSOR")
        assert error["argument"] == ["before" if "before" in variables else "after"]
    assert await stored.code(events, {"after": cursor}) == "BAD_USER_INPUT"


async def test_a_count_that_nobody_asks_for_is_not_made(asking: Asking) -> None:
    found = await asking.data("{ agents { nodes { email } } }")
    assert found == {"agents": {"nodes": [{"email": "admin@acme.example"}]}}
    # And one that is asked for twice, by fragments too, is one.
    document = """{ agents { totalCount ...More } }
        fragment More on AgentConnection { again: totalCount totalCountCapped }"""
    assert await asking.data(document) == {
        "agents": {"totalCount": 1, "again": 1, "totalCountCapped": False}
    }


async def test_a_count_ends_somewhere_and_says_so(asking: Asking) -> None:
    storage = asking.running.gateway.storage
    agent = await asking.running.agent(asking.admin)
    async with storage.unit(asking.admin.prefix) as unit:
        for number in range(COUNT_CAP):
            email = f"a{number}@agents.example"
            await unit.agents.add(replace(agent, agent_id=uuid4(), email=email))
    data = await asking.data("{ agents { totalCount totalCountCapped } }")
    assert data == {"agents": {"totalCount": COUNT_CAP, "totalCountCapped": True}}


async def test_the_trail_is_filtered_and_paged(stored: Asking) -> None:
    await fill(stored)
    document = """query($filter: AuditEventFilter, $first: Int, $after: String) {
        auditEvents(filter: $filter, first: $first, after: $after) {
          nodes { action agentId timestamp } totalCount pageInfo { endCursor hasNextPage } } }"""

    async def found(**variables: Any) -> dict[str, Any]:
        events: dict[str, Any] = (await stored.data(document, variables))["auditEvents"]
        return events

    everything = await found(first=100)
    assert everything["totalCount"] == len(everything["nodes"]) == 10
    stamps = [event["timestamp"] for event in everything["nodes"]]
    assert stamps == sorted(stamps, reverse=True)
    assert (await found(filter={"action": {"in": ["AGENT_CREATED"]}}))["totalCount"] == 8
    assert (await found(filter={"action": {"in": []}}))["totalCount"] == 0
    assert (await found(filter={"outcome": {"in": ["FAILURE"]}}))["totalCount"] == 0
    me = {"agentId": {"eq": stored.admin.client_id}}
    assert (await found(filter=me))["totalCount"] == 10
    nil = {"agentId": {"eq": "00000000-0000-0000-0000-000000000000"}}
    assert (await found(filter=nil))["totalCount"] == 0
    since = {"timestamp": {"gte": stored.running.clock.now.isoformat()}}
    assert (await found(filter=since))["totalCount"] == 1
    first = await found(first=9)
    assert first["pageInfo"]["hasNextPage"] is True
    rest = await found(first=9, after=first["pageInfo"]["endCursor"])
    assert [event["action"] for event in rest["nodes"]] == ["AGENT_CREATED"]


async def test_what_is_older_than_the_retention_is_not_there(asking: Asking) -> None:
    [event, *_] = await asking.running.trail(asking.admin)
    document = """query($id: UUID!) {
        auditEvent(eventId: $id) { action } auditEvents { totalCount } }"""
    asking.running.clock.advance(90 * 86_400 - 1)
    later = await asking.by(asking.admin)
    data = await later.data(document, {"id": str(event.event_id)})
    assert data == {"auditEvent": {"action": "AGENT_CREATED"}, "auditEvents": {"totalCount": 4}}
    asking.running.clock.advance(2)
    data = await later.data(document, {"id": str(event.event_id)})
    assert data == {"auditEvent": None, "auditEvents": {"totalCount": 1}}
