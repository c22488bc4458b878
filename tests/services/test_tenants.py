"""Tenants: onboarded by the operator, complete or not at all."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import anyio
import pytest

from db.errors import AgentIdPError, InvalidInput, MigrationFailed, SlugTaken
from db.filters import TenantFilter
from db.grammar import GATEWAY_CAPABILITIES
from db.pages import PageRequest
from db.provisioning import provision_tenant
from db.records import (
    AgentStatus,
    AgentType,
    AuditOutcome,
    DeploymentEnv,
    Tenant,
    TenantStatus,
)
from gateway.auth.principal import Operator
from tests.db.postgres import execute
from tests.gateway import Client, RunningGateway
from tests.servers.databases import Database


async def test_a_tenant_is_active_with_an_administrator_that_can_log_in(
    gateway: RunningGateway,
) -> None:
    call = gateway.call(Operator())
    made = await gateway.gateway.tenants.onboard(call, "acme", "Acme & Co", "root@acme.example")
    assert (made.tenant.slug, made.tenant.display_name) == ("acme", "Acme & Co")
    assert made.tenant.status is TenantStatus.ACTIVE
    assert made.tenant.revision
    assert await gateway.gateway.tenants.get("acme") == made.tenant
    agent = made.administrator
    assert (agent.email, agent.agent_type) == ("root@acme.example", AgentType.ORCHESTRATOR)
    assert (agent.version, agent.owner, agent.deployment_env) == (
        "1.0.0",
        "acme",
        DeploymentEnv.PRODUCTION,
    )
    assert agent.status is AgentStatus.ACTIVE
    assert set(agent.capabilities) == GATEWAY_CAPABILITIES
    client = Client("acme", str(agent.agent_id), made.secret)
    assert await gateway.agent(client) == agent
    assert await gateway.token(client)
    assert made.secret not in repr(made)


async def test_the_operator_s_act_and_the_tenant_s_first_lines_are_written(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    events = (await gateway.gateway.storage.registry.operator_events.page(PageRequest())).items
    [event] = events
    assert (event.action, event.tenant) == ("tenant.onboarded", "acme")
    assert event.outcome is AuditOutcome.SUCCESS
    assert event.metadata == {"adminId": admin.client_id}
    created, generated = await gateway.trail(admin)
    assert (created.action.value, generated.action.value) == (
        "agent.created",
        "credential.generated",
    )
    assert str(created.agent_id) == str(generated.agent_id) == admin.client_id
    assert admin.secret not in repr((event, created, generated))


async def test_a_slug_is_taken_once_whatever_became_of_its_tenant(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    agent = await gateway.agent(admin)
    call = gateway.call(Operator())
    for status in (TenantStatus.ACTIVE, TenantStatus.REMOVED, TenantStatus.FAILED):
        async with gateway.gateway.storage.registry_unit() as unit:
            held = await unit.tenants.get("acme")
            assert held is not None
            await unit.tenants.save(replace(held, status=status))
        with pytest.raises(SlugTaken):
            await gateway.gateway.tenants.onboard(call, "acme", "Thief", "x@acme.example")
    tenant = await gateway.gateway.tenants.get("acme")
    assert tenant is not None
    assert tenant.display_name == "acme at work"
    assert await gateway.agent(admin) == agent
    events = await gateway.gateway.storage.registry.operator_events.page(PageRequest())
    assert len(events.items) == 1


async def test_of_two_that_want_one_slug_at_once_one_gets_it(gateway: RunningGateway) -> None:
    outcomes: list[str] = []

    async def onboard(email: str) -> None:
        call = gateway.call(Operator())
        try:
            made = await gateway.gateway.tenants.onboard(call, "acme", "Acme", email)
            outcomes.append(made.administrator.email)
        except AgentIdPError as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(onboard, f"{name}@acme.example")
    [winner] = set(outcomes) - {"SLUG_TAKEN"}
    assert outcomes.count("SLUG_TAKEN") == 2
    assert winner.endswith("@acme.example")


@pytest.mark.parametrize(
    ("slug", "name", "email", "path"),
    [
        ("A", "Acme", "a@b.example", "slug"),
        ("acme'; drop table tenants; --", "Acme", "a@b.example", "slug"),
        ("a" * 64, "Acme", "a@b.example", "slug"),
        ("pg_acme", "Acme", "a@b.example", "slug"),
        ("registry", "Acme", "a@b.example", "slug"),
        ("ac__me", "Acme", "a@b.example", "slug"),
        ("acme\x00", "Acme", "a@b.example", "slug"),
        ("acme", "", "a@b.example", "displayName"),
        ("acme", "x" * 129, "a@b.example", "displayName"),
        ("acme", "a\x00", "a@b.example", "displayName"),
        ("acme", "Acme", "nobody", "adminEmail"),
    ],
)
async def test_what_is_malformed_onboards_nobody(
    in_memory: RunningGateway, slug: str, name: str, email: str, path: str
) -> None:
    tenants = in_memory.gateway.tenants
    with pytest.raises(InvalidInput) as refused:
        await tenants.onboard(in_memory.call(Operator()), slug, name, email)
    assert refused.value.path == (path,)
    assert await tenants.get(slug) is None
    assert await tenants.count(TenantFilter()) == 0
    page = await in_memory.gateway.storage.registry.operator_events.page(PageRequest())
    assert not page.items


async def test_a_tenant_whose_tables_cannot_be_made_has_failed_and_is_not_served(
    on_postgres: RunningGateway, empty_database: Database
) -> None:
    gateway = on_postgres
    await execute(empty_database, "CREATE TABLE acme_credentials (x int)")
    with pytest.raises(MigrationFailed) as failed:
        await gateway.onboard("acme")
    tenant = await gateway.gateway.tenants.get("acme")
    assert tenant is not None
    assert tenant.status is TenantStatus.FAILED
    assert await gateway.gateway.authenticator.active_tenant("acme") is None
    onboarded, reported = reversed(
        (await gateway.gateway.storage.registry.operator_events.page(PageRequest())).items
    )
    assert (onboarded.action, reported.action) == ("tenant.onboarded", "tenant.failed")
    assert reported.outcome is AuditOutcome.FAILURE
    assert reported.metadata == {"reason": failed.value.message}
    with pytest.raises(MigrationFailed):
        await gateway.onboard("acme")
    # The next tenant is none the worse for it, nor is this one once nothing is in the way.
    assert await gateway.token(await gateway.onboard("globex"))
    await execute(empty_database, "DROP TABLE acme_credentials")
    assert await gateway.token(await gateway.onboard("acme"))


async def test_tenants_are_found_by_slug_alone(gateway: RunningGateway) -> None:
    await gateway.onboard("acme")
    tenants = gateway.gateway.tenants
    for unknown in ("globex", "ACME", "acme ", "", "a'b", "\x00", "x" * 100):
        assert await tenants.get(unknown) is None
    await gateway.onboard("globex")
    page = await tenants.page(PageRequest(), TenantFilter())
    assert [tenant.slug for tenant in page.items] == ["acme", "globex"]
    failed = TenantFilter(status=(TenantStatus.FAILED,))
    assert await tenants.count(failed) == 0


async def test_two_tenants_share_nothing_but_their_names(gateway: RunningGateway) -> None:
    acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
    call = await gateway.as_caller(acme)
    assert await gateway.gateway.agents.get(call, UUID(globex.client_id)) is None
    assert await gateway.gateway.agents.by_email(call, "admin@globex.example") is None
    assert len(await gateway.trail(globex)) == 2


async def test_a_tenant_that_was_only_provisioned_gets_its_administrator_by_onboarding(
    gateway: RunningGateway,
) -> None:
    now = gateway.clock.now
    await provision_tenant(gateway.gateway.storage, "acme", "From the command line", now)

    admin = await gateway.onboard()

    assert (await gateway.as_caller(admin)).agent.agent_id == UUID(admin.client_id)
    before = await gateway.trail(admin)
    with pytest.raises(SlugTaken):
        await gateway.onboard()
    assert await gateway.trail(admin) == before


async def test_an_onboarding_that_failed_can_be_tried_again(gateway: RunningGateway) -> None:
    now = gateway.clock.now
    failed = Tenant("acme", "Acme", TenantStatus.FAILED, now, now)
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.tenants.add(failed)

    admin = await gateway.onboard()

    assert await gateway.token(admin)
    tenant = await gateway.gateway.tenants.get("acme")
    assert tenant is not None
    assert tenant.status is TenantStatus.ACTIVE


@pytest.mark.parametrize("status", [TenantStatus.PROVISIONING, TenantStatus.REMOVED])
async def test_a_tenant_that_is_being_made_or_is_gone_is_not_onboarded(
    gateway: RunningGateway, status: TenantStatus
) -> None:
    now = gateway.clock.now
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.tenants.add(Tenant("acme", "Acme", status, now, now))

    with pytest.raises(SlugTaken):
        await gateway.onboard()

    tenant = await gateway.gateway.tenants.get("acme")
    assert tenant is not None
    assert tenant.status is status
