"""A tenant comes to be, whatever happens on the way, and never by halves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from db.admission import Admission
from db.contract import Storage
from db.errors import MigrationFailed, TenantNotProvisioned
from db.pages import PageRequest
from db.provisioning import provision_tenant
from db.records import AuditAction, AuditOutcome, Tenant, TenantStatus
from db.revocations import NoCache
from db.settings import StorageSettings
from db.work import LEASE, JobName, Work, WorkState, new_work, requeued
from tests.contract.cast import (
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    new_operator_event,
    new_tenant,
)
from tests.contract.conftest import settings, storage
from tests.db.catalog import session, wait_for_waiting
from tests.db.postgres import execute, opened, settings_of
from tests.servers.databases import Database
from tests.workers.harness import Bell, Clock, claim
from workers import provisioning
from workers.run import Runner
from workers.state import LeaseLost, Report, State

__all__ = ["settings", "storage"]

SLUG = "initech"
KEY = "provision_tenant:initech"
UNFINISHED = (TenantStatus.PROVISIONING, TenantStatus.FAILED)


@dataclass
class Scene:
    """A tenant that has been onboarded, and a worker."""

    settings: StorageSettings
    storage: Storage
    clock: Clock
    admission: Admission

    async def run(self) -> Work | None:
        return await self.runner().run(KEY)

    def runner(self) -> Runner:
        return Runner(
            settings=self.settings,
            storage=self.storage,
            cache=NoCache(),
            doorbell=Bell(),
            clock=self.clock,
            name="worker",
        )

    async def claim(self, worker: str = "worker") -> State:
        return await claim(self.storage, self.settings, KEY, self.clock(), worker)

    async def tenant(self) -> Tenant:
        found = await self.storage.registry.tenants.get(SLUG)
        assert found is not None
        return found

    async def row(self) -> Work:
        found = await self.storage.registry.work.get(KEY)
        assert found is not None
        return found

    async def sealed(self) -> Any:
        async with self.storage.registry_unit() as unit:
            return await unit.work.unseal(KEY)

    async def become(self, status: TenantStatus) -> None:
        async with self.storage.registry_unit() as unit:
            held = await unit.tenants.get(SLUG)
            assert held is not None
            await unit.tenants.save(replace(held, status=status))

    async def give_up(self) -> None:
        """Fails until the row is left to the operator."""
        while (await self.row()).state is not WorkState.FAILED:
            self.clock.advance(300)
            assert await self.run()

    async def again(self) -> None:
        """As the operator asks for it."""
        async with self.storage.registry_unit() as unit:
            row = await unit.work.get(KEY)
            assert row is not None
            await unit.work.save(requeued(row, self.clock()))

    async def actions(self) -> list[str]:
        """Of the operator's trail, oldest first."""
        page = await self.storage.registry.operator_events.page(PageRequest(first=100))
        return [event.action for event in reversed(page.items)]

    async def assert_whole(self) -> None:
        tenant = await self.tenant()
        assert (tenant.status, tenant.status_reason) == (TenantStatus.ACTIVE, None)
        assert tenant.revision
        assert await self.sealed() is None
        reader = self.storage.read(tenant.prefix)
        assert (await reader.agents.page(PageRequest())).items == (self.admission.administrator,)
        assert (await reader.credentials.page(PageRequest())).items == (self.admission.credential,)
        trail = await reader.audit.page(PageRequest(), NOW - timedelta(days=36500))
        assert tuple(reversed(trail.items)) == self.admission.events


async def onboarded(settings: StorageSettings, storage: Storage) -> Scene:
    agent = new_agent()
    events = (
        new_event(agent_id=agent.agent_id),
        new_event(agent_id=agent.agent_id, action=AuditAction.CREDENTIAL_GENERATED),
    )
    admission = Admission(agent, new_credential(agent.agent_id), events)
    tenant = new_tenant(SLUG, status=TenantStatus.PROVISIONING, administrator_id=agent.agent_id)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(tenant)
        await unit.work.add(new_work(JobName.PROVISION_TENANT, NOW, SLUG, after=NOW))
        await unit.work.seal(KEY, admission.to_json())
        await unit.operator_events.append(new_operator_event(tenant=SLUG))
    return Scene(settings, storage, Clock(after(5)), admission)


@pytest.fixture
async def scene(settings: StorageSettings, storage: Storage) -> Scene:
    return await onboarded(settings, storage)


@pytest.fixture
async def on_postgres(database: Database) -> AsyncIterator[Scene]:
    """For what is seen only where making tables takes a while, or can fail."""
    settings = settings_of(database)
    async with opened(settings) as storage:
        yield await onboarded(settings, storage)


async def test_the_tables_the_administrator_and_then_the_tenant_is_active(scene: Scene) -> None:
    ended = await scene.run()

    assert ended is not None
    assert (ended.state, ended.report) == (WorkState.DONE, Report(1, 1).to_json())
    await scene.assert_whole()
    assert (await scene.tenant()).updated_at == after(5)
    assert await scene.actions() == ["tenant.onboarded", "tenant.provisioned"]


async def test_a_worker_that_dies_before_the_registry_hears_of_it_is_made_up_for(
    scene: Scene,
) -> None:
    """The administrator's transaction has been committed by then, the registry's has not."""
    await scene.claim("killed")
    tenant = await scene.tenant()
    await scene.storage.upkeep.provision(tenant.prefix, NOW)
    async with scene.storage.unit(tenant.prefix) as unit:
        await unit.agents.add(scene.admission.administrator)
        await unit.credentials.add(scene.admission.credential)
        await unit.audit.append(*scene.admission.events)
    assert await scene.run() is None, "the dead worker's lease still holds"
    assert (await scene.tenant()).status is TenantStatus.PROVISIONING

    scene.clock.advance(LEASE.total_seconds())
    assert await scene.run()

    await scene.assert_whole()
    assert await scene.actions() == ["tenant.onboarded", "tenant.provisioned"]


async def test_a_worker_that_was_taken_for_dead_changes_nothing_any_more(scene: Scene) -> None:
    late = await scene.claim("late")
    scene.clock.advance(LEASE.total_seconds())
    await scene.claim("other")
    tenant = await scene.tenant()

    with pytest.raises(LeaseLost):
        await provisioning.run(late, scene.clock())

    assert await scene.tenant() == tenant
    assert await scene.sealed() == scene.admission.to_json()
    assert await scene.actions() == ["tenant.onboarded"]
    with pytest.raises(TenantNotProvisioned):
        await scene.storage.read(tenant.prefix).agents.count()
    scene.clock.advance(LEASE.total_seconds())
    assert await scene.run()
    await scene.assert_whole()


async def test_nor_one_that_was_overtaken_while_it_made_the_tables(
    on_postgres: Scene, database: Database
) -> None:
    late = await on_postgres.claim("late")
    async with session(database.owner_url) as others:
        await others.exec_driver_sql(f"SELECT pg_advisory_lock({lock_of(SLUG)})")
        running = asyncio.create_task(provisioning.run(late, NOW))
        await wait_for_waiting(database.owner_url, 1)
        on_postgres.clock.advance(LEASE.total_seconds())
        await on_postgres.claim("other")

    with pytest.raises(LeaseLost):
        await running

    tenant = await on_postgres.tenant()
    assert tenant.status is TenantStatus.PROVISIONING
    # The tables stand, which harms nobody; whoever has the row now admits the administrator.
    assert await on_postgres.storage.read(tenant.prefix).agents.count() == 0
    assert await on_postgres.actions() == ["tenant.onboarded"]
    on_postgres.clock.advance(LEASE.total_seconds())
    assert await on_postgres.run()
    await on_postgres.assert_whole()


async def test_done_once_it_is_not_done_again(scene: Scene) -> None:
    await scene.run()
    tenant = await scene.tenant()
    scene.clock.advance(60)
    await scene.again()

    ended = await scene.run()

    assert ended is not None
    assert (ended.state, ended.report) == (WorkState.DONE, Report(1, 0).to_json())
    assert await scene.tenant() == tenant
    await scene.assert_whole()
    assert await scene.actions() == ["tenant.onboarded", "tenant.provisioned"]


@pytest.mark.parametrize(
    "status", [TenantStatus.SUSPENDED, TenantStatus.REMOVING, TenantStatus.REMOVED]
)
async def test_a_tenant_that_is_not_to_be_served_is_not_made(
    scene: Scene, status: TenantStatus
) -> None:
    await scene.become(status)
    before = await scene.tenant()

    ended = await scene.run()

    assert ended is not None
    assert (ended.state, ended.report) == (WorkState.DONE, Report(1, 0).to_json())
    assert await scene.tenant() == before
    assert await scene.actions() == ["tenant.onboarded"]
    # What will never be admitted is not kept.
    gone = status is not TenantStatus.SUSPENDED
    assert (await scene.sealed() is None) is gone


async def test_an_active_tenant_without_its_administrator_gets_it(scene: Scene) -> None:
    tenant = await scene.tenant()
    await scene.storage.upkeep.provision(tenant.prefix, NOW)
    await scene.become(TenantStatus.ACTIVE)

    await scene.run()

    await scene.assert_whole()


async def test_what_was_onboarded_long_ago_keeps_its_time_in_the_trail(scene: Scene) -> None:
    """Its events are of a month before any that the tables are made for now."""
    scene.clock.now = NOW + timedelta(days=200)

    assert await scene.run()

    await scene.assert_whole()


async def test_a_row_without_an_administrator_fails_in_words(scene: Scene) -> None:
    async with scene.storage.registry_unit() as unit:
        await unit.work.seal(KEY, None)

    await scene.give_up()

    tenant = await scene.tenant()
    assert tenant.status is TenantStatus.FAILED
    assert tenant.status_reason == (
        "it is not known who is to be its administrator: onboard it again"
    )


async def test_what_another_version_has_laid_there_fails_in_words_that_hold_no_hash(
    scene: Scene,
) -> None:
    spoilt = {**scene.admission.to_json(), "events": "later"}
    async with scene.storage.registry_unit() as unit:
        await unit.work.seal(KEY, spoilt)

    await scene.give_up()

    tenant, row = await scene.tenant(), await scene.row()
    assert tenant.status is TenantStatus.FAILED
    assert row.last_error == tenant.status_reason
    assert scene.admission.credential.secret_hash not in repr((tenant, row))
    # And is still there for that version.
    assert await scene.sealed() == spoilt


async def test_a_failure_is_visible_and_the_same_row_can_be_run_again(
    on_postgres: Scene, database: Database
) -> None:
    await execute(database, f"CREATE TABLE {SLUG}_credentials (of_somebody_else int)")

    assert await on_postgres.run()
    assert (await on_postgres.tenant()).status is TenantStatus.PROVISIONING
    assert (await on_postgres.row()).last_error
    await on_postgres.give_up()

    tenant, row = await on_postgres.tenant(), await on_postgres.row()
    assert tenant.status is TenantStatus.FAILED
    assert tenant.status_reason == row.last_error
    assert f"{SLUG}_credentials" in str(tenant.status_reason)
    page = await on_postgres.storage.registry.operator_events.page(PageRequest(first=1))
    [event] = page.items
    assert (event.action, event.tenant, event.outcome) == (
        "tenant.failed",
        SLUG,
        AuditOutcome.FAILURE,
    )
    assert event.metadata == {"reason": tenant.status_reason}
    assert await on_postgres.sealed() == on_postgres.admission.to_json()

    await execute(database, f"DROP TABLE {SLUG}_credentials")
    await on_postgres.again()
    assert await on_postgres.run()

    # With the secret that was told when it was onboarded.
    await on_postgres.assert_whole()
    assert await on_postgres.actions() == [
        "tenant.onboarded",
        "tenant.failed",
        "tenant.provisioned",
    ]


@pytest.mark.parametrize("status", [s for s in TenantStatus if s not in UNFINISHED])
async def test_giving_up_ends_nothing_that_has_begun(scene: Scene, status: TenantStatus) -> None:
    await scene.become(status)
    before = await scene.tenant()

    async with scene.storage.registry_unit() as unit:
        row = await unit.work.get(KEY)
        assert row is not None
        await provisioning.gave_up(unit, row, "it did not work", scene.clock())

    assert await scene.tenant() == before
    assert await scene.actions() == ["tenant.onboarded"]


@pytest.mark.parametrize("status", UNFINISHED)
async def test_from_the_command_line_only_the_tables_are_made_of_what_waits_for_its_administrator(
    scene: Scene, status: TenantStatus
) -> None:
    await scene.become(status)
    async with scene.storage.registry_unit() as unit:
        state = WorkState.QUEUED if status is TenantStatus.PROVISIONING else WorkState.FAILED
        await unit.work.save(
            replace(await scene.row(), state=state, run_after=after(300), attempts=4)
        )
    before = await scene.tenant()

    tenant, new = await provision_tenant(scene.storage, SLUG, None, scene.clock())

    assert (tenant, new) == (before, False)
    assert await scene.tenant() == before
    assert await scene.storage.read(tenant.prefix).agents.count() == 0
    assert (await scene.row()).due(scene.clock())
    assert await scene.run()
    await scene.assert_whole()
    assert await scene.actions() == ["tenant.onboarded", "tenant.provisioned"]


async def test_and_a_worker_that_is_at_it_is_not_disturbed(scene: Scene) -> None:
    state = await scene.claim()

    await provision_tenant(scene.storage, SLUG, None, scene.clock())

    assert await scene.row() == state.work
    assert await provisioning.run(state, scene.clock()) == Report(seen=1, changed=1)
    await scene.assert_whole()


async def test_what_cannot_be_made_from_the_command_line_is_left_to_the_row(
    on_postgres: Scene, database: Database
) -> None:
    await execute(database, f"CREATE TABLE {SLUG}_agents (of_somebody_else int)")
    before, row = await on_postgres.tenant(), await on_postgres.row()

    with pytest.raises(MigrationFailed):
        await provision_tenant(on_postgres.storage, SLUG, None, on_postgres.clock())

    assert (await on_postgres.tenant(), await on_postgres.row()) == (before, row)
    assert await on_postgres.actions() == ["tenant.onboarded"]
    await execute(database, f"DROP TABLE {SLUG}_agents")
    assert await on_postgres.run()
    await on_postgres.assert_whole()


def lock_of(slug: str) -> str:
    """Of whoever changes the tenant's tables."""
    return f"hashtextextended('migrate:{slug}', 0)"
