"""Global ids: what has one can be found by it, and what has none answers like what is not there."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest

from tests.graphql.asking import Asking

ALL = """{
  agents { nodes { id agentId } }
  viewer { credentials { nodes { id credentialId } } }
  auditEvents { nodes { id eventId } }
}"""
NODE = "query($id: ID!) { node(id: $id) { __typename id } }"
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"


async def ids(asking: Asking) -> dict[str, str]:
    data = await asking.data(ALL)
    return {
        "Agent": data["agents"]["nodes"][0]["id"],
        "Credential": data["viewer"]["credentials"]["nodes"][0]["id"],
        "AuditEvent": data["auditEvents"]["nodes"][0]["id"],
    }


async def test_everything_with_an_id_is_found_by_it(stored: Asking) -> None:
    for name, identifier in (await ids(stored)).items():
        found = await stored.data(NODE, {"id": identifier})
        assert found == {"node": {"__typename": name, "id": identifier}}


async def test_many_are_found_at_once_in_the_order_asked_for(stored: Asking) -> None:
    known = await ids(stored)
    asked = [known["AuditEvent"], "nope", known["Agent"], known["Agent"], known["Credential"]]
    found = await stored.data(NODES, {"ids": asked})
    assert [each and each["id"] for each in found["nodes"]] == [
        asked[0], None, asked[2], asked[2], asked[4],
    ]  # fmt: skip


async def test_unknown_foreign_and_malformed_ids_answer_alike(stored: Asking) -> None:
    globex = await stored.by(await stored.running.onboard("globex"))
    foreign = list((await ids(globex)).values())
    mine = (await ids(stored))["Agent"]
    plain = b64decode(mine).decode()
    unknown = [
        b64encode(f"{name}:00000000-0000-4000-8000-000000000000".encode()).decode()
        for name in ("Agent", "Credential", "AuditEvent", "Tenant", "Query", "")
    ]
    malformed = [
        "", "nope", plain, mine + "=", mine + "\n", f" {mine}", mine[:-1], "é", "\x00", "=" * 4,
        b64encode(plain.upper().encode()).decode(),
        b64encode(plain.replace("-", "").encode()).decode(),
        b64encode(b"\xff\xfe").decode(), b64encode(b"Agent").decode(), "A" * 100_000,
    ]  # fmt: skip
    for identifier in [*foreign, *unknown, *malformed]:
        assert await stored.ask(NODE, {"id": identifier}) == {"data": {"node": None}}
    answer = await stored.data(NODES, {"ids": [*foreign, *unknown, *malformed]})
    assert set(answer["nodes"]) == {None}


async def test_a_node_needs_the_scope_of_its_noun(stored: Asking) -> None:
    known = await ids(stored)
    narrow = await stored.by(stored.admin, "agents:read")
    body = await narrow.ask(NODES, {"ids": [known["Agent"], known["AuditEvent"], "nope"]})
    assert body["data"]["nodes"] == [
        {"__typename": "Agent", "id": known["Agent"]}, None, None,
    ]  # fmt: skip
    [error] = body["errors"]
    assert error["path"] == ["nodes", 1]
    assert error["extensions"]["code"] == "FORBIDDEN"
    assert error["extensions"]["scope"] == "audit:read"
    # One's own credentials need none; others' are not there without it.
    assert await narrow.data(NODE, {"id": known["Credential"]}) == {
        "node": {"__typename": "Credential", "id": known["Credential"]}
    }
    scout = await stored.by(await stored.enabled(await stored.registered()))
    assert await scout.data(NODE, {"id": known["Credential"]}) == {"node": None}
    assert await scout.code(NODE, {"id": known["Agent"]}) == "FORBIDDEN"


@pytest.mark.parametrize("number", [0, 100, 101])
async def test_a_hundred_ids_are_looked_up_at_most(asking: Asking, number: int) -> None:
    if number > 100:
        error = await asking.error(NODES, {"ids": ["x"] * number})
        assert (error["code"], error["argument"]) == ("BAD_USER_INPUT", ["ids"])
    else:
        assert await asking.data(NODES, {"ids": ["x"] * number}) == {"nodes": [None] * number}


async def test_the_same_id_stands_wherever_the_thing_is_shown(stored: Asking) -> None:
    document = """{
        viewer { id credentials { nodes { agent { id } } } auditEvents { nodes { agent { id } } } }
        agents { nodes { id } }
    }"""
    data = await stored.data(document)
    [identifier] = {
        data["viewer"]["id"],
        data["agents"]["nodes"][0]["id"],
        *(each["agent"]["id"] for each in data["viewer"]["credentials"]["nodes"]),
        *(each["agent"]["id"] for each in data["viewer"]["auditEvents"]["nodes"]),
    }
    assert b64decode(identifier).decode() == f"Agent:{stored.admin.client_id}"
