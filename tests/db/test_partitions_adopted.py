"""Months are made right whatever was left behind: by whoever was killed, by a clock, by a hand."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from db.clock import event_id
from db.errors import MigrationFailed, Unavailable
from tests.contract.cast import ACME, MICROSECOND
from tests.db.catalog import everything, rows
from tests.db.postgres import execute
from tests.db.trail import (
    FIRST,
    MONTHS,
    NOW,
    PARENT,
    append,
    events,
    keep_trail,
    locking,
    month,
    named,
    partitions,
    reading,
    seen_running,
    standing,
    upkeep,
)
from tests.servers.databases import Database

APRIL, MAY, JUNE = named("y2024m04", "y2024m05", "y2024m06")
IN_APRIL = NOW + timedelta(days=30)


@pytest.fixture
async def trail(empty_database: Database) -> Database:
    await keep_trail(empty_database)
    return empty_database


async def ensured(database: Database, now: datetime = IN_APRIL) -> tuple[str, ...]:
    return tuple(await upkeep(database).ensure_months(ACME, now))


async def test_an_empty_table_that_was_made_and_not_attached_is_made_anew(
    trail: Database,
) -> None:
    await execute(trail, f"CREATE TABLE {JUNE} (half_made integer)")

    assert await ensured(trail) == (JUNE,)

    assert JUNE in await partitions(trail)
    await append(trail, month(2024, 6))
    made = await everything(trail.owner_url)
    other = {line.replace(JUNE, MAY) for line in made["triggers"] if JUNE in line}
    assert other == {line for line in made["triggers"] if line.startswith(MAY)}


async def test_a_month_with_events_that_was_taken_out_is_put_back(trail: Database) -> None:
    [written] = await append(trail, month(2024, 5))
    await execute(trail, f"ALTER TABLE {PARENT} DETACH PARTITION {MAY}")
    assert await events(trail) == []

    assert await ensured(trail, NOW) == (MAY,)

    assert await events(trail) == [written]
    [(count,)] = await rows(
        trail.owner_url,
        f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{MAY}'::regclass",
    )
    assert count == 2


async def test_a_table_that_cannot_be_a_month_is_told_of_and_kept(trail: Database) -> None:
    await execute(trail, f"CREATE TABLE {JUNE} AS SELECT 1 AS somebody")
    before = await standing(trail)

    with pytest.raises(MigrationFailed, match="acme got no new months"):
        await ensured(trail, month(2024, 5))

    assert await standing(trail) == before
    assert await rows(trail.owner_url, f"SELECT somebody FROM {JUNE}") == [(1,)]


async def test_a_run_that_is_killed_leaves_nothing_half_made(trail: Database) -> None:
    before = await everything(trail.owner_url)
    # In the way of the last step, when the tables are made.
    async with locking(trail, PARENT, "SHARE ROW EXCLUSIVE"):
        killed = asyncio.create_task(ensured(trail))
        pid = await seen_running(trail, "ATTACH PARTITION")
        await execute(trail, f"SELECT pg_terminate_backend({pid}, 5000)")
        with pytest.raises(Unavailable):
            await killed
    assert await everything(trail.owner_url) == before

    assert await ensured(trail) == (JUNE,)


async def test_a_clock_a_year_ahead_makes_months_and_none_twice_when_it_is_right_again(
    trail: Database,
) -> None:
    year_ahead = NOW + timedelta(days=366)
    made = await ensured(trail, year_ahead)
    assert len(made) == 12

    assert await ensured(trail, NOW) == ()
    written = await append(trail, NOW, year_ahead)

    # And nothing of it goes before its time, by the right clock.
    await upkeep(trail).purge(ACME, NOW - timedelta(days=1), NOW)
    assert await events(trail) == sorted(written)
    assert set(made) < set(await standing(trail))


async def test_while_a_month_is_half_out_new_ones_are_made(trail: Database) -> None:
    async with reading(trail):
        with pytest.raises(MigrationFailed):
            await upkeep(trail).purge(ACME, month(2023, 12), NOW)
        assert await ensured(trail) == (JUNE,)

    assert await ensured(trail) == ()
    [taken] = await upkeep(trail).purge(ACME, month(2023, 12), NOW)
    assert taken.partition == named(MONTHS[0])[0]


async def test_of_all_months_half_out_none_is_made_again(trail: Database) -> None:
    """Killed after the last detachment: the trail has no month, and old tables stand beside it."""
    for each in named(*MONTHS):
        await execute(trail, f"ALTER TABLE {PARENT} DETACH PARTITION {each}")
    later = month(2024, 9)

    made = await ensured(trail, later)

    assert made == named(*(f"y2024m{number:02d}" for number in range(6, 12)))
    taken = await upkeep(trail).purge(ACME, month(2024, 6), later)
    assert [each.partition for each in taken] == [*named(*MONTHS)]
    assert await standing(trail) == made


async def test_an_event_at_the_edge_of_two_months_has_one_place(trail: Database) -> None:
    edge = month(2024, 3)
    ids = [event_id(edge - MICROSECOND), event_id(edge)]
    await append(trail, edge - MICROSECOND, edge)

    found = await rows(
        trail.owner_url, f"SELECT tableoid::regclass::text FROM {PARENT} ORDER BY event_id"
    )

    assert [str(name) for (name,) in found] == [*named("y2024m02", "y2024m03")]
    assert ids == sorted(ids)
    assert edge > FIRST
