"""A tenant that has locked itself out gets its administrator back, and the old secrets die."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.errors import EmailTaken, InvalidInput, InvalidTransition, NotFound, Unauthenticated
from db.filters import CredentialFilter
from db.grammar import GATEWAY_CAPABILITIES
from db.pages import PageRequest
from db.provisioning import provision_tenant
from db.records import (
    AgentStatus,
    AgentType,
    Credential,
    CredentialStatus,
    OperatorEvent,
    Tenant,
    TenantStatus,
)
from gateway.auth.principal import Operator
from gateway.services.administrators import AdministratorReset
from tests.gateway import Client, RunningGateway, but_for_uses

NEW = "second@acme.example"


async def reset(
    gateway: RunningGateway, email: str | None = None, slug: str = "acme"
) -> AdministratorReset:
    return await gateway.gateway.administrators.reset(gateway.call(Operator()), slug, email)


def client_of(made: AdministratorReset) -> Client:
    return Client(made.tenant.slug, str(made.administrator.agent_id), made.secret)


async def row(gateway: RunningGateway, slug: str = "acme") -> Tenant:
    found = await gateway.gateway.storage.registry.tenants.get(slug)
    assert found is not None
    return found


async def operator_events(gateway: RunningGateway) -> tuple[OperatorEvent, ...]:
    return (await gateway.gateway.storage.registry.operator_events.page(PageRequest())).items


async def credentials(gateway: RunningGateway, client: Client) -> tuple[Credential, ...]:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    chosen = CredentialFilter(client_id=UUID(client.client_id))
    return (await reader.page(PageRequest(first=100), chosen)).items


async def stored(gateway: RunningGateway, client: Client) -> object:
    reader = gateway.gateway.storage.read(client.prefix)
    return (
        await row(gateway, client.slug),
        await operator_events(gateway),
        await gateway.trail(client),
        (await reader.agents.page(PageRequest(first=100))).items,
        but_for_uses((await reader.credentials.page(PageRequest(first=100))).items),
    )


async def assert_locked_out(gateway: RunningGateway, client: Client, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    answer = await gateway.client.post(
        f"/t/{client.slug}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(client.client_id, client.secret),
    )
    assert answer.status_code == 401


async def test_it_gets_one_new_secret_and_what_it_had_is_worth_nothing(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    call = await gateway.as_caller(admin)
    ends = gateway.clock.now + timedelta(hours=1)
    await gateway.gateway.credentials.generate(call, call.agent.agent_id, expires_at=ends)
    token, before = await gateway.token(admin), await gateway.agent(admin)
    trail = await gateway.trail(admin)
    old = {each.credential_id for each in await credentials(gateway, admin)}
    gateway.clock.advance(5)

    made = await reset(gateway)

    again = client_of(made)
    assert again.client_id == admin.client_id
    assert (await gateway.as_caller(again)).agent.scope == GATEWAY_CAPABILITIES
    await assert_locked_out(gateway, admin, token)
    assert await gateway.agent(admin) == replace(
        before,
        token_generation=before.token_generation + 1,
        updated_at=gateway.clock.now,
        composite_score=made.administrator.composite_score,
        governance_level=made.administrator.governance_level,
    )
    found = await credentials(gateway, admin)
    usable = [each for each in found if each.status is CredentialStatus.ACTIVE]
    assert [each.credential_id not in old for each in usable] == [True]
    assert (usable[0].label, usable[0].expires_at) == ("reset", None)
    assert {each.revoked_at for each in found if each.credential_id in old} == {gateway.clock.now}
    written = [e for e in await gateway.trail(admin) if e not in trail][:3]
    assert [event.action.value for event in written] == [
        "credential.revoked", "credential.revoked", "credential.generated",
    ]  # fmt: skip
    assert {str(event.agent_id) for event in written} == {admin.client_id}
    event = (await operator_events(gateway))[0]
    assert (event.action, event.tenant) == ("tenant.administrator_reset", "acme")
    assert event.metadata == {
        "adminId": admin.client_id, "credentialId": str(usable[0].credential_id),
    }  # fmt: skip
    said = repr((made, event, written))
    assert made.secret not in said
    assert usable[0].secret_hash not in said


async def test_one_that_was_suspended_and_stripped_is_whole_again(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    other = await gateway.client_of(admin, sorted(GATEWAY_CAPABILITIES))
    call = await gateway.as_caller(other)
    agents, actor = gateway.gateway.agents, UUID(admin.client_id)
    await agents.update(call, actor, {"capabilities": ["billing:read", "agents:read"]})
    await agents.suspend(call, actor)
    trail = len(await gateway.trail(admin))

    made = await reset(gateway)

    agent = await gateway.agent(admin)
    assert agent.status is AgentStatus.ACTIVE
    assert set(agent.capabilities) == GATEWAY_CAPABILITIES | {"billing:read"}
    assert agent == made.administrator
    assert await gateway.token(client_of(made))
    written = (await gateway.trail(admin))[trail : trail + 4]
    assert [(event.action.value, event.metadata.get("changed")) for event in written] == [
        ("agent.reactivated", None),
        ("agent.updated", ["capabilities"]),
        ("credential.revoked", None),
        ("credential.generated", None),
    ]
    # The other one is left as it was.
    assert await gateway.token(other)


async def test_the_cache_hears_of_it(on_postgres: RunningGateway, redis: Redis) -> None:
    admin = await on_postgres.onboard()
    await reset(on_postgres)
    key = admin.prefix.agent_generation_key(UUID(admin.client_id))
    assert await redis.get(key) == b"1"


async def test_a_suspended_tenant_s_administrator_waits_with_its_new_secret(
    gateway: RunningGateway,
) -> None:
    await gateway.onboard()
    operator = gateway.call(Operator())
    await gateway.gateway.tenants.suspend(operator, "acme", "unpaid")
    made = await reset(gateway)
    assert made.tenant.status is TenantStatus.SUSPENDED
    assert (await row(gateway)).status_reason == "unpaid"
    assert await gateway.gateway.authenticator.active_tenant("acme", gateway.clock.now) is None
    await gateway.gateway.tenants.reactivate(operator, "acme")
    assert await gateway.token(client_of(made))


async def test_a_tenant_from_the_command_line_gets_its_first_administrator(
    gateway: RunningGateway,
) -> None:
    await provision_tenant(gateway.gateway.storage, "acme", None, gateway.clock.now)
    events = await operator_events(gateway)
    with pytest.raises(InvalidInput) as refused:
        await reset(gateway)
    assert refused.value.path == ("adminEmail",)
    assert await operator_events(gateway) == events
    assert await gateway.gateway.storage.read((await row(gateway)).prefix).agents.count() == 0

    made = await reset(gateway, NEW)

    agent = made.administrator
    assert (agent.email, agent.agent_type, agent.owner) == (NEW, AgentType.ORCHESTRATOR, "acme")
    assert set(agent.capabilities) == GATEWAY_CAPABILITIES
    assert (await row(gateway)).administrator_id == agent.agent_id == made.tenant.administrator_id
    client = client_of(made)
    assert await gateway.agent(client) == agent
    assert await gateway.actions(client) == ["agent.created", "credential.generated"]
    assert {event.agent_id for event in await gateway.trail(client)} == {agent.agent_id}
    event = (await operator_events(gateway))[0]
    assert (event.metadata["adminId"], event.metadata["replacedAdminId"]) == (
        str(agent.agent_id), None,
    )  # fmt: skip
    assert await gateway.token(client)
    # From now on there is one, who is helped without saying who it is.
    assert (await reset(gateway)).administrator.agent_id == agent.agent_id


async def test_one_that_is_gone_for_good_is_replaced(gateway: RunningGateway) -> None:
    admin = await gateway.onboard()
    call = await gateway.as_caller(admin)
    await gateway.gateway.agents.decommission(call, call.agent.agent_id)
    before = await stored(gateway, admin)
    for email in (None, "nope", "admin@acme.example"):
        with pytest.raises((InvalidInput, EmailTaken)) as refused:
            await reset(gateway, email)
        assert refused.value.path == ("adminEmail",)
        assert await stored(gateway, admin) == before

    made = await reset(gateway, NEW)

    assert made.administrator.email == NEW
    assert (await row(gateway)).administrator_id == made.administrator.agent_id
    assert (await gateway.agent(admin)).status is AgentStatus.DECOMMISSIONED
    event = (await operator_events(gateway))[0]
    assert event.metadata["replacedAdminId"] == admin.client_id
    assert await gateway.token(client_of(made))


async def test_one_that_the_registry_names_in_vain_is_replaced(gateway: RunningGateway) -> None:
    """As a reset leaves it that was cut off between its two transactions."""
    await gateway.onboard()
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.tenants.save(replace(await row(gateway), administrator_id=uuid4()))
    made = await reset(gateway, NEW)
    assert (await row(gateway)).administrator_id == made.administrator.agent_id
    assert await gateway.token(client_of(made))


async def test_another_address_than_the_administrator_s_is_not_passed_over(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    before = await stored(gateway, admin)
    with pytest.raises(InvalidInput) as refused:
        await reset(gateway, NEW)
    assert refused.value.path == ("adminEmail",)
    assert await stored(gateway, admin) == before
    assert (await reset(gateway, "admin@acme.example")).administrator.email == "admin@acme.example"


@pytest.mark.parametrize(
    "status",
    [
        TenantStatus.PROVISIONING,
        TenantStatus.REMOVING,
        TenantStatus.REMOVED,
        TenantStatus.FAILED,
    ],
)
async def test_a_tenant_that_is_not_there_to_be_served_has_nobody_to_be_helped(
    gateway: RunningGateway, status: TenantStatus
) -> None:
    admin = await gateway.onboard()
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.tenants.save(replace(await row(gateway), status=status))
    before = await stored(gateway, admin)
    with pytest.raises(InvalidTransition):
        await reset(gateway)
    assert await stored(gateway, admin) == before


@pytest.mark.parametrize("slug", ["globex", "ACME", "", "a'b", "\x00", "x" * 100])
async def test_a_tenant_that_cannot_be_is_not_found(in_memory: RunningGateway, slug: str) -> None:
    admin = await in_memory.onboard()
    before = await stored(in_memory, admin)
    with pytest.raises(NotFound):
        await reset(in_memory, slug=slug)
    assert await stored(in_memory, admin) == before


async def test_two_tenants_have_two_administrators(gateway: RunningGateway) -> None:
    acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
    before = await stored(gateway, globex)
    made = await reset(gateway)
    assert made.administrator.agent_id == UUID(acme.client_id)
    after = await stored(gateway, globex)
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert (before[0], before[2:]) == (after[0], after[2:])
    assert await gateway.token(globex)
