"""Rotation through GraphQL: overlaps, keys, and the question which old secrets are still in use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from anyio.lowlevel import checkpoint

from db.filters import CredentialFilter, Span
from tests.client_keys import ClientKey
from tests.gateway import Client
from tests.graphql.asking import Asking
from tests.graphql.test_credentials import only_credential

OLD_ONES = """
    query($filter: CredentialFilter, $first: Int, $after: String) {
      credentials(filter: $filter, first: $first, after: $after) {
        nodes { credentialId clientId status lastUsedAt expiresAt agent { agentId }
          replacedBy { credentialId status replacedBy { credentialId } } }
        edges { cursor } pageInfo { hasNextPage endCursor } totalCount } }
"""


def text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def rotated(asking: Asking, credential_id: str, **input: Any) -> dict[str, Any]:
    payload = await asking.change("rotateCredential", {"credentialId": credential_id} | input)
    assert payload["__typename"] == "CredentialRotated", payload
    return payload


async def old_ones(asking: Asking, **filter: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await asking.data(OLD_ONES, {"filter": filter}))["credentials"][
        "nodes"
    ]
    return found


async def uses(asking: Asking, client: Client) -> None:
    """Gets a token, and returns once that is written down, which nobody waits for otherwise."""
    await asking.by(client)
    credentials = asking.running.gateway.storage.read(client.prefix).credentials
    used_now = CredentialFilter(
        UUID(client.client_id), last_used_at=Span(gte=asking.running.clock.now)
    )
    with anyio.fail_after(30):
        while not await credentials.count(used_now):
            await checkpoint()


async def test_an_old_secret_works_on_for_its_overlap_and_says_what_replaced_it(
    stored: Asking,
) -> None:
    agent_id = await stored.registered()
    worker = await stored.enabled(agent_id)
    old = await only_credential(stored, agent_id)
    now = stored.running.clock.now
    payload = await rotated(stored, old, overlapSeconds=60)
    document = """query($id: UUID!) { credential(credentialId: $id) {
        status expiresAt revokedAt publicKey
        replacedBy { credentialId label replacedBy { id } } } }"""
    shown = (await stored.data(document, {"id": old}))["credential"]
    assert shown == {
        "status": "ACTIVE",
        "expiresAt": text(now + timedelta(seconds=60)),
        "revokedAt": None,
        "publicKey": None,
        "replacedBy": {
            "credentialId": payload["credential"]["credentialId"],
            "label": None,
            "replacedBy": None,
        },
    }
    await stored.by(worker)
    await stored.by(Client("acme", agent_id, payload["clientSecret"]))
    again = await stored.change("rotateCredential", {"credentialId": old, "overlapSeconds": 60})
    assert (again["__typename"], again["path"]) == ("CredentialNotActive", ["credentialId"])
    stored.running.clock.advance(60)
    refused = await stored.nobody.change(
        "issueToken", {"tenant": "acme", "clientId": agent_id, "clientSecret": worker.secret}
    )
    assert refused["__typename"] == "InvalidClient"


@pytest.mark.parametrize("overlap", [-1, 604_801])
async def test_an_overlap_out_of_its_limits_is_an_input_error(stored: Asking, overlap: int) -> None:
    agent_id = await stored.registered()
    await stored.enabled(agent_id)
    old = await only_credential(stored, agent_id)
    trail = await stored.running.trail(stored.admin)
    payload = await stored.change(
        "rotateCredential", {"credentialId": old, "overlapSeconds": overlap}
    )
    assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["overlapSeconds"])
    assert await only_credential(stored, agent_id) == old
    assert await stored.running.trail(stored.admin) == trail


async def test_null_is_the_same_as_nothing_said(asking: Asking) -> None:
    agent_id = await asking.registered()
    await asking.enabled(agent_id)
    old = await only_credential(asking, agent_id)
    payload = await rotated(asking, old, overlapSeconds=None)
    assert payload["clientSecret"].startswith("sk_live_")
    assert await old_ones(asking, status={"in": ["ACTIVE"]}, replaced=True) == []


async def test_too_many_for_an_overlap_is_a_typed_refusal(asking: Asking) -> None:
    agent_id = await asking.registered()
    await asking.enabled(agent_id)
    old = await only_credential(asking, agent_id)
    for _ in range(9):
        await asking.enabled(agent_id)
    payload = await asking.change("rotateCredential", {"credentialId": old, "overlapSeconds": 1})
    assert payload["__typename"] == "TooManyCredentials"
    assert (payload["code"], payload["path"]) == ("TOO_MANY_CREDENTIALS", ["overlapSeconds"])
    assert (await rotated(asking, old))["clientSecret"]


async def test_a_key_is_taken_in_the_place_of_a_secret_and_shown(stored: Asking) -> None:
    agent_id = await stored.registered()
    key, next_key = ClientKey(), ClientKey()
    payload = await stored.change(
        "generateCredential", {"agentId": agent_id, "label": "signer", "publicKey": key.public}
    )
    assert payload["__typename"] == "CredentialGenerated", payload
    assert (payload["clientId"], payload["clientSecret"]) == (agent_id, None)
    made = payload["credential"]["credentialId"]
    document = "query($id: UUID!) { credential(credentialId: $id) { publicKey label } }"
    shown = (await stored.data(document, {"id": made}))["credential"]
    assert shown == {"publicKey": key.public, "label": "signer"}

    bare = await stored.change("rotateCredential", {"credentialId": made, "overlapSeconds": 60})
    assert (bare["__typename"], bare["path"]) == ("InvalidInput", ["publicKey"])
    after = await rotated(stored, made, publicKey=next_key.public, overlapSeconds=60)
    assert (after["clientSecret"], after["credential"]["label"]) == (None, "signer")
    shown = await stored.data(document, {"id": after["credential"]["credentialId"]})
    assert shown["credential"]["publicKey"] == next_key.public


@pytest.mark.parametrize(
    "key",
    [None, {}, [], "x", 7, {"kty": "oct", "k": "c2VjcmV0"}, ClientKey().public | {"d": "c2VjcmV0"}],
)
async def test_what_is_no_public_key_is_an_input_error_that_repeats_nothing(
    asking: Asking, key: object
) -> None:
    agent_id = await asking.registered()
    await asking.enabled(agent_id)
    old = await only_credential(asking, agent_id)
    for mutation, input in (
        ("generateCredential", {"agentId": agent_id}),
        ("rotateCredential", {"credentialId": old}),
    ):
        payload = await asking.change(mutation, input | {"publicKey": key})
        assert (payload["__typename"], payload["path"]) == ("InvalidInput", ["publicKey"])
        assert "c2VjcmV0" not in payload["message"]
    assert await only_credential(asking, agent_id) == old


async def test_which_old_secrets_are_still_in_use_is_one_query(stored: Asking) -> None:
    clients = {}
    for name in ("busy", "idle", "unrotated"):
        agent_id = await stored.registered(email=f"{name}@agents.example")
        clients[name] = await stored.enabled(agent_id)
    olds = {
        name: await only_credential(stored, client.client_id) for name, client in clients.items()
    }
    successors = {
        name: (await rotated(stored, olds[name], overlapSeconds=3600))["credential"]["credentialId"]
        for name in ("busy", "idle")
    }
    stored.running.clock.advance(600)
    since = text(stored.running.clock.now)
    for name in ("busy", "unrotated"):
        await uses(stored, clients[name])
    in_use = {"status": {"in": ["ACTIVE"]}, "replaced": True}

    assert {each["credentialId"] for each in await old_ones(stored, **in_use)} == {
        olds["busy"],
        olds["idle"],
    }
    [found] = await old_ones(stored, **in_use, lastUsedAt={"gte": since})
    assert found["credentialId"] == olds["busy"]
    assert found["agent"]["agentId"] == clients["busy"].client_id
    assert found["lastUsedAt"] == since
    assert found["replacedBy"] == {
        "credentialId": successors["busy"],
        "status": "ACTIVE",
        "replacedBy": None,
    }
    of_idle = {"agentId": {"eq": clients["idle"].client_id}}
    [found] = await old_ones(stored, **in_use, **of_idle)
    assert (found["credentialId"], found["lastUsedAt"]) == (olds["idle"], None)
    assert await old_ones(stored, **in_use, **of_idle, lastUsedAt={"lt": since}) == []
    nested = """query($id: UUID!, $filter: AgentCredentialFilter) { agent(agentId: $id) {
        credentials(filter: $filter) { nodes { credentialId } totalCount } } }"""
    variables = {"id": clients["busy"].client_id, "filter": {"replaced": True}}
    assert (await stored.data(nested, variables))["agent"]["credentials"] == {
        "nodes": [{"credentialId": olds["busy"]}],
        "totalCount": 1,
    }


async def test_the_list_is_paged_and_its_cursors_are_bound_to_its_filter(stored: Asking) -> None:
    ids = []
    for number in range(5):
        agent_id = await stored.registered(email=f"{number}@agents.example")
        await stored.enabled(agent_id)
        ids.append(await only_credential(stored, agent_id))
        stored.running.clock.advance(1)
    for each in ids[:4]:
        await rotated(stored, each, overlapSeconds=60)
    seen, after = [], None
    while True:
        variables = {"filter": {"replaced": True}, "first": 3, "after": after}
        page = (await stored.data(OLD_ONES, variables))["credentials"]
        assert page["totalCount"] == 4
        seen += [each["credentialId"] for each in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ids[3::-1]
    for filter in (
        None,
        {"replaced": False},
        {"replaced": True, "lastUsedAt": {"lt": text(stored.running.clock.now)}},
    ):
        error = await stored.error(OLD_ONES, {"filter": filter, "after": after})
        assert (error["code"], error["path"]) == ("BAD_USER_INPUT", ["credentials"])


async def test_the_list_is_of_one_tenant_and_needs_its_scope(stored: Asking) -> None:
    globex = await stored.by(await stored.running.onboard("globex"))
    theirs = await old_ones(globex)
    assert [each["agent"]["agentId"] for each in theirs] == [
        (await globex.data("{ viewer { agentId } }"))["viewer"]["agentId"]
    ]
    agent_id = await stored.registered()
    worker = await stored.by(await stored.enabled(agent_id))
    error = await worker.error("{ credentials { nodes { credentialId } } }")
    assert (error["code"], error["scope"]) == ("FORBIDDEN", "credentials:read")
    # Its own it reads by way of itself, with what has replaced them.
    document = """{ node(id: "%s") { ... on Credential { replacedBy { credentialId } } } }"""
    own = await only_credential(stored, agent_id)
    after = await rotated(worker, own, overlapSeconds=60)
    found = await stored.data(
        "query($id: UUID!) { credential(credentialId: $id) { id } }", {"id": own}
    )
    shown = await worker.data(document % found["credential"]["id"])
    assert shown["node"]["replacedBy"]["credentialId"] == after["credential"]["credentialId"]
