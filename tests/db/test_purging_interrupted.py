"""A purge that is kept waiting, or cut off anywhere, loses nothing and is finished by the next."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from db.errors import MigrationFailed, Unavailable
from db.postgres.engine import asyncpg_url
from db.postgres.purging import purge
from tests.contract.cast import ACME
from tests.db.catalog import rows
from tests.db.postgres import execute
from tests.db.trail import (
    FIRST,
    MONTHS,
    NOW,
    PARENT,
    append,
    digest,
    keep_trail,
    lines,
    month,
    named,
    pending,
    reading,
    seen_running,
    standing,
    upkeep,
)
from tests.servers.databases import Database

NOVEMBER, DECEMBER = named("y2023m11", "y2023m12")
EVERY_MONTH = named(*MONTHS)


@pytest.fixture
async def trail(empty_database: Database) -> Database:
    await keep_trail(empty_database)
    return empty_database


async def test_a_reader_delays_a_purge_and_is_not_disturbed(trail: Database) -> None:
    old = await append(trail, FIRST)
    async with reading(trail) as reader:
        with pytest.raises(MigrationFailed, match=f"{NOVEMBER} is being read"):
            await upkeep(trail).purge(ACME, month(2024, 1), NOW)

        # Half out: nothing else is kept waiting, and nothing of it is lost.
        assert await pending(trail) == [(NOVEMBER,)]
        assert await append(trail, NOW)
        again = await reader.exec_driver_sql(f"SELECT count(*) FROM {PARENT}")
        assert again.scalar() == 1
        assert await upkeep(trail).ensure_months(ACME, NOW + timedelta(days=30)) != ()
        with pytest.raises(MigrationFailed, match="lock timeout"):
            await upkeep(trail).purge(ACME, month(2024, 1), NOW)
        assert await rows(trail.owner_url, f"SELECT count(*) FROM {NOVEMBER}") == [(1,)]
        assert await lines(trail) == []

    taken = await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert [(each.partition, each.digest) for each in taken] == [
        (NOVEMBER, digest(old)),
        (DECEMBER, digest([])),
    ]
    assert await pending(trail) == []
    assert set(EVERY_MONTH[:2]).isdisjoint(await standing(trail))


async def test_a_purge_that_is_killed_while_it_waits_is_finished_by_the_next(
    trail: Database,
) -> None:
    old = await append(trail, FIRST)
    async with reading(trail):
        killed = asyncio.create_task(upkeep(trail).purge(ACME, month(2024, 1), NOW))
        pid = await seen_running(trail, "DETACH PARTITION")
        await execute(trail, f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(Unavailable):
            await killed
        assert await pending(trail) == [(NOVEMBER,)]
        assert await lines(trail) == []

    [taken, _] = await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert (taken.partition, taken.lower, taken.digest) == (NOVEMBER, None, digest(old))
    assert await standing(trail) == EVERY_MONTH[2:]


@pytest.mark.parametrize("how", ["", " CONCURRENTLY"])
async def test_a_month_that_was_detached_and_not_dropped_is_found_again(
    trail: Database, how: str
) -> None:
    old = await append(trail, month(2023, 12))
    await execute(trail, f"ALTER TABLE {PARENT} DETACH PARTITION {DECEMBER}{how}")

    taken = await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert [(each.partition, each.lower, each.events) for each in taken] == [
        (DECEMBER, month(2023, 12), 1),
        (NOVEMBER, None, 0),
    ]
    assert taken[0].digest == digest(old)
    assert await standing(trail) == EVERY_MONTH[2:]


async def test_a_month_is_not_dropped_without_its_line(trail: Database) -> None:
    old = await append(trail, FIRST)
    await execute(
        trail,
        "INSERT INTO purge_log SELECT gen_random_uuid(), 'acme',"
        f" '{NOVEMBER}', NULL, now(), now(), 0, '', now()",
    )

    with pytest.raises(MigrationFailed, match="23505"):
        await upkeep(trail).purge(ACME, month(2023, 12), NOW)

    assert await rows(trail.owner_url, f"SELECT event_id FROM {NOVEMBER}") == [(old[0],)]
    await execute(trail, "DELETE FROM purge_log")
    [taken] = await upkeep(trail).purge(ACME, month(2023, 12), NOW)
    assert taken.digest == digest(old)


async def test_there_is_no_line_of_a_month_that_could_not_be_dropped(trail: Database) -> None:
    await append(trail, FIRST)
    await execute(trail, f"CREATE VIEW report AS SELECT * FROM {NOVEMBER}")

    with pytest.raises(MigrationFailed, match="depend"):
        await upkeep(trail).purge(ACME, month(2023, 12), NOW)

    assert await lines(trail) == []
    assert await rows(trail.owner_url, "SELECT count(*) FROM report") == [(1,)]


async def test_nothing_of_a_purge_stays_behind_in_the_session(trail: Database) -> None:
    engine = create_async_engine(asyncpg_url(trail.owner_url), pool_size=2, max_overflow=0)
    try:
        async with engine.connect() as connection:
            before = await connection.exec_driver_sql("SHOW lock_timeout")
            kept = before.scalar()
        async with reading(trail):
            with pytest.raises(MigrationFailed):
                await purge(engine, ACME, month(2024, 1), NOW)
        for _ in range(2):
            async with engine.connect() as connection:
                shown = await connection.exec_driver_sql("SHOW lock_timeout")
                assert shown.scalar() == kept
        await purge(engine, ACME, month(2024, 1), NOW)
    finally:
        await engine.dispose()
    held = await rows(trail.owner_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert held == [(0,)]


async def test_what_is_said_of_a_purge_that_failed_names_no_secret(trail: Database) -> None:
    async with reading(trail):
        with pytest.raises(MigrationFailed) as failed:
            await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert not re.search("postgresql|password|SELECT|INSERT", failed.value.message)
