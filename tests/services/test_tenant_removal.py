"""A tenant is removed in two steps, can be brought back between them, and its name is never given
again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from db.errors import InvalidTransition, SlugTaken, TenantNotProvisioned, Unauthenticated
from db.pages import PageRequest
from db.provisioning import provision_tenant
from db.records import JSONObject, Tenant, TenantStatus
from db.removal import Removal
from db.work import LEASE, JobName, Work, WorkState, claimed, work_key
from gateway.auth.principal import Operator
from gateway.settings import GatewaySettings
from tests.db.scene import call, environment
from tests.gateway import Client, ManualClock, RunningGateway, running
from tests.servers.databases import Database

GRACE = timedelta(hours=168)
REMOVE = work_key(JobName.REMOVE_TENANT, "acme")
MAKE = work_key(JobName.PROVISION_TENANT, "acme")


@pytest.fixture
async def gateway(backend: GatewaySettings, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    changes = {"export_directory": tmp_path / "exports"}
    # A time of grace is over by the database's clock too, or nothing is dropped.
    clock = ManualClock()
    clock.now -= 4 * GRACE
    async with running(backend.model_copy(update=changes), clock=clock) as started:
        yield started


async def row(gateway: RunningGateway) -> Tenant:
    found = await gateway.gateway.storage.registry.tenants.get("acme")
    assert found is not None
    return found


async def work(gateway: RunningGateway, key: str = REMOVE) -> Work:
    found = await gateway.gateway.storage.registry.work.get(key)
    assert found is not None
    return found


async def sealed(gateway: RunningGateway, key: str) -> JSONObject | None:
    async with gateway.gateway.storage.registry_unit() as unit:
        return await unit.work.unseal(key)


async def actions(gateway: RunningGateway) -> list[str]:
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest())
    return [event.action for event in page.items]


async def begin(gateway: RunningGateway) -> None:
    """An onboarding that no worker has looked at yet."""
    await gateway.gateway.onboarding.onboard(
        gateway.call(Operator()), "acme", "Acme", "root@acme.example"
    )


async def remove(gateway: RunningGateway, reason: str | None = None) -> Tenant:
    return await gateway.gateway.tenants.remove(gateway.call(Operator()), "acme", reason)


async def reactivate(gateway: RunningGateway) -> Tenant:
    return await gateway.gateway.tenants.reactivate(gateway.call(Operator()), "acme")


async def what_is_due(gateway: RunningGateway) -> None:
    """Whatever rang the bell, workers look at every row that is due."""
    for each in await gateway.gateway.storage.registry.work.due(gateway.clock.now, 100):
        await gateway.queue.ring(each.key)


async def claim(gateway: RunningGateway, key: str = REMOVE) -> Work:
    """As a worker that then is killed, or takes very long."""
    async with gateway.gateway.storage.registry_unit() as unit:
        held = await unit.work.get(key)
        taken = held and claimed(held, "another worker", gateway.clock.now)
        assert taken is not None
        await unit.work.save(taken)
    return taken


def exports(gateway: RunningGateway) -> list[str]:
    directory = gateway.gateway.settings.export_directory
    return sorted(each.name for each in directory.iterdir()) if directory.exists() else []


async def test_a_removed_tenant_is_refused_at_once_and_its_data_waits(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    token, trail, before = (
        await gateway.token(admin),
        await gateway.trail(admin),
        await row(gateway),
    )
    gateway.clock.advance(5)

    tenant = await remove(gateway, "has left us")

    assert tenant == replace(
        before,
        status=TenantStatus.REMOVING,
        status_reason="has left us",
        token_generation=1,
        updated_at=gateway.clock.now,
    )
    assert await row(gateway) == tenant
    with pytest.raises(Unauthenticated):
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    assert await gateway.trail(admin) == trail
    due = gateway.clock.now + GRACE
    queued = await work(gateway)
    assert (queued.state, queued.run_after) == (WorkState.QUEUED, due)
    event = (await gateway.gateway.storage.registry.operator_events.page(PageRequest())).items[0]
    assert (event.action, event.tenant) == ("tenant.removal_requested", "acme")
    assert event.metadata == {
        "reason": "has left us", "was": "active", "removesAt": due.isoformat(),
    }  # fmt: skip


async def test_nothing_is_gone_before_its_time_and_everything_after(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    await remove(gateway)
    assert Removal.from_json(await sealed(gateway, REMOVE)).due == gateway.clock.now + GRACE
    gateway.clock.advance(GRACE.total_seconds() - 1)
    await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVING
    assert await gateway.agent(admin)

    gateway.clock.advance(1)
    await what_is_due(gateway)

    tenant = await row(gateway)
    assert (tenant.status, tenant.revision) == (TenantStatus.REMOVED, None)
    with pytest.raises(TenantNotProvisioned):
        await gateway.agent(admin)
    assert (await actions(gateway))[:2] == ["tenant.removed", "tenant.removal_requested"]
    [name] = exports(gateway)
    assert name.startswith("acme-")
    with pytest.raises(InvalidTransition):
        await reactivate(gateway)
    with pytest.raises(InvalidTransition):
        await remove(gateway)


async def test_without_a_time_of_grace_it_goes_at_once(
    backend: GatewaySettings, tmp_path: Path
) -> None:
    changes = {"export_directory": tmp_path / "exports", "tenant_removal_grace_hours": 0}
    async with running(backend.model_copy(update=changes)) as gateway:
        await gateway.onboard()
        assert (await remove(gateway)).status is TenantStatus.REMOVING
        assert (await row(gateway)).status is TenantStatus.REMOVED


async def test_its_name_is_never_given_again(gateway: RunningGateway) -> None:
    await gateway.onboard()
    await remove(gateway)
    for _ in range(2):
        before, events = await row(gateway), await actions(gateway)
        with pytest.raises(SlugTaken):
            await gateway.onboard()
        assert (await row(gateway), await actions(gateway)) == (before, events)
        gateway.clock.advance(GRACE.total_seconds())
        await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVED
    with pytest.raises(SlugTaken):
        await provision_tenant(gateway.gateway.storage, "acme", None, gateway.clock.now)
    with pytest.raises(TenantNotProvisioned):
        await gateway.gateway.storage.read((await row(gateway)).prefix).agents.count()


async def test_not_from_the_command_line_either(
    on_postgres: RunningGateway, empty_database: Database, tmp_path: Path
) -> None:
    gateway = on_postgres
    await gateway.onboard()
    await remove(gateway)
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.tenants.save(
            replace(await row(gateway), status=TenantStatus.REMOVED, revision=None)
        )
    code, out, err = await asyncio.to_thread(
        call, "provision", "--tenant", "acme", env=environment(empty_database)
    )
    assert code == 1
    assert "never given twice" in out + err
    assert (await row(gateway)).status is TenantStatus.REMOVED


async def test_a_removal_is_called_off_and_nothing_happens_when_its_time_comes(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    old = await gateway.token(admin)
    removing = await remove(gateway, "by mistake")
    gateway.clock.advance(GRACE.total_seconds() / 2)

    tenant = await reactivate(gateway)

    assert tenant == replace(
        removing, status=TenantStatus.ACTIVE, status_reason=None, updated_at=gateway.clock.now
    )
    assert (await work(gateway)).state is WorkState.CANCELLED
    assert await sealed(gateway, REMOVE) is None
    assert (await actions(gateway))[0] == "tenant.removal_cancelled"
    gateway.clock.advance(GRACE.total_seconds())
    await what_is_due(gateway)
    assert (await row(gateway)) == tenant
    with pytest.raises(Unauthenticated):
        await gateway.gateway.authenticator.bearer([f"Bearer {old}"], gateway.clock.now)
    assert await gateway.token(admin)
    assert exports(gateway) == []


async def test_after_one_was_called_off_the_next_has_its_whole_time_of_grace(
    gateway: RunningGateway,
) -> None:
    await gateway.onboard()
    await remove(gateway)
    await reactivate(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    await remove(gateway)
    due = gateway.clock.now + GRACE
    assert (await work(gateway)).run_after == due
    assert await gateway.gateway.tenants.removals(["acme"]) == {"acme": due}
    await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVING


async def test_a_removal_that_has_begun_cannot_be_called_off(gateway: RunningGateway) -> None:
    await gateway.onboard()
    await remove(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    taken = await claim(gateway)
    before, events = await row(gateway), await actions(gateway)

    with pytest.raises(InvalidTransition, match="begun"):
        await reactivate(gateway)

    assert (await row(gateway), await actions(gateway)) == (before, events)
    assert await work(gateway) == taken


async def test_one_whose_worker_died_before_it_dropped_anything_can_be(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    await remove(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    taken = await claim(gateway)
    gateway.clock.advance(LEASE.total_seconds())

    assert (await reactivate(gateway)).is_active

    # Should it come back, it has lost its claim.
    assert not (await work(gateway)).held_by(taken)
    await what_is_due(gateway)
    assert await gateway.token(admin)


async def test_one_whose_worker_died_after_the_drop_cannot_be(gateway: RunningGateway) -> None:
    await gateway.onboard()
    await remove(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    await claim(gateway)
    await gateway.gateway.storage.upkeep.drop((await row(gateway)).prefix)
    gateway.clock.advance(LEASE.total_seconds())
    before, events = await row(gateway), await actions(gateway)

    with pytest.raises(InvalidTransition, match="gone"):
        await reactivate(gateway)

    assert (await row(gateway), await actions(gateway)) == (before, events)
    await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVED


async def test_one_that_failed_for_good_can_be_called_off_or_asked_for_anew(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    await remove(gateway)
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.work.save(replace(await work(gateway), state=WorkState.FAILED))
    assert await gateway.gateway.tenants.removals(["acme"]) == {}
    await reactivate(gateway)
    assert await gateway.token(admin)
    await remove(gateway)
    assert (await work(gateway)).state is WorkState.QUEUED


async def test_a_tenant_that_is_still_being_made_is_not_made_any_more(
    gateway: RunningGateway,
) -> None:
    with gateway.queue.held():
        await begin(gateway)
        assert await sealed(gateway, MAKE) is not None

        await remove(gateway)

        assert (await work(gateway, MAKE)).state is WorkState.CANCELLED
        # Who was to be its administrator is forgotten, the hash of the secret with it.
        assert await sealed(gateway, MAKE) is None
    await gateway.queue.run()
    assert (await row(gateway)).status is TenantStatus.REMOVING
    with pytest.raises(InvalidTransition, match="never active"):
        await reactivate(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVING
    gateway.clock.advance(GRACE.total_seconds())
    await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVED
    assert await gateway.gateway.authenticator.active_tenant("acme", gateway.clock.now) is None


async def test_one_whose_tables_are_being_made_right_now_is_left_alone(
    gateway: RunningGateway,
) -> None:
    with gateway.queue.held():
        await begin(gateway)
    taken = await claim(gateway, MAKE)
    before, events = await row(gateway), await actions(gateway)

    with pytest.raises(InvalidTransition, match="right now"):
        await remove(gateway)

    assert (await row(gateway), await actions(gateway)) == (before, events)
    assert await work(gateway, MAKE) == taken
    assert await sealed(gateway, MAKE) is not None
    assert await gateway.gateway.storage.registry.work.get(REMOVE) is None
    # A worker that is taken for dead is not waited for.
    gateway.clock.advance(LEASE.total_seconds())
    await remove(gateway)
    assert not (await work(gateway, MAKE)).held_by(taken)


async def test_a_tenant_that_failed_can_only_be_removed(gateway: RunningGateway) -> None:
    with gateway.queue.held():
        await begin(gateway)
    async with gateway.gateway.storage.registry_unit() as unit:
        await unit.work.save(replace(await work(gateway, MAKE), state=WorkState.FAILED))
        await unit.tenants.save(replace(await row(gateway), status=TenantStatus.FAILED))
    await remove(gateway)
    known = Removal.from_json(await sealed(gateway, REMOVE))
    assert known.was is TenantStatus.FAILED
    assert await sealed(gateway, MAKE) is None
    with pytest.raises(InvalidTransition, match="never active"):
        await reactivate(gateway)


async def test_of_two_who_remove_at_once_one_does(gateway: RunningGateway) -> None:
    await gateway.onboard()
    outcomes = await asyncio.gather(*(remove(gateway) for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(each, Tenant) for each in outcomes) == 1
    assert sum(isinstance(each, InvalidTransition) for each in outcomes) == 2
    assert (await row(gateway)).token_generation == 1
    assert (await actions(gateway)).count("tenant.removal_requested") == 1


async def test_of_who_calls_it_off_and_who_does_it_one_wins_and_the_other_sees_it(
    gateway: RunningGateway,
) -> None:
    admin = await gateway.onboard()
    await remove(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    _, outcome = await asyncio.gather(
        what_is_due(gateway), reactivate(gateway), return_exceptions=True
    )
    tenant = await row(gateway)
    if isinstance(outcome, Tenant):
        assert tenant.status is TenantStatus.ACTIVE
        assert await gateway.token(admin)
    else:
        assert isinstance(outcome, InvalidTransition)
        assert tenant.status is TenantStatus.REMOVED
        assert len(exports(gateway)) == 1


async def test_another_tenant_notices_nothing(gateway: RunningGateway) -> None:
    await gateway.onboard()
    globex: Client = await gateway.onboard("globex")
    trail = await gateway.trail(globex)
    await remove(gateway)
    gateway.clock.advance(GRACE.total_seconds())
    await what_is_due(gateway)
    assert (await row(gateway)).status is TenantStatus.REMOVED
    assert await gateway.trail(globex) == trail
    assert await gateway.token(globex)
