"""Onboarding: the slug is taken and the secret told at once, and the rest is work that waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import anyio
import pytest

from db.errors import AgentIdPError, InvalidInput, SlugTaken
from db.filters import TenantFilter, WorkFilter
from db.grammar import GATEWAY_CAPABILITIES
from db.pages import PageRequest
from db.provisioning import provision_tenant
from db.records import (
    AgentStatus,
    AgentType,
    AuditOutcome,
    DeploymentEnv,
    OperatorEvent,
    Tenant,
    TenantStatus,
)
from db.work import LEASE, JobName, WorkState, claimed, new_work, requeued
from gateway.auth.principal import Operator
from gateway.services.onboarding import OnboardedTenant
from tests.gateway import Client, RunningGateway

KEY = "provision_tenant:acme"
UNFINISHED = (TenantStatus.PROVISIONING, TenantStatus.FAILED)


async def onboard(gateway: RunningGateway, **said: Any) -> OnboardedTenant:
    given = {"slug": "acme", "display_name": "Acme", "admin_email": "root@acme.example"} | said
    return await gateway.gateway.onboarding.onboard(gateway.call(Operator()), **given)


def client_of(made: OnboardedTenant) -> Client:
    assert made.secret is not None
    return Client(made.tenant.slug, str(made.client_id), made.secret)


async def stored(gateway: RunningGateway, slug: str = "acme") -> Tenant:
    tenant = await gateway.gateway.tenants.get(slug)
    assert tenant is not None
    return tenant


async def events(gateway: RunningGateway) -> list[OperatorEvent]:
    """Oldest first."""
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest(first=100))
    return list(reversed(page.items))


async def actions(gateway: RunningGateway) -> list[str]:
    return [event.action for event in await events(gateway)]


async def sealed(gateway: RunningGateway, key: str = KEY) -> Any:
    async with gateway.gateway.storage.registry_unit() as unit:
        return await unit.work.unseal(key)


async def everything(gateway: RunningGateway) -> object:
    """All that an onboarding can change."""
    registry = gateway.gateway.storage.registry
    return (
        (await registry.tenants.page(PageRequest(first=100))).items,
        (await registry.work.page(PageRequest(first=100))).items,
        (await registry.operator_events.page(PageRequest(first=100))).items,
        await sealed(gateway),
    )


async def set_status(gateway: RunningGateway, status: TenantStatus) -> None:
    async with gateway.gateway.storage.registry_unit() as unit:
        held = await unit.tenants.get("acme")
        assert held is not None
        await unit.tenants.save(replace(held, status=status))


async def test_the_answer_is_given_while_the_tables_still_wait(gateway: RunningGateway) -> None:
    with gateway.queue.held():
        made = await onboard(gateway, display_name="Acme & Co")

    assert (made.tenant.slug, made.tenant.display_name) == ("acme", "Acme & Co")
    assert made.tenant.status is TenantStatus.PROVISIONING
    assert made.tenant.administrator_id == made.client_id
    assert await stored(gateway) == made.tenant
    assert gateway.queue.waiting == [KEY]
    row = await gateway.gateway.storage.registry.work.get(KEY)
    assert row == new_work(
        JobName.PROVISION_TENANT, gateway.clock.now, "acme", after=gateway.clock.now
    )
    [event] = await events(gateway)
    assert (event.action, event.tenant) == ("tenant.onboarded", "acme")
    assert event.metadata == {"adminId": str(made.client_id)}


async def test_of_the_secret_nothing_is_kept_but_its_hash_and_nothing_shows_that(
    gateway: RunningGateway,
) -> None:
    with gateway.queue.held():
        made = await onboard(gateway)

    assert made.secret is not None
    waiting = await sealed(gateway)
    assert waiting["credential"]["secret_hash"].startswith("$2b$")
    assert made.secret not in repr(waiting)
    row = await gateway.gateway.storage.registry.work.get(KEY)
    for shown in (made, made.tenant, row, await events(gateway)):
        assert made.secret not in repr(shown)
        assert waiting["credential"]["secret_hash"] not in repr(shown)
    await gateway.queue.run()
    assert await sealed(gateway) is None


async def test_once_it_is_active_its_administrator_can_log_in(gateway: RunningGateway) -> None:
    made = await onboard(gateway, admin_email="root@acme.example")
    tenant = await stored(gateway)
    assert tenant.status is TenantStatus.ACTIVE
    assert tenant.revision
    agent = await gateway.agent(client_of(made))
    assert agent.agent_id == made.client_id == tenant.administrator_id
    assert (agent.email, agent.agent_type) == ("root@acme.example", AgentType.ORCHESTRATOR)
    assert (agent.version, agent.owner, agent.deployment_env) == (
        "1.0.0",
        "acme",
        DeploymentEnv.PRODUCTION,
    )
    assert agent.status is AgentStatus.ACTIVE
    assert set(agent.capabilities) == GATEWAY_CAPABILITIES
    assert await gateway.token(client_of(made))
    row = await gateway.gateway.storage.registry.work.get(KEY)
    assert row is not None
    assert row.state is WorkState.DONE


async def test_the_operator_s_act_and_the_tenant_s_first_lines_are_written(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    onboarded, provisioned = await events(gateway)
    assert (onboarded.action, onboarded.tenant) == ("tenant.onboarded", "acme")
    assert (provisioned.action, provisioned.tenant) == ("tenant.provisioned", "acme")
    assert {onboarded.outcome, provisioned.outcome} == {AuditOutcome.SUCCESS}
    assert provisioned.metadata == {"revision": (await stored(gateway)).revision}
    created, generated = await gateway.trail(admin)
    assert (created.action.value, generated.action.value) == (
        "agent.created",
        "credential.generated",
    )
    assert str(created.agent_id) == str(generated.agent_id) == admin.client_id
    # They are the operator's doing, from where the operator called.
    assert {created.ip_address, generated.ip_address, onboarded.ip_address} == {"192.0.2.1"}
    assert admin.secret not in repr((onboarded, provisioned, created, generated))


async def test_a_slug_is_taken_once_whatever_became_of_its_tenant(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    agent = await gateway.agent(admin)
    for status in TenantStatus:
        await set_status(gateway, status)
        before = await everything(gateway)
        with pytest.raises(SlugTaken):
            await onboard(gateway, display_name="Thief", admin_email="x@acme.example")
        assert await everything(gateway) == before, status
    assert await gateway.agent(admin) == agent
    assert len(await gateway.trail(admin)) == 2


async def test_of_several_that_want_one_slug_at_once_one_gets_it(gateway: RunningGateway) -> None:
    made: list[OnboardedTenant] = []
    refused: list[str] = []

    async def attempt(email: str) -> None:
        try:
            made.append(await onboard(gateway, admin_email=email))
        except AgentIdPError as error:
            refused.append(error.code)

    with gateway.queue.held():
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(attempt, f"{name}@acme.example")

    [winner] = made
    assert refused == ["SLUG_TAKEN", "SLUG_TAKEN"]
    assert await actions(gateway) == ["tenant.onboarded"]
    assert await stored(gateway) == winner.tenant
    assert gateway.queue.waiting == [KEY]
    await gateway.queue.run()
    # What waited was the winner's, whole.
    assert await gateway.token(client_of(winner))
    assert (await gateway.agent(client_of(winner))).agent_id == winner.client_id


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
    with pytest.raises(InvalidInput) as refused:
        await onboard(in_memory, slug=slug, display_name=name, admin_email=email)
    assert refused.value.path == (path,)
    registry = in_memory.gateway.storage.registry
    assert await in_memory.gateway.tenants.get(slug) is None
    assert await registry.tenants.count(TenantFilter()) == 0
    assert await registry.work.count(WorkFilter()) == 0
    assert await events(in_memory) == []
    assert in_memory.queue.waiting == []


async def test_a_tenant_that_was_only_provisioned_gets_its_administrator_by_onboarding(
    gateway: RunningGateway,
) -> None:
    now = gateway.clock.now
    await provision_tenant(gateway.gateway.storage, "acme", "From the command line", now)

    with gateway.queue.held():
        made = await onboard(gateway)
        # From here on it is somebody's, and not served before that one is there.
        assert (await stored(gateway)).status is TenantStatus.PROVISIONING
        with pytest.raises(SlugTaken):
            await onboard(gateway)
        await gateway.queue.run()

    assert (await gateway.as_caller(client_of(made))).agent.agent_id == made.client_id
    assert (await stored(gateway)).display_name == "Acme"


async def test_onboarding_takes_no_cut_of_the_tenant_back(gateway: RunningGateway) -> None:
    now, operator = gateway.clock.now, gateway.call(Operator())
    await provision_tenant(gateway.gateway.storage, "acme", None, now)
    await gateway.gateway.tenants.suspend(operator, "acme")
    await gateway.gateway.tenants.reactivate(operator, "acme")

    made = await onboard(gateway)

    assert (await stored(gateway)).token_generation == 1
    # What the cache was told of the cut is there for a day, and refuses what is older.
    assert (await gateway.as_caller(client_of(made))).agent.agent_id == made.client_id


async def test_onboarding_releases_no_kill_switch(gateway: RunningGateway) -> None:
    now, operator = gateway.clock.now, gateway.call(Operator())
    await provision_tenant(gateway.gateway.storage, "acme", None, now)
    await gateway.gateway.kill_switch.engage(operator, "not before Monday", slug="acme")

    made = await onboard(gateway)

    assert (await stored(gateway)).kill_switch_reason == "not before Monday"
    assert (await stored(gateway)).is_killed
    await gateway.gateway.kill_switch.release(operator, slug="acme")
    assert (await gateway.as_caller(client_of(made))).agent.agent_id == made.client_id


async def test_what_failed_before_it_had_an_agent_is_onboarded_anew_with_a_new_secret(
    gateway: RunningGateway,
) -> None:
    with gateway.queue.held():
        first = await onboard(gateway)
        gateway.queue.waiting.clear()
        await set_status(gateway, TenantStatus.FAILED)
        async with gateway.gateway.storage.registry_unit() as unit:
            row = await unit.work.get(KEY)
            assert row is not None
            await unit.work.save(replace(row, state=WorkState.FAILED, attempts=5, fence=5))
    gateway.clock.advance(60)

    second = await onboard(gateway, admin_email="second@acme.example")

    assert await gateway.token(client_of(second))
    tenant = await stored(gateway)
    assert (tenant.status, tenant.status_reason) == (TenantStatus.ACTIVE, None)
    assert tenant.administrator_id == second.client_id
    reader = gateway.gateway.storage.read(tenant.prefix)
    assert await reader.agents.get(first.client_id) is None
    assert await reader.agents.count() == 1


async def test_what_a_worker_is_at_is_taken_and_what_a_dead_one_left_is_not(
    gateway: RunningGateway,
) -> None:
    with gateway.queue.held():
        await onboard(gateway)
        gateway.queue.waiting.clear()
        await set_status(gateway, TenantStatus.FAILED)
        async with gateway.gateway.storage.registry_unit() as unit:
            row = await unit.work.get(KEY)
            assert row is not None
            zombie = claimed(requeued(row, gateway.clock.now), "zombie", gateway.clock.now)
            assert zombie is not None
            await unit.work.save(zombie)
        before = await everything(gateway)
        with pytest.raises(SlugTaken):
            await onboard(gateway)
        assert await everything(gateway) == before

        gateway.clock.advance(LEASE.total_seconds())
        second = await onboard(gateway)

        # Whoever comes back from the dead now finds that the row is no longer its own.
        row = await gateway.gateway.storage.registry.work.get(KEY)
        assert row is not None
        assert not row.held_by(zombie)
        await gateway.queue.run()
    assert await gateway.token(client_of(second))


@pytest.mark.parametrize("status", UNFINISHED)
@pytest.mark.parametrize(
    "path",
    [
        "/t/acme/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server/t/acme",
        "/t/acme/oauth2/token",
        "/t/acme/oauth2/introspect",
        "/t/acme/oauth2/revoke",
    ],
)
async def test_a_half_made_tenant_answers_as_one_that_nobody_knows(
    gateway: RunningGateway, status: TenantStatus, path: str
) -> None:
    with gateway.queue.held():
        client = client_of(await onboard(gateway))
    await set_status(gateway, status)

    async def asked(slug: str) -> tuple[int, str]:
        at = path.replace("acme", slug)
        if "oauth2" not in at:
            answer = await gateway.client.get(at)
        else:
            form = {"grant_type": "client_credentials", "token": "x"}
            answer = await gateway.client.post(
                at, data=form, auth=(client.client_id, client.secret)
            )
        return answer.status_code, answer.text.replace(slug, "acme")

    assert await asked("acme") == await asked("nobody")
    assert (await asked("acme"))[0] in (401, 404)
    await set_status(gateway, TenantStatus.PROVISIONING)
    await gateway.queue.run()
    assert (await asked("acme"))[0] in (200, 401)


@pytest.mark.parametrize("status", UNFINISHED)
async def test_nobody_gets_a_token_of_a_half_made_tenant_and_none_is_accepted(
    gateway: RunningGateway, status: TenantStatus
) -> None:
    issue = """mutation($tenant: String!, $id: String!, $secret: String!) {
        issueToken(input: {tenant: $tenant, clientId: $id, clientSecret: $secret}) {
            __typename ... on UserError { code message path } } }"""
    client = await gateway.onboard()
    token = await gateway.token(client)
    before = await gateway.trail(client)
    await set_status(gateway, status)

    said = {"id": client.client_id, "secret": client.secret}
    refused = await gateway.graphql(issue, {"tenant": "acme", **said})
    assert refused == await gateway.graphql(issue, {"tenant": "nobody", **said})
    assert refused["data"]["issueToken"]["code"] == "INVALID_CLIENT"
    answer = await gateway.graphql("{ viewer { email } }", token=token)
    assert [e["extensions"]["code"] for e in answer["errors"]] == ["UNAUTHENTICATED"]
    assert await gateway.trail(client) == before


async def test_two_tenants_share_nothing_but_their_names(gateway: RunningGateway) -> None:
    acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
    call = await gateway.as_caller(acme)
    assert await gateway.gateway.agents.get(call, UUID(globex.client_id)) is None
    assert await gateway.gateway.agents.by_email(call, "admin@globex.example") is None
    assert len(await gateway.trail(globex)) == 2
