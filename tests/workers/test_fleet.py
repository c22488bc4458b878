"""The operator asks for it, or a deployment does: every tenant follows the program."""

from __future__ import annotations

import pytest

from db import migrations
from db.postgres.chains import revisions
from db.work import JobName, Work, WorkState
from tests.contract.cast import NOW
from tests.db.catalog import rows
from tests.db.postgres import execute, opened, settings_of
from tests.db.scene import register
from tests.servers.databases import Database
from tests.workers.harness import perform

BEFORE, HEAD = revisions("tenants")[-2:]
REVISIONS = "SELECT slug, revision FROM tenants ORDER BY slug"
IN_THE_WAY = f'{HEAD}: relation "{{}}_idx_credentials_expires_at" already exists (SQLSTATE 42P07)'


@pytest.fixture
async def behind(database: Database) -> Database:
    """Both tenants are at the revision before the last."""
    await migrations.migrate(settings_of(database), now=NOW)
    for slug in ("acme", "globex"):
        await migrations.downgrade(settings_of(database), slug, BEFORE, now=NOW)
    return database


async def stand_in_the_way(database: Database, slug: str) -> None:
    await execute(
        database, f"CREATE INDEX {slug}_idx_credentials_expires_at ON {slug}_agents (owner)"
    )


async def migrate(database: Database) -> Work:
    settings = settings_of(database)
    async with opened(settings) as storage:
        return await perform(storage, settings, JobName.MIGRATE_FLEET, NOW)


async def test_every_tenant_is_brought_to_head_and_how_far_it_is_can_be_read(
    behind: Database,
) -> None:
    ended = await migrate(behind)

    assert (ended.state, ended.last_error) == (WorkState.DONE, None)
    assert ended.report == {"seen": 3, "changed": 2, "failures": {}}
    assert ended.progress == {"done": 2, "total": 2}
    assert await rows(behind.owner_url, REVISIONS) == [("acme", HEAD), ("globex", HEAD)]


async def test_a_second_run_changes_nothing(behind: Database) -> None:
    await migrate(behind)
    log = await rows(behind.owner_url, "SELECT * FROM migration_log ORDER BY id")

    ended = await migrate(behind)

    assert ended.report == {"seen": 3, "changed": 0, "failures": {}}
    assert await rows(behind.owner_url, "SELECT * FROM migration_log ORDER BY id") == log


async def test_a_tenant_that_fails_is_named_with_its_reason_and_the_rest_is_done(
    behind: Database,
) -> None:
    await stand_in_the_way(behind, "acme")

    ended = await migrate(behind)

    why = IN_THE_WAY.format("acme")
    assert ended.report == {"seen": 3, "changed": 1, "failures": {"acme": why}}
    assert ended.last_error == f"1 of 3 failed: acme ({why})"
    # It comes again by itself: whatever stands in the way may be gone by then.
    assert ended.state is WorkState.QUEUED
    assert await rows(behind.owner_url, REVISIONS) == [("acme", BEFORE), ("globex", HEAD)]


async def test_those_that_were_not_begun_are_one_line(behind: Database) -> None:
    await register(behind, "wayne", "yoyodyne")
    for slug in ("acme", "globex"):
        await stand_in_the_way(behind, slug)

    ended = await migrate(behind)

    assert ended.report == {
        "seen": 5,
        "changed": 0,
        "failures": {
            "acme": IN_THE_WAY.format("acme"),
            "globex": IN_THE_WAY.format("globex"),
            "2 others": "not begun, because too much before failed",
        },
    }
    assert await rows(behind.owner_url, "SELECT to_regclass('wayne_agents')") == [(None,)]
