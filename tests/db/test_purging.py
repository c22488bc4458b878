"""Old months go whole and on record, each once, and nothing that is younger or not ours."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from db.clock import system_clock
from db.errors import MigrationFailed, TenantNotProvisioned
from db.namespace import TenantPrefix
from db.postgres.engine import asyncpg_url
from db.postgres.upkeep import PostgresUpkeep
from tests.contract.cast import ACME, MICROSECOND
from tests.db.catalog import rows, session
from tests.db.postgres import execute
from tests.db.scene import register
from tests.db.trail import (
    FIRST,
    MONTHS,
    NOW,
    PARENT,
    append,
    digest,
    events,
    keep_trail,
    lines,
    month,
    named,
    partitions,
    pending,
    reading,
    standing,
    upkeep,
)
from tests.servers.databases import Database

ACME_TWO = TenantPrefix("acme_two")
NOVEMBER, DECEMBER, JANUARY = named("y2023m11", "y2023m12", "y2024m01")
EVERY_MONTH = named(*MONTHS)


@pytest.fixture
async def trail(empty_database: Database) -> Database:
    await keep_trail(empty_database)
    return empty_database


async def test_months_that_are_wholly_older_go_and_are_on_record(trail: Database) -> None:
    ancient = await append(trail, datetime.fromisoformat("1999-01-01T00:00:00Z"), FIRST)
    december = await append(trail, month(2023, 12), month(2024, 1) - MICROSECOND)
    young = await append(trail, month(2024, 1), NOW)
    before = month(2024, 1) + timedelta(days=14)

    taken = await upkeep(trail).purge(ACME, before, NOW)

    assert [
        (each.tenant, each.partition, each.lower, each.upper, each.events, each.digest)
        for each in taken
    ] == [
        ("acme", NOVEMBER, None, month(2023, 12), 2, digest(ancient)),
        ("acme", DECEMBER, month(2023, 12), month(2024, 1), 2, digest(december)),
    ]
    assert {(each.before, each.purged_at) for each in taken} == {(before, NOW)}
    assert await lines(trail) == [("acme", NOVEMBER, 2), ("acme", DECEMBER, 2)]
    assert await standing(trail) == await partitions(trail) == EVERY_MONTH[2:]
    assert await events(trail) == sorted(young)


async def test_a_month_goes_at_the_instant_at_which_its_last_event_is_too_old(
    trail: Database,
) -> None:
    last = await append(trail, month(2024, 1) - MICROSECOND)
    first = await append(trail, month(2024, 1), month(2024, 1) + MICROSECOND)

    early = await upkeep(trail).purge(ACME, month(2024, 1) - MICROSECOND, NOW)
    assert [each.partition for each in early] == [NOVEMBER]
    assert await events(trail) == sorted(last + first)

    [taken] = await upkeep(trail).purge(ACME, month(2024, 1), NOW)
    assert (taken.partition, taken.events, taken.digest) == (DECEMBER, 1, digest(last))
    assert await events(trail) == sorted(first)


async def test_a_second_purge_takes_nothing(trail: Database) -> None:
    await upkeep(trail).purge(ACME, month(2024, 1), NOW)
    before = await lines(trail), await standing(trail)

    assert list(await upkeep(trail).purge(ACME, month(2024, 1), NOW)) == []

    assert (await lines(trail), await standing(trail)) == before


async def test_purges_at_once_take_each_month_once_and_none_of_them_fails(
    trail: Database,
) -> None:
    taken = await asyncio.gather(
        *(upkeep(trail).purge(ACME, month(2024, 2), NOW) for _ in range(3))
    )

    assert sorted(map(len, taken)) == [0, 0, 3]
    assert await lines(trail) == [("acme", each, 0) for each in EVERY_MONTH[:3]]
    assert await standing(trail) == EVERY_MONTH[3:]


async def test_a_month_of_many_events_is_counted_in_stretches(trail: Database) -> None:
    await execute(
        trail,
        f"INSERT INTO {PARENT} (event_id, agent_id, action, outcome, ip_address, user_agent)"
        " SELECT id, id, 'custom', 'success', '::1', '-' FROM (SELECT"
        " ('018c2f00-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id"
        " FROM generate_series(1, 45001) AS n) AS ids",
    )
    expected = await events(trail)

    [_, taken] = await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert (taken.events, taken.digest) == (45_001, digest(expected))


async def test_the_months_of_a_tenant_whose_name_begins_the_same_stay(trail: Database) -> None:
    await register(trail, "acme_two")
    await upkeep(trail).provision(ACME_TWO, FIRST)
    [theirs] = await append(trail, FIRST, tenant=ACME_TWO)

    await upkeep(trail).purge(ACME, month(2024, 5), NOW)

    assert await events(trail, ACME_TWO) == [theirs]
    assert len(await standing(trail, ACME_TWO)) == 3


async def test_a_young_month_that_somebody_detached_is_left_alone(trail: Database) -> None:
    [young] = await append(trail, month(2024, 1))
    await execute(trail, f"ALTER TABLE {PARENT} DETACH PARTITION {JANUARY}")

    await upkeep(trail).purge(ACME, month(2024, 2) - MICROSECOND, NOW)

    assert await rows(trail.owner_url, f"SELECT event_id FROM {JANUARY}") == [(young,)]
    assert [line[1] for line in await lines(trail)] == [NOVEMBER, DECEMBER]


async def test_a_month_that_is_half_out_and_is_to_be_kept_after_all_can_be_read_again(
    trail: Database,
) -> None:
    old = await append(trail, FIRST, month(2023, 12))
    async with reading(trail):
        with pytest.raises(MigrationFailed, match=f"{NOVEMBER} is being read"):
            await upkeep(trail).purge(ACME, month(2024, 1), NOW)
    assert await events(trail) == old[1:]

    # Meanwhile the tenant was given a longer retention.
    assert await upkeep(trail).purge(ACME, month(2023, 12) - MICROSECOND, NOW) == ()

    assert (await pending(trail), await lines(trail)) == ([], [])
    assert await partitions(trail) == EVERY_MONTH
    assert await events(trail) == old
    for table in (NOVEMBER, PARENT):
        for change in ("DELETE FROM", "TRUNCATE"):
            with pytest.raises(DBAPIError, match="append-only"):
                await execute(trail, f"{change} {table}")
    assert len(await upkeep(trail).purge(ACME, month(2024, 1), NOW)) == 2


async def test_a_table_with_events_younger_than_its_name_stays_and_is_told_of(
    trail: Database,
) -> None:
    await execute(trail, f"ALTER TABLE {PARENT} DETACH PARTITION {NOVEMBER}")
    await execute(
        trail,
        f"INSERT INTO {NOVEMBER} (event_id, agent_id, action, outcome, ip_address, user_agent)"
        " VALUES ('018e0000-0000-7000-8000-000000000000', gen_random_uuid(), 'custom', 'success',"
        " '::1', '-')",
    )

    with pytest.raises(MigrationFailed, match=NOVEMBER):
        await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert await rows(trail.owner_url, f"SELECT count(*) FROM {NOVEMBER}") == [(1,)]
    # The others are done.
    assert await lines(trail) == [("acme", DECEMBER, 0)]


async def test_a_partition_of_somebody_elses_making_stays_and_is_told_of(trail: Database) -> None:
    await execute(trail, f"ALTER TABLE {NOVEMBER} RENAME TO acme_audit_events_old")
    await append(trail, FIRST)

    with pytest.raises(MigrationFailed, match="acme_audit_events_old"):
        await upkeep(trail).purge(ACME, month(2024, 1), NOW)

    assert len(await events(trail)) == 1
    assert await lines(trail) == [("acme", DECEMBER, 0)]


async def test_a_process_that_is_ahead_of_the_database_drops_nothing(trail: Database) -> None:
    written = await append(trail, FIRST, NOW)
    ahead = system_clock() + timedelta(days=365)

    with pytest.raises(MigrationFailed, match=r"36[45] days ahead"):
        await upkeep(trail).purge(ACME, ahead - timedelta(days=90), ahead)

    assert await events(trail) == sorted(written)
    assert await standing(trail) == EVERY_MONTH
    assert await lines(trail) == []


async def test_a_process_that_is_a_little_ahead_makes_nothing_older_than_it_is(
    trail: Database,
) -> None:
    ahead = system_clock() + timedelta(hours=23)

    # December would be over by that clock, and is young for 23 hours by the database's.
    [taken] = await upkeep(trail).purge(ACME, month(2024, 1) + timedelta(hours=22), ahead)

    assert taken.partition == NOVEMBER
    assert taken.before < month(2024, 1)
    assert await standing(trail) == EVERY_MONTH[1:]
    [taken] = await upkeep(trail).purge(ACME, month(2024, 1) + timedelta(hours=24), ahead)
    assert taken.partition == DECEMBER


async def test_a_tenant_that_was_never_provisioned_has_nothing_to_purge(trail: Database) -> None:
    with pytest.raises(TenantNotProvisioned):
        await upkeep(trail).purge(ACME_TWO, NOW, NOW)


async def test_a_purge_works_on_the_connections_of_an_application(trail: Database) -> None:
    engine = create_async_engine(asyncpg_url(trail.owner_url), isolation_level="AUTOCOMMIT")
    try:
        taken = await PostgresUpkeep(engine).purge(ACME, month(2024, 1), NOW)
    finally:
        await engine.dispose()

    assert [each.partition for each in taken] == [NOVEMBER, DECEMBER]
    assert await standing(trail) == EVERY_MONTH[2:]


async def test_a_month_that_was_purged_is_not_made_again(trail: Database) -> None:
    await upkeep(trail).purge(ACME, month(2024, 6), NOW)
    assert await standing(trail) == ()

    # By a clock that is late, and by one that is not.
    assert list(await upkeep(trail).ensure_months(ACME, FIRST)) == []
    made = await upkeep(trail).ensure_months(ACME, month(2024, 6))

    assert tuple(made) == named("y2024m06", "y2024m07", "y2024m08")
    async with session(trail.owner_url) as connection:
        found = await connection.exec_driver_sql(
            "SELECT pg_get_expr(relpartbound, oid) FROM pg_class"
            " WHERE relname = 'acme_audit_events_y2024m06'"
        )
        assert "MINVALUE" not in str(found.scalar())
