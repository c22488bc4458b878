"""Scopes are capabilities: what is granted of what is asked for, the same by either way.

Whatever the agent may do and whatever is asked for: either all of it is among the agent's
capabilities and it is granted, each word once and in the order in which it was asked for; or
nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.grammar import GATEWAY_CAPABILITIES
from tests.gateway import Client, RunningGateway, running

EVERYTHING = (*sorted(GATEWAY_CAPABILITIES), "billing:read", "agents:admin", "a.b-c_d:x.y")
GRANT = {"grant_type": "client_credentials"}
ISSUE = """mutation($input: IssueTokenInput!) { issueToken(input: $input) {
    __typename ... on TokenIssued { accessToken scope } } }"""
EXAMPLES = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)

Granted: TypeAlias = str | None
Scene: TypeAlias = Callable[[RunningGateway, Client], Awaitable[None]]

held = st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=len(EVERYTHING), unique=True)
asked = st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=20)


def expected(capabilities: list[str], scope: str | None) -> Granted:
    """What the rule grants; None: it is refused."""
    if scope is None:
        return " ".join(capabilities)
    words = scope.split(" ")
    return " ".join(dict.fromkeys(words)) if set(words) <= set(capabilities) else None


async def by_oauth(gateway: RunningGateway, client: Client, scope: str | None) -> Granted:
    answer = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data=GRANT if scope is None else {**GRANT, "scope": scope},
        auth=(client.client_id, client.secret),
    )
    said = answer.json()
    if answer.status_code == 400:
        assert said["error"] == "invalid_scope"
        return None
    assert answer.status_code == 200, said
    await holds(gateway, said["access_token"], said["scope"])
    return str(said["scope"])


async def by_graphql(gateway: RunningGateway, client: Client, scope: str | None) -> Granted:
    input: dict[str, Any] = {
        "tenant": client.slug, "clientId": client.client_id, "clientSecret": client.secret,
    }  # fmt: skip
    body = await gateway.graphql(ISSUE, {"input": input | ({"scope": scope} if scope else {})})
    payload = body["data"]["issueToken"]
    if payload["__typename"] != "TokenIssued":
        assert payload["__typename"] == "InvalidScope"
        return None
    await holds(gateway, payload["accessToken"], payload["scope"])
    return str(payload["scope"])


async def holds(gateway: RunningGateway, token: str, scope: str) -> None:
    """What the answer says of the token is what the token is good for."""
    principal = await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    assert getattr(principal, "scope", None) == set(scope.split(" "))


def within(capabilities: list[str], scene: Scene) -> None:
    async def tried() -> None:
        async with running() as gateway:
            admin = await gateway.onboard("acme")
            await scene(gateway, await gateway.client_of(admin, capabilities))

    asyncio.run(tried())


@EXAMPLES
@given(held, st.lists(asked, min_size=1, max_size=4))
def test_what_is_asked_for_in_any_order_and_as_often_as_one_likes_is_granted_or_refused_as_a_whole(
    capabilities: list[str], scopes: list[list[str]]
) -> None:
    async def scene(gateway: RunningGateway, client: Client) -> None:
        for scope in (None, *map(" ".join, scopes)):
            for granted in (by_oauth, by_graphql):
                assert await granted(gateway, client, scope) == expected(capabilities, scope)

    within(capabilities, scene)


@EXAMPLES
@given(held, st.data())
def test_every_part_of_what_an_agent_holds_is_granted(
    capabilities: list[str], data: st.DataObject
) -> None:
    part = data.draw(st.permutations(capabilities))[: data.draw(st.integers(1, len(capabilities)))]
    twice = data.draw(st.lists(st.sampled_from(part), max_size=3))
    scope = " ".join([*part, *twice])

    async def scene(gateway: RunningGateway, client: Client) -> None:
        for granted in (by_oauth, by_graphql):
            assert await granted(gateway, client, scope) == " ".join(part)

    within(capabilities, scene)


@pytest.mark.parametrize(
    "scope",
    [
        " ", " audit:read", "audit:read ", "audit:read  billing:read", "audit:read\tbilling:read",
        "audit:read\nbilling:read", "audit:read,billing:read", "AUDIT:READ", "audit", "audit:",
        ":read", "audit:*", "*", "*:*", "audit:read:write", "audit:read\x00", "tenants:write",
        "jobs:write", "OPERATOR", "openid", "a" * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_list_of_capabilities_is_refused_by_either_way(scope: str) -> None:
    async def scene(gateway: RunningGateway, client: Client) -> None:
        for granted in (by_oauth, by_graphql):
            assert await granted(gateway, client, scope) is None
        assert await by_oauth(gateway, client, "audit:read") == "audit:read"

    within(["audit:read", "billing:read"], scene)
