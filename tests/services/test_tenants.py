"""Tenants, as the operator finds them, stops them, and lets them go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from db.errors import InvalidInput, InvalidTransition, NotFound, Unauthenticated
from db.filters import AuditEventFilter, TenantFilter
from db.pages import PageRequest
from db.records import AuditOutcome, OperatorEvent, Tenant, TenantStatus
from gateway.auth.principal import Operator
from tests.gateway import Client, RunningGateway, profile

REASON = 'has not paid; "said so" -- twice'
GRANT = {"grant_type": "client_credentials"}


async def row(gateway: RunningGateway, slug: str = "acme") -> Tenant:
    found = await gateway.gateway.storage.registry.tenants.get(slug)
    assert found is not None
    return found


async def operator_events(gateway: RunningGateway) -> list[OperatorEvent]:
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest())
    return list(page.items)


async def put(gateway: RunningGateway, status: TenantStatus, slug: str = "acme") -> None:
    async with gateway.gateway.storage.registry_unit() as unit:
        held = await unit.tenants.get(slug)
        assert held is not None
        await unit.tenants.save(replace(held, status=status))


async def refused_everywhere(gateway: RunningGateway, client: Client, token: str) -> bool:
    """Whether neither the token nor the client's secret gets anybody anywhere."""
    proof = (client.client_id, client.secret)
    base = f"/t/{client.slug}/oauth2"
    issued = await gateway.client.post(f"{base}/token", data=GRANT, auth=proof)
    looked_into = await gateway.client.post(f"{base}/introspect", data={"token": token}, auth=proof)
    asked = await gateway.graphql("{ viewer { agentId } }", token=token)
    revoked = await gateway.client.post(f"{base}/revoke", data={"token": token}, auth=proof)
    answers = [issued.status_code, looked_into.status_code, revoked.status_code]
    codes = [each["extensions"]["code"] for each in asked.get("errors", [])]
    assert answers in ([404, 404, 404], [200, 200, 200])
    assert (answers[0] == 404) == (codes == ["UNAUTHENTICATED"])
    return answers[0] == 404


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


async def test_a_retention_of_its_own_hides_what_is_older_at_once_and_is_on_record(
    gateway: RunningGateway,
) -> None:
    acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
    gateway.clock.advance(2 * 86_400)
    before = await row(gateway)

    tenant = await gateway.gateway.tenants.update(
        gateway.call(Operator()), "acme", {"retention_days": 1}
    )

    assert tenant == replace(before, retention_days=1, updated_at=gateway.clock.now)
    assert await row(gateway) == tenant
    event = (await operator_events(gateway))[0]
    assert (event.action, event.tenant, event.metadata) == (
        "tenant.updated", "acme",
        {"displayName": "acme at work", "retentionDays": 1, "resourceServers": []},
    )  # fmt: skip
    for client, seen in ((acme, 1), (globex, 3)):
        call = await gateway.as_caller(client)
        page = await gateway.gateway.audit.page(call, PageRequest(), AuditEventFilter())
        assert len(page.items) == seen
    # Hidden, and not gone: that is for the purge.
    assert len(await gateway.trail(acme)) == 3


async def test_what_is_said_again_of_a_tenant_changes_nothing_and_is_not_told(
    gateway: RunningGateway,
) -> None:
    await gateway.onboard()
    before, events = await row(gateway), await operator_events(gateway)
    gateway.clock.advance(60)
    call = gateway.call(Operator())

    await gateway.gateway.tenants.update(
        call, "acme", {"retention_days": None, "display_name": before.display_name}
    )

    assert await row(gateway) == before
    assert await operator_events(gateway) == events


async def test_a_removed_tenant_is_not_changed_any_more(gateway: RunningGateway) -> None:
    await gateway.onboard()
    await put(gateway, TenantStatus.REMOVED)
    before = await row(gateway)

    with pytest.raises(InvalidTransition):
        await gateway.gateway.tenants.update(
            gateway.call(Operator()), "acme", {"retention_days": 7}
        )

    assert await row(gateway) == before


async def test_every_request_of_a_suspended_tenant_is_refused_and_of_no_other(
    gateway: RunningGateway,
) -> None:
    acme, globex = await gateway.onboard("acme"), await gateway.onboard("globex")
    tokens = {client: await gateway.token(client) for client in (acme, globex)}
    before, trail = await row(gateway), await gateway.trail(acme)
    gateway.clock.advance(5)

    tenant = await gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme", REASON)

    assert tenant == replace(
        before,
        status=TenantStatus.SUSPENDED,
        status_reason=REASON,
        token_generation=before.token_generation + 1,
        updated_at=gateway.clock.now,
    )
    assert await row(gateway) == tenant
    event = (await operator_events(gateway))[0]
    assert (event.action, event.tenant, event.metadata) == (
        "tenant.suspended", "acme", {"reason": REASON},
    )  # fmt: skip
    assert event.outcome is AuditOutcome.SUCCESS
    assert await refused_everywhere(gateway, acme, tokens[acme])
    assert await gateway.trail(acme) == trail
    assert not await refused_everywhere(gateway, globex, await gateway.token(globex))


async def test_a_suspension_that_is_asked_for_again_is_made_known_again_and_changes_nothing(
    on_postgres: RunningGateway, redis: Redis
) -> None:
    gateway = on_postgres
    admin = await gateway.onboard()
    await gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme", REASON)
    key = admin.prefix.tenant_generation_key
    assert await redis.get(key) == b"1"
    await redis.delete(key)
    before, events = await row(gateway), await operator_events(gateway)
    gateway.clock.advance(60)

    with pytest.raises(InvalidTransition, match="already"):
        await gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme", "another reason")

    assert await redis.get(key) == b"1"
    assert await row(gateway) == before
    assert await operator_events(gateway) == events


async def test_a_removal_that_is_asked_for_again_is_made_known_again_and_stays_as_it_is(
    on_postgres: RunningGateway, redis: Redis
) -> None:
    gateway = on_postgres
    admin = await gateway.onboard()
    await gateway.gateway.tenants.remove(gateway.call(Operator()), "acme")
    await redis.delete(admin.prefix.tenant_generation_key)
    before, events = await row(gateway), await operator_events(gateway)
    due = await gateway.gateway.tenants.removals(["acme"])
    gateway.clock.advance(60)

    with pytest.raises(InvalidTransition, match="already"):
        await gateway.gateway.tenants.remove(gateway.call(Operator()), "acme")

    assert await redis.get(admin.prefix.tenant_generation_key) == b"1"
    assert (await row(gateway), await operator_events(gateway)) == (before, events)
    assert await gateway.gateway.tenants.removals(["acme"]) == due


async def test_a_reactivated_tenant_goes_on_but_its_old_tokens_do_not(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    old, operator = await gateway.token(admin), gateway.call(Operator())
    await gateway.gateway.tenants.suspend(operator, "acme", REASON)
    suspended = await row(gateway)

    tenant = await gateway.gateway.tenants.reactivate(operator, "acme")

    assert tenant == replace(suspended, status=TenantStatus.ACTIVE, status_reason=None)
    assert await row(gateway) == tenant
    assert [event.action for event in await operator_events(gateway)][:2] == [
        "tenant.reactivated", "tenant.suspended",
    ]  # fmt: skip
    with pytest.raises(Unauthenticated):
        await gateway.gateway.authenticator.bearer([f"Bearer {old}"], gateway.clock.now)
    assert not await refused_everywhere(gateway, admin, await gateway.token(admin))


async def test_what_was_under_way_when_its_tenant_was_suspended_changes_nothing(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    under_way = await gateway.as_caller(admin)
    before = await gateway.trail(admin)
    await gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme")

    with pytest.raises(Unauthenticated):
        await gateway.gateway.agents.register(under_way, profile("new@agents.example", ["a:b"]))
    with pytest.raises(Unauthenticated):
        await gateway.gateway.credentials.generate(under_way, under_way.agent.agent_id)

    assert await gateway.trail(admin) == before
    assert await gateway.gateway.storage.read(admin.prefix).agents.count() == 1


async def test_of_many_acts_at_once_none_is_done_after_the_suspension_was_answered(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    calls = [await gateway.as_caller(admin) for _ in range(30)]
    agents = gateway.gateway.agents
    acting = [
        asyncio.ensure_future(agents.register(each, profile(f"a{n}@agents.example", ["a:b"])))
        for n, each in enumerate(calls)
    ]
    await asyncio.wait(acting, return_when=asyncio.FIRST_COMPLETED)

    await gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme")

    count = gateway.gateway.storage.read(admin.prefix).agents.count
    answered = await count()
    outcomes = await asyncio.gather(*acting, return_exceptions=True)
    assert await count() == answered
    done = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(done) == answered - 1
    assert all(isinstance(each, Unauthenticated) for each in outcomes if each not in done)


ALLOWED = {
    "suspend": {TenantStatus.ACTIVE},
    "reactivate": {TenantStatus.SUSPENDED},
    "remove": {
        TenantStatus.ACTIVE, TenantStatus.SUSPENDED, TenantStatus.FAILED, TenantStatus.PROVISIONING,
    },
}  # fmt: skip


@pytest.mark.parametrize("status", TenantStatus)
@pytest.mark.parametrize("act", ALLOWED)
async def test_a_tenant_changes_in_the_ways_that_there_are_and_in_no_other(
    in_memory: RunningGateway, act: str, status: TenantStatus
) -> None:
    gateway = in_memory
    await gateway.onboard()
    await put(gateway, status)
    before, events = await row(gateway), await operator_events(gateway)
    change = getattr(gateway.gateway.tenants, act)

    if status in ALLOWED[act]:
        assert (await change(gateway.call(Operator()), "acme")).status is not status
        assert len(await operator_events(gateway)) == len(events) + 1
    else:
        with pytest.raises(InvalidTransition):
            await change(gateway.call(Operator()), "acme")
        assert await row(gateway) == before
        assert await operator_events(gateway) == events
        assert await gateway.gateway.tenants.removals(["acme"]) == {}


@pytest.mark.parametrize("slug", ["globex", "ACME", "", "a'b", "\x00", "x" * 100, "pg_x"])
@pytest.mark.parametrize("act", ALLOWED)
async def test_a_tenant_that_cannot_be_is_not_found(
    in_memory: RunningGateway, act: str, slug: str
) -> None:
    await in_memory.onboard()
    events = await operator_events(in_memory)
    with pytest.raises(NotFound):
        await getattr(in_memory.gateway.tenants, act)(in_memory.call(Operator()), slug)
    assert await operator_events(in_memory) == events


@pytest.mark.parametrize("reason", ["x" * 501, "a\x00b", "\ud800"])
@pytest.mark.parametrize("act", ["suspend", "remove"])
async def test_a_reason_that_cannot_be_kept_changes_nothing(
    in_memory: RunningGateway, act: str, reason: str
) -> None:
    await in_memory.onboard()
    before, events = await row(in_memory), await operator_events(in_memory)
    with pytest.raises(InvalidInput) as refused:
        await getattr(in_memory.gateway.tenants, act)(in_memory.call(Operator()), "acme", reason)
    assert refused.value.path == ("reason",)
    assert (await row(in_memory), await operator_events(in_memory)) == (before, events)


async def test_of_two_who_suspend_at_once_one_does(gateway: RunningGateway) -> None:
    await gateway.onboard()
    outcomes = await asyncio.gather(
        *(gateway.gateway.tenants.suspend(gateway.call(Operator()), "acme") for _ in range(3)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Tenant) for each in outcomes) == 1
    assert sum(isinstance(each, InvalidTransition) for each in outcomes) == 2
    assert (await row(gateway)).token_generation == 1
    actions = [event.action for event in await operator_events(gateway)]
    assert actions.count("tenant.suspended") == 1


async def test_when_the_data_goes_is_told_of_those_that_wait_for_it_alone(
    gateway: RunningGateway,
) -> None:
    for slug in ("acme", "globex", "initech"):
        await gateway.onboard(slug)
    tenants, operator = gateway.gateway.tenants, gateway.call(Operator())
    await tenants.remove(operator, "acme")
    await tenants.remove(operator, "globex")
    await tenants.reactivate(operator, "globex")
    due = gateway.clock.now + timedelta(hours=168)
    assert await tenants.removals(["acme", "globex", "initech", "nobody", "acme"]) == {"acme": due}
    assert await tenants.removals([]) == {}
