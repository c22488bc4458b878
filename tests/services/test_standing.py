"""Whoever was cut off while a request was under way is not seen to act afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest
from anyio.lowlevel import checkpoint

from db.errors import ScopeExceeded, TooManyCredentials, Unauthenticated
from db.records import AuditAction, TenantStatus
from gateway.auth.principal import Operator
from gateway.services.call import Call
from gateway.services.minting import MAX_USABLE
from gateway.services.profiles import AgentChanges
from tests.gateway import Client, RunningGateway, profile

WRITES = ("agents:write", "credentials:write", "tokens:write")
GRANT = {"grant_type": "client_credentials"}

Act = Callable[[Call], Awaitable[object]]
Cut = Callable[[RunningGateway, Client, Call], Awaitable[None]]


async def acts(gateway: RunningGateway, admin: Client) -> dict[str, Act]:
    """Everything that an agent can do that changes something, each on what was made for it."""
    agents, credentials = gateway.gateway.agents, gateway.gateway.credentials
    switch = gateway.gateway.kill_switch
    call = await gateway.as_caller(admin)
    made = [
        (await agents.register(call, profile(f"a{number}@agents.example", ["a:b"]))).agent_id
        for number in range(9)
    ]
    rotated = (await credentials.generate(call, made[5])).credential.credential_id
    revoked = (await credentials.generate(call, made[6])).credential.credential_id
    token = await gateway.token(await gateway.client_of(admin, email="victim@agents.example"))
    await agents.suspend(call, made[2])
    await switch.engage(call, "to begin with", agent_id=made[8])
    return {
        "register": lambda c: agents.register(c, profile("new@agents.example", ["a:b"])),
        "update": lambda c: agents.update(c, made[0], {"owner": "another"}),
        "suspend": lambda c: agents.suspend(c, made[1]),
        "reactivate": lambda c: agents.reactivate(c, made[2]),
        "decommission": lambda c: agents.decommission(c, made[3]),
        "generate": lambda c: credentials.generate(c, made[4]),
        "rotate": lambda c: credentials.rotate(c, rotated),
        "revoke": lambda c: credentials.revoke(c, revoked),
        "revoke a token": lambda c: gateway.gateway.tokens.revoke(c, token),
        "stop": lambda c: switch.engage(c, "it misbehaves", agent_id=made[7]),
        "stop all": lambda c: switch.engage(c, "they misbehave"),
        "release": lambda c: switch.release(c, agent_id=made[8]),
    }


async def suspended(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    call = await gateway.as_caller(admin)
    await gateway.gateway.agents.suspend(call, caller.agent.agent_id)


async def cut_and_brought_back(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    await suspended(gateway, admin, caller)
    call = await gateway.as_caller(admin)
    await gateway.gateway.agents.reactivate(call, caller.agent.agent_id)


async def robbed_of_its_credential(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    call = await gateway.as_caller(admin)
    await gateway.gateway.credentials.revoke(call, caller.agent.credential_id)


async def narrowed(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    call = await gateway.as_caller(admin)
    fewer = AgentChanges(capabilities=list(WRITES))
    await gateway.gateway.agents.update(call, caller.agent.agent_id, fewer)


async def stopped(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    call = await gateway.as_caller(admin)
    await gateway.gateway.kill_switch.engage(call, "enough", agent_id=caller.agent.agent_id)


async def stopped_and_released(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    await stopped(gateway, admin, caller)
    call = await gateway.as_caller(admin)
    await gateway.gateway.kill_switch.release(call, agent_id=caller.agent.agent_id)


async def of_a_fleet_that_was_stopped(gateway: RunningGateway, admin: Client, caller: Call) -> None:
    switch, operator = gateway.gateway.kill_switch, gateway.call(Operator())
    await switch.engage(operator, "enough", slug=admin.slug)
    await switch.release(operator, slug=admin.slug)


async def of_a_tenant_that_was_suspended(
    gateway: RunningGateway, admin: Client, caller: Call
) -> None:
    operator = gateway.call(Operator())
    await gateway.gateway.tenants.suspend(operator, admin.slug)
    await gateway.gateway.tenants.reactivate(operator, admin.slug)


@pytest.mark.parametrize(
    "act",
    [
        "register",
        "update",
        "suspend",
        "reactivate",
        "decommission",
        "generate",
        "rotate",
        "revoke",
        "revoke a token",
        "stop",
        "stop all",
        "release",
    ],
)
@pytest.mark.parametrize(
    "cut",
    [
        suspended,
        cut_and_brought_back,
        robbed_of_its_credential,
        narrowed,
        stopped,
        stopped_and_released,
        of_a_fleet_that_was_stopped,
        of_a_tenant_that_was_suspended,
    ],
)
async def test_a_caller_that_is_cut_off_before_it_acts_changes_nothing(
    gateway: RunningGateway, cut: Cut, act: str
) -> None:
    admin = await gateway.onboard()
    done = await acts(gateway, admin)
    worker = await gateway.client_of(admin, ["a:b", *WRITES], email="worker@agents.example")
    under_way = await gateway.as_caller(worker)
    await cut(gateway, admin, under_way)
    before = await gateway.trail(admin)

    with pytest.raises(Unauthenticated):
        await done[act](under_way)

    assert await gateway.trail(admin) == before
    # It is the cut that refuses: the same act is open to the administrator.
    await done[act](await gateway.as_caller(admin))


async def test_a_caller_whose_token_is_revoked_before_it_acts_changes_nothing(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    token = await gateway.token(admin)
    principal = await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    under_way = gateway.call(principal)
    await gateway.gateway.tokens.revoke(await gateway.as_caller(admin), token)
    before = await gateway.trail(admin)

    with pytest.raises(Unauthenticated):
        await gateway.gateway.agents.register(under_way, profile("new@agents.example", ["a:b"]))

    assert await gateway.trail(admin) == before


async def test_of_a_batch_nothing_is_registered_after_its_caller_was_suspended(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin, WRITES)
    token, rescue = await gateway.token(worker), await gateway.as_caller(admin)
    agents = [
        {
            "email": f"b{number}@agents.example",
            "agentType": "CUSTOM",
            "version": "1.0.0",
            "capabilities": ["a:b"],
            "owner": "o",
            "deploymentEnv": "STAGING",
        }
        for number in range(90)
    ]
    document = """mutation($input: RegisterAgentsInput!) { registerAgents(input: $input) {
        ... on AgentsRegistered { results { __typename } } } }"""
    batch = asyncio.create_task(gateway.graphql(document, {"input": {"agents": agents}}, token))
    # As soon as the first of them is there, or all are.
    while not batch.done() and len(await gateway.trail(admin, AuditAction.AGENT_CREATED)) < 3:
        await checkpoint()
    await gateway.gateway.agents.suspend(rescue, UUID(worker.client_id))
    at_the_cut = await gateway.trail(admin, AuditAction.AGENT_CREATED)
    answer = await batch

    registered = await gateway.trail(admin, AuditAction.AGENT_CREATED)
    assert registered == at_the_cut
    results = answer["data"]["registerAgents"]["results"]
    assert len([each for each in results if each]) == len(registered) - 2
    refused = {error["extensions"]["code"] for error in answer.get("errors", [])}
    assert refused <= {"UNAUTHENTICATED"}
    assert bool(refused) == (len(registered) - 2 < len(agents))


async def test_an_agent_that_loses_a_capability_loses_its_live_tokens(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin, ["x:y", *WRITES])
    held = await gateway.token(worker)
    call = await gateway.as_caller(admin)

    await gateway.gateway.agents.update(call, UUID(worker.client_id), {"capabilities": ["x:y"]})

    with pytest.raises(Unauthenticated):
        await gateway.gateway.authenticator.bearer([f"Bearer {held}"], gateway.clock.now)
    assert not (await gateway.gateway.tokens.introspect(call, held)).active
    assert (await gateway.as_caller(worker)).agent.scope == {"x:y"}


async def test_an_agent_that_gains_one_keeps_them(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin, ["x:y"])
    held = await gateway.token(worker)
    changes = AgentChanges(capabilities=["x:y", "x:z"])

    await gateway.gateway.agents.update(
        await gateway.as_caller(admin), UUID(worker.client_id), changes
    )

    call = await gateway.as_caller(admin)
    assert (await gateway.gateway.tokens.introspect(call, held)).active


async def test_who_could_not_give_a_capability_cannot_bring_it_back_by_reactivating(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    strong = await gateway.client_of(admin, ["audit:read"], email="strong@agents.example")
    narrow = await gateway.client_of(admin, ["agents:write"], email="narrow@agents.example")
    await gateway.gateway.agents.suspend(await gateway.as_caller(admin), UUID(strong.client_id))
    call, before = await gateway.as_caller(narrow), await gateway.actions(admin)

    with pytest.raises(ScopeExceeded):
        await gateway.gateway.agents.reactivate(call, UUID(strong.client_id))

    assert not (await gateway.agent(strong)).is_active
    assert await gateway.actions(admin) == before


async def test_who_could_not_give_a_capability_cannot_take_it_away(
    gateway: RunningGateway,
) -> None:
    """An agent stripped for a moment would be given a secret that is worth more afterwards."""
    admin = await gateway.onboard()
    narrow = await gateway.client_of(admin, WRITES)
    call, stripped = await gateway.as_caller(narrow), AgentChanges(capabilities=["x:y"])
    before = await gateway.actions(admin)

    with pytest.raises(ScopeExceeded):
        await gateway.gateway.agents.update(call, UUID(admin.client_id), stripped)

    assert len((await gateway.agent(admin)).capabilities) == 8
    assert await gateway.actions(admin) == before


async def test_an_agent_has_only_so_many_usable_credentials(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin, ["x:y"])
    call = await gateway.as_caller(worker)
    credentials, agent_id = gateway.gateway.credentials, UUID(worker.client_id)
    for _ in range(MAX_USABLE - 1):
        newest = await credentials.generate(call, agent_id)
    before = await gateway.actions(admin)

    with pytest.raises(TooManyCredentials):
        await credentials.generate(call, agent_id)

    assert await gateway.actions(admin) == before
    # One is still exchanged for another, and one that ends makes room.
    fresh = await credentials.rotate(call, newest.credential.credential_id)
    await credentials.revoke(call, fresh.credential.credential_id)
    await credentials.generate(call, agent_id)


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
async def test_a_tenant_that_is_suspended_while_a_body_is_sent_is_refused(
    gateway: RunningGateway, endpoint: str
) -> None:
    admin = await gateway.onboard()
    token, before = await gateway.token(admin), await gateway.actions(admin)

    async def slowly() -> AsyncIterator[bytes]:
        yield f"token={token}&".encode()
        await set_status(gateway, admin.slug, TenantStatus.SUSPENDED)
        yield b"grant_type=client_credentials"

    answer = await gateway.client.post(
        f"/t/acme/oauth2/{endpoint}",
        content=slowly(),
        auth=(admin.client_id, admin.secret),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )

    assert answer.status_code == 404
    assert await gateway.actions(admin) == before


async def test_a_token_of_a_tenant_suspended_meanwhile_is_not_active(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    token, under_way = await gateway.token(admin), await gateway.as_caller(admin)
    await set_status(gateway, admin.slug, TenantStatus.SUSPENDED)

    assert not (await gateway.gateway.tokens.introspect(under_way, token)).active


async def set_status(gateway: RunningGateway, slug: str, status: TenantStatus) -> None:
    async with gateway.gateway.storage.registry_unit() as unit:
        held = await unit.tenants.get(slug)
        assert held is not None
        await unit.tenants.save(replace(held, status=status))
