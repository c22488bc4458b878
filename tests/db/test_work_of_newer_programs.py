"""While a newer program is rolled out, rows of jobs that only it knows are in the same table."""

from __future__ import annotations

from db.backends import open_storage
from db.filters import WorkFilter
from db.pages import PageRequest
from db.settings import StorageSettings
from db.work import WorkState
from tests.contract.cast import NOW, new_row, put_rows
from tests.db.catalog import rows, session
from tests.servers.databases import Database

NEWER = """INSERT INTO work (key, job, state, run_after, created_at, finished_at, succeeded_at)
    SELECT 'a_newer_job:' || n, 'a_newer_job', state, 'epoch', 'epoch', 'epoch', 'epoch'
    FROM unnest(ARRAY['queued', 'running', 'failed']) WITH ORDINALITY AS t(state, n)"""


async def test_they_are_left_to_it_and_hide_nothing(database: Database) -> None:
    async with session(database.owner_url) as connection:
        await connection.exec_driver_sql("ALTER TABLE work DROP CONSTRAINT work_job_check")
        await connection.exec_driver_sql(NEWER)
    storage = await open_storage(StorageSettings.load(database_url=database.app_url))
    mine = new_row(finished_at=NOW, succeeded_at=NOW)
    await put_rows(storage, mine)
    work = storage.registry.work
    try:
        assert list(await work.due(NOW, 10)) == [mine]
        assert (await work.page(PageRequest())).items == (mine,)
        assert (await work.page(PageRequest(last=5), WorkFilter(tenant="x"))).items == ()
        assert await work.count() == 1
        assert await work.count(WorkFilter(state=(WorkState.FAILED,))) == 0
        [line] = await work.summary(NOW)
        assert (line.job, line.queued, line.running, line.failed) == (mine.job, 1, 0, 0)
        assert (line.due_since, line.last) == (NOW, mine)
    finally:
        await storage.close()
    assert await rows(database.owner_url, "SELECT count(*) FROM work") == [(4,)]
