"""A worker whose clock is wrong takes nothing away that could still be called off."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from db.clock import system_clock
from db.records import TenantStatus
from db.removal import Removal
from db.work import WorkState
from tests.contract.cast import NOW
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database
from tests.workers.test_removal import KEY, condemned


async def test_a_removal_waits_for_the_databases_clock(database: Database, tmp_path: Path) -> None:
    settings = settings_of(database)
    async with opened(settings) as storage:
        scene = await condemned(storage, settings, tmp_path)
        due = system_clock() + timedelta(hours=1)
        async with storage.registry_unit() as unit:
            note = Removal(NOW, TenantStatus.ACTIVE, due=due)
            await unit.work.seal(KEY, note.to_json())
        scene.clock.now = system_clock() + timedelta(days=365)

        ended = await scene.run()

        assert ended.state is WorkState.QUEUED
        assert "ahead of the database" in (ended.last_error or "")
        assert await scene.stands()
        assert (await scene.tenant()).status is TenantStatus.REMOVING
        assert await scene.events() == ()
        # What was exported stays noted, with the time of grace beside it.
        kept = Removal.from_json(await scene.sealed())
        assert (kept.due, kept.export is not None) == (due, True)
