"""Whatever is due is rung for, and whatever comes by itself has its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from db.backends import open_storage
from db.contract import Storage
from db.work import LEASE, JobName, Work, WorkState, cancelled, claimed, new_work
from tests.contract.cast import NOW, after
from tests.db.catalog import session
from tests.db.scene import settings as settings_of
from tests.servers.databases import Database
from tests.workers.harness import Bell, queue
from workers.jobs import JOBS
from workers.reconcile import reconcile
from workers.schedules import Daily, Every

TAIL = JobName.TAIL_REVOCATIONS
PURGE = JobName.PURGE_AUDIT_EVENTS
FLEET = JobName.MIGRATE_FLEET
PROVISION = JobName.PROVISION_TENANT
_BUSY = """
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'lock_not_available'; END $$
"""
BY_THEMSELVES = {job.name for job in JOBS.values() if job.schedule or job.at_start}


async def rows(storage: Storage) -> dict[str, Work]:
    found = [await storage.registry.work.get(job.name.value) for job in JOBS.values()]
    return {work.key: work for work in found if work is not None}


async def keep(storage: Storage, work: Work) -> Work:
    async with storage.registry_unit() as unit:
        if not await unit.work.add(work):
            await unit.work.save(work)
    return work


async def test_every_job_that_comes_by_itself_has_its_row(storage: Storage) -> None:
    bell = Bell()

    await reconcile(storage, bell, NOW)

    found = await rows(storage)
    assert set(found) == BY_THEMSELVES
    for name, work in found.items():
        job = JOBS[JobName(name)]
        due = NOW if job.at_start else job.schedule and job.schedule.after(NOW)
        assert (work.state, work.run_after) == (WorkState.QUEUED, due)
    assert set(bell.rung) == {job.name for job in JOBS.values() if job.at_start}


async def test_looked_at_again_nothing_has_changed(storage: Storage) -> None:
    await reconcile(storage, Bell(), NOW)
    before = await rows(storage)

    await reconcile(storage, Bell(), after(1))

    assert await rows(storage) == before


async def test_a_time_that_was_missed_is_caught_up(storage: Storage) -> None:
    await reconcile(storage, Bell(), NOW)
    bell = Bell()

    await reconcile(storage, bell, NOW + timedelta(days=1))

    assert set(bell.rung) == BY_THEMSELVES
    assert len(bell.rung) == len(BY_THEMSELVES)
    assert (await rows(storage))[PURGE].run_after == NOW.replace(
        day=18, hour=3, minute=7, second=0, microsecond=0
    )


async def test_a_schedule_that_became_shorter_does_not_wait_for_the_old_time(
    storage: Storage,
) -> None:
    await keep(storage, new_work(TAIL, NOW, after=after(86_400)))
    bell = Bell()

    await reconcile(storage, bell, NOW)

    assert (await rows(storage))[TAIL].run_after == Every(10).after(NOW)
    assert TAIL not in bell.rung


@pytest.mark.parametrize("state", [WorkState.DONE, WorkState.FAILED])
async def test_a_job_that_was_given_a_schedule_comes_again(
    state: WorkState, storage: Storage
) -> None:
    ended = replace(new_work(PURGE, NOW, after=NOW), state=state, attempts=5)
    await keep(storage, ended)

    await reconcile(storage, Bell(), NOW)

    assert (await rows(storage))[PURGE] == replace(
        ended,
        state=WorkState.QUEUED,
        attempts=0,
        run_after=Daily(hour=3, minute=7).after(NOW),
    )


async def test_what_the_operator_has_cancelled_stays_so(storage: Storage) -> None:
    work = cancelled(new_work(PURGE, NOW, after=NOW))
    assert work is not None
    await keep(storage, work)
    bell = Bell()

    await reconcile(storage, bell, after(1), starting=True)

    assert (await rows(storage))[PURGE] == work
    assert PURGE not in bell.rung


async def test_a_job_that_only_comes_when_asked_for_is_left_as_it_is(storage: Storage) -> None:
    done = replace(new_work(FLEET, NOW, after=NOW), state=WorkState.DONE)
    await keep(storage, done)
    bell = Bell()

    await reconcile(storage, bell, after(1), starting=True)

    assert (await rows(storage))[FLEET] == done
    assert FLEET not in bell.rung


async def test_a_worker_begins_with_what_every_worker_begins_with(storage: Storage) -> None:
    at_start = {job.name for job in JOBS.values() if job.at_start}
    assert at_start
    await reconcile(storage, Bell(), NOW)
    for name in at_start:
        row = (await rows(storage))[name]
        await keep(storage, replace(row, state=WorkState.DONE, run_after=after(3600)))
    quiet, bell = Bell(), Bell()
    await reconcile(storage, quiet, after(1), jobs={})

    await reconcile(storage, bell, after(2), starting=True)

    assert not quiet.rung
    assert set(bell.rung) == at_start
    assert {(await rows(storage))[name].run_after for name in at_start} == {after(2)}


async def test_what_runs_already_is_not_begun_with_again(storage: Storage) -> None:
    claim = claimed(new_work(TAIL, NOW, after=NOW), "somebody", NOW)
    assert claim is not None
    await keep(storage, claim)
    bell = Bell()

    await reconcile(storage, bell, after(1), starting=True)

    assert (await rows(storage))[TAIL] == claim
    assert TAIL not in bell.rung


async def test_what_a_dead_worker_has_left_is_rung_for_once_its_lease_is_over(
    storage: Storage,
) -> None:
    claim = claimed(new_work(PROVISION, NOW, "acme", after=NOW), "dead", NOW)
    assert claim is not None
    await keep(storage, claim)
    early, late = Bell(), Bell()

    await reconcile(storage, early, NOW + LEASE - timedelta(microseconds=1), jobs={})
    await reconcile(storage, late, NOW + LEASE, jobs={})

    assert early.rung == []
    assert late.rung == [claim.key]
    assert await storage.registry.work.get(claim.key) == claim


async def test_the_longest_waiting_tenants_are_rung_for_and_what_all_depend_on_before_them(
    storage: Storage,
) -> None:
    async with storage.registry_unit() as unit:
        for n in range(120):
            await unit.work.add(new_work(PROVISION, NOW, f"t{n:03}", after=after(-n)))
    await queue(storage, TAIL, NOW)
    bell = Bell()

    rung = await reconcile(storage, bell, NOW)

    assert rung == bell.rung
    assert TAIL in bell.rung
    alone = [key for key in bell.rung if ":" not in key]
    assert bell.rung == alone + [f"provision_tenant:t{n:03}" for n in range(119, 19, -1)]


async def test_a_row_of_a_newer_program_keeps_no_other_from_being_rung_for(
    database: Database,
) -> None:
    chosen = settings_of(database)
    storage = await open_storage(chosen)
    try:
        await keep(storage, new_work(PROVISION, NOW, "acme", after=NOW))
        async with session(database.owner_url) as connection:
            await connection.exec_driver_sql("ALTER TABLE work DROP CONSTRAINT work_job_check")
            await connection.exec_driver_sql(
                "INSERT INTO work (key, job, state, run_after, created_at)"
                f" VALUES ('paint_the_shed', 'paint_the_shed', 'queued', '{NOW}', '{NOW}')"
            )
        bell = Bell()

        await reconcile(storage, bell, after(1), jobs={})

        assert bell.rung == ["provision_tenant:acme"]
    finally:
        await storage.close()


async def test_a_row_that_cannot_be_had_keeps_no_other_from_being_rung_for(
    database: Database,
) -> None:
    storage = await open_storage(settings_of(database))
    try:
        await keep(storage, new_work(TAIL, NOW, after=after(86_400)))
        bell = Bell()
        async with session(database.owner_url) as connection:
            await connection.exec_driver_sql(_BUSY)
            await connection.exec_driver_sql(
                "CREATE TRIGGER busy BEFORE UPDATE ON work FOR EACH ROW EXECUTE FUNCTION busy()"
            )

        with capture_logs() as logs:
            await reconcile(storage, bell, NOW)

        assert [(line["event"], line["job"]) for line in logs] == [("job not settled", TAIL)]
        assert (await rows(storage))[TAIL].run_after == after(86_400)
        assert set(bell.rung) == {job.name for job in JOBS.values() if job.at_start} - {TAIL}
    finally:
        await storage.close()
