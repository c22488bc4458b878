"""A tenant goes: never without its export, and wherever the worker dies it ends well."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import text

from db.contract import Storage
from db.errors import MigrationFailed, Misconfigured, TenantNotProvisioned
from db.filters import TenantFilter
from db.pages import PageRequest
from db.records import OperatorEvent, Tenant, TenantStatus
from db.removal import Removal
from db.revocations import NoCache
from db.settings import StorageSettings
from db.work import (
    LEASE,
    JobName,
    Work,
    WorkState,
    cancelled,
    new_work,
    released,
    work_key,
)
from tests.contract.cast import ACME, GLOBEX, NOW, new_agent, new_credential, new_event, put
from tests.contract.paging import items
from tests.db.catalog import everything, session, wait_for_waiting
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.workers.harness import Bell, Clock, claim
from workers import removal
from workers.run import Runner
from workers.state import LeaseLost, State

KEY = work_key(JobName.REMOVE_TENANT, "acme")
MAKING = work_key(JobName.PROVISION_TENANT, "acme")
NAME = "acme-20260517T120000Z.jsonl"
ADMINISTRATOR = new_agent()


@dataclass
class Scene:
    """The tenant acme, whose removal is due, and a worker."""

    storage: Storage
    settings: StorageSettings
    clock: Clock

    @property
    def directory(self) -> Path:
        return self.settings.export_directory

    @property
    def names(self) -> list[str]:
        return sorted(each.name for each in self.directory.iterdir())

    @property
    def export(self) -> bytes:
        return (self.directory / NAME).read_bytes()

    def runner(self) -> Runner:
        return Runner(
            settings=self.settings,
            storage=self.storage,
            cache=NoCache(),
            doorbell=Bell(),
            clock=self.clock,
            name="worker",
        )

    async def run(self) -> Work:
        ended = await self.runner().run(KEY)
        assert ended is not None
        return ended

    async def claim(self, worker: str = "worker") -> State:
        return await claim(self.storage, self.settings, KEY, self.clock(), worker)

    async def tenant(self) -> Tenant:
        found = await self.storage.registry.tenants.get("acme")
        assert found is not None
        return found

    async def sealed(self, key: str = KEY) -> Any:
        async with self.storage.registry_unit() as unit:
            return await unit.work.unseal(key)

    async def events(self) -> tuple[OperatorEvent, ...]:
        return (await self.storage.registry.operator_events.page(PageRequest())).items

    async def stands(self) -> bool:
        try:
            await self.storage.read(ACME).agents.count()
        except TenantNotProvisioned:
            return False
        return True

    async def assert_removed(self) -> None:
        tenant = await self.tenant()
        assert (tenant.status, tenant.revision) == (TenantStatus.REMOVED, None)
        assert not await self.stands()
        [event] = await self.events()
        assert (event.action, event.tenant) == ("tenant.removed", "acme")
        told = event.metadata["export"]
        assert isinstance(told, dict)
        assert told["name"] == NAME
        assert await self.sealed() is None
        assert await self.sealed(MAKING) is None


def whole(written: bytes) -> dict[str, int]:
    """What the summary of a complete export says, which is what there is."""
    lines = [json.loads(line) for line in written.splitlines()]
    *rest, summary = lines
    assert summary["type"] == "summary"
    for kind, count in summary["rows"].items():
        assert sum(line["type"] == kind for line in rest) == count
    found: dict[str, int] = summary["rows"]
    return found


def exported_at(written: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(written.splitlines()[-1])["exportedAt"])


async def condemned(storage: Storage, settings: StorageSettings, directory: Path) -> Scene:
    await put(
        storage,
        ACME,
        ADMINISTRATOR,
        *(new_agent() for _ in range(120)),
        new_credential(ADMINISTRATOR.agent_id),
        *(new_event() for _ in range(120)),
    )
    await put(storage, GLOBEX, new_agent(), new_event())
    async with storage.registry_unit() as unit:
        held = await unit.tenants.get("acme")
        assert held is not None
        await unit.tenants.save(
            replace(held, status=TenantStatus.REMOVING, revision="0001", token_generation=1)
        )
        await unit.work.add(new_work(JobName.PROVISION_TENANT, NOW, "acme", after=NOW))
        await unit.work.seal(MAKING, {"what": "an administrator"})
        await unit.work.add(new_work(JobName.REMOVE_TENANT, NOW, "acme", after=NOW))
        await unit.work.seal(KEY, Removal(NOW, TenantStatus.ACTIVE).to_json())
    here = settings.model_copy(update={"export_directory": directory / "exports"})
    return Scene(storage, here, Clock(NOW))


@pytest.fixture
async def scene(storage: Storage, settings: StorageSettings, tmp_path: Path) -> Scene:
    return await condemned(storage, settings, tmp_path)


async def test_what_it_had_is_exported_then_dropped_and_its_name_is_kept(scene: Scene) -> None:
    ended = await scene.run()

    assert (ended.state, ended.report) == (
        WorkState.DONE, {"seen": 1, "changed": 1, "failures": {}},
    )  # fmt: skip
    await scene.assert_removed()
    assert scene.names == [NAME]
    rows = whole(scene.export)
    assert rows == {"tenant": 1, "agent": 121, "credential": 1, "auditEvent": 120, "revocation": 0}
    [event] = await scene.events()
    digest = hashlib.sha256(scene.export).hexdigest()
    assert event.metadata == {"export": {"name": NAME, "sha256": digest, "rows": rows}}
    assert str(scene.directory) not in repr(event)
    assert await scene.storage.read(GLOBEX).agents.count() == 1


async def test_done_again_it_does_nothing(scene: Scene) -> None:
    await scene.run()
    before, written = await scene.events(), scene.export
    async with scene.storage.registry_unit() as unit:
        row = await unit.work.get(KEY)
        assert row is not None
        await unit.work.save(replace(row, state=WorkState.QUEUED))

    ended = await scene.run()

    assert (ended.state, ended.report) == (
        WorkState.DONE, {"seen": 1, "changed": 0, "failures": {}},
    )  # fmt: skip
    assert (await scene.events(), scene.export) == (before, written)


@pytest.mark.parametrize(
    "status", [each for each in TenantStatus if each is not TenantStatus.REMOVING]
)
async def test_a_tenant_that_is_not_being_removed_is_left_alone(
    scene: Scene, status: TenantStatus
) -> None:
    async with scene.storage.registry_unit() as unit:
        await unit.tenants.save(replace(await scene.tenant(), status=status))
    before = await items(scene.storage.registry.tenants.page)

    ended = await scene.run()

    assert ended.state is WorkState.DONE
    assert await scene.storage.read(ACME).agents.count() == 121
    assert await items(scene.storage.registry.tenants.page) == before
    assert await scene.events() == ()
    assert not scene.directory.exists()


async def test_cut_off_at_one_point_after_the_other_it_ends_well(scene: Scene) -> None:
    steps, cuts = 0, 0
    while True:
        running = asyncio.ensure_future(removal.run(await scene.claim(), scene.clock()))
        for _ in range(steps):
            await checkpoint()
        running.cancel()
        [outcome] = await asyncio.gather(running, return_exceptions=True)
        if not isinstance(outcome, asyncio.CancelledError):
            assert not isinstance(outcome, BaseException), outcome
            break
        cuts += 1
        if (await scene.tenant()).status is TenantStatus.REMOVED:
            # A commit that was sent is not called back.
            break
        if not await scene.stands():
            # Then there is an export, and it is complete.
            noted = Removal.from_json(await scene.sealed()).export
            assert noted is not None
            assert hashlib.sha256(scene.export).hexdigest() == noted.sha256
        if scene.directory.exists() and NAME in scene.names:
            whole(scene.export)
        assert await scene.events() == ()
        scene.clock.advance(LEASE.total_seconds())
        steps = steps * 5 // 4 + 1
    assert cuts > 3
    await scene.assert_removed()
    assert scene.names == [NAME]
    assert whole(scene.export)["agent"] == 121


async def test_a_worker_that_died_after_the_drop_is_spoken_for_by_its_note(scene: Scene) -> None:
    state = await scene.claim()
    tenant = await scene.tenant()
    known = Removal.from_json(await scene.sealed())
    exported = await removal.take_export(state, tenant, known, NOW)
    await scene.storage.upkeep.drop(ACME)
    # The operator has put it away meanwhile.
    (scene.directory / NAME).unlink()
    scene.clock.advance(LEASE.total_seconds())

    ended = await scene.run()

    assert ended.state is WorkState.DONE
    await scene.assert_removed()
    [event] = await scene.events()
    assert event.metadata == {"export": exported.to_json()}
    assert scene.names == []


@pytest.mark.parametrize("harm", ["none", "gone", "changed"])
async def test_an_export_is_taken_again_only_when_it_cannot_be_relied_upon(
    scene: Scene, harm: str
) -> None:
    state = await scene.claim()
    known = Removal.from_json(await scene.sealed())
    await removal.take_export(state, await scene.tenant(), known, NOW)
    path = scene.directory / NAME
    if harm == "gone":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(path.read_bytes()[:-2])
    scene.clock.advance(LEASE.total_seconds())

    await scene.run()

    await scene.assert_removed()
    assert whole(scene.export)["agent"] == 121
    assert exported_at(scene.export) == (NOW if harm == "none" else scene.clock())
    [event] = await scene.events()
    told = event.metadata["export"]
    assert isinstance(told, dict)
    assert told["sha256"] == hashlib.sha256(scene.export).hexdigest()


async def test_a_worker_that_was_taken_for_dead_drops_nothing(scene: Scene) -> None:
    zombie = await scene.claim("zombie")
    scene.clock.advance(LEASE.total_seconds())
    await scene.claim("another")

    with pytest.raises(LeaseLost):
        await removal.run(zombie, scene.clock())

    assert await scene.stands()
    assert await scene.events() == ()
    assert not scene.directory.exists()


async def test_one_that_loses_its_claim_while_it_exports_leaves_no_file_and_drops_nothing(
    scene: Scene,
) -> None:
    state = await scene.claim("slow")
    scene.clock.advance(LEASE.total_seconds())
    begun = asyncio.Event()
    running = asyncio.ensure_future(
        removal.run(replace(state, advance=lambda *_: begun.set()), scene.clock())
    )
    await begun.wait()
    # Its thread is writing: whoever claims the row now is the one that counts.
    await scene.claim("quick")
    with pytest.raises(LeaseLost):
        await running
    assert await scene.stands()
    assert scene.names == []


async def test_one_that_comes_back_when_the_removal_was_called_off_drops_nothing(
    database: Database, tmp_path: Path
) -> None:
    """It had an export already, and all that was left for it was to drop the tables."""
    settings = settings_of(database)
    async with opened(settings) as storage, session(database.owner_url) as owner:
        scene = await condemned(storage, settings, tmp_path)
        late = await scene.claim("late")
        known = Removal.from_json(await scene.sealed())
        await removal.take_export(late, await scene.tenant(), known, NOW)
        await owner.execute(text("BEGIN"))
        await owner.execute(text("LOCK TABLE acme_agents"))
        running = asyncio.create_task(removal.run(late, NOW))
        await wait_for_waiting(database.owner_url, 1)
        async with storage.registry_unit() as unit:
            row = await unit.work.get(KEY)
            stopped = row and cancelled(released(row, NOW))
            assert stopped is not None
            await unit.work.save(stopped)
            held = await unit.tenants.get("acme")
            assert held is not None
            active = replace(held, status=TenantStatus.ACTIVE)
            await unit.tenants.save(active)
        await owner.execute(text("ROLLBACK"))

        with pytest.raises(LeaseLost):
            await running

        assert await scene.stands()
        assert await scene.tenant() == active
        assert await scene.events() == ()


async def test_where_nothing_can_be_written_nothing_is_dropped(
    scene: Scene, tmp_path: Path
) -> None:
    scene.directory.write_text("no directory")

    ended = await scene.run()

    assert (ended.state, ended.attempts) == (WorkState.QUEUED, 1)
    assert ended.last_error is not None
    assert "EXPORT_DIRECTORY" in ended.last_error
    assert str(tmp_path) not in ended.last_error
    assert (await scene.tenant()).status is TenantStatus.REMOVING
    assert await scene.stands()
    assert await scene.events() == ()
    scene.clock.advance(3600)
    state = await scene.claim()
    with pytest.raises(Misconfigured):
        await removal.run(state, scene.clock())
    scene.directory.unlink()
    scene.clock.advance(LEASE.total_seconds())
    await scene.run()
    await scene.assert_removed()


async def test_a_tenant_that_never_had_tables_goes_too(scene: Scene) -> None:
    await scene.storage.upkeep.drop(ACME)
    await scene.run()
    await scene.assert_removed()
    assert whole(scene.export) == {"tenant": 1}


async def test_a_busy_table_is_waited_for_and_what_was_exported_is_not_exported_again(
    database: Database, tmp_path: Path
) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage:
        scene = await condemned(storage, settings, tmp_path)
        before = await everything(database.owner_url)
        async with session(database.owner_url) as reader:
            await reader.execute(text("BEGIN"))
            await reader.execute(text("SELECT count(*) FROM acme_agents"))
            state = await scene.claim()
            with pytest.raises(MigrationFailed):
                await removal.run(state, scene.clock())
            assert await everything(database.owner_url) == before
            assert (await scene.tenant()).status is TenantStatus.REMOVING
            assert await scene.events() == ()
            await reader.execute(text("ROLLBACK"))
        scene.clock.advance(timedelta(hours=1).total_seconds())
        await scene.run()
        await scene.assert_removed()
        assert exported_at(scene.export) == NOW
        removed = TenantFilter(status=(TenantStatus.REMOVED,))
        assert await storage.registry.tenants.count(removed) == 1
