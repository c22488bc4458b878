"""The months of the trail: no gap, no event without its month, nobody kept waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db import migrations
from db.clock import event_id, event_id_floor
from db.postgres.owner import connect
from db.postgres.partitions import audit_partitions, ensure_audit_partitions
from tests.contract.cast import ACME
from tests.db.catalog import everything, rows, session
from tests.db.scene import register, settings
from tests.servers.databases import Database

NOVEMBER = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.fixture
async def trail(empty_database: Database) -> Database:
    """Provisioned in November 2026."""
    await migrations.migrate(settings(empty_database), now=NOVEMBER)
    await register(empty_database, "acme")
    await migrations.provision(settings(empty_database), ACME, NOVEMBER)
    return empty_database


@asynccontextmanager
async def owning(database: Database) -> AsyncIterator[AsyncConnection]:
    async with connect(settings(database)) as connection, connection.begin():
        yield connection


async def ensure(database: Database, now: datetime) -> tuple[str, ...]:
    async with owning(database) as connection:
        return await ensure_audit_partitions(connection, ACME, now)


async def append(database: Database, instant: datetime) -> str:
    """Where an event of that instant is kept."""
    identifier = event_id(instant)
    async with session(database.app_url) as connection:
        await connection.exec_driver_sql(
            "INSERT INTO acme_audit_events"
            " (event_id, agent_id, action, outcome, ip_address, user_agent)"
            f" VALUES ('{identifier}', '{identifier}', 'token.issued', 'success', '::1', '-')"
        )
    [(partition,)] = await rows(
        database.owner_url,
        f"SELECT tableoid::regclass::text FROM acme_audit_events WHERE event_id = '{identifier}'",
    )
    return str(partition)


def floor(year: int, month: int) -> str:
    return str(event_id_floor(datetime(year, month, 1, tzinfo=UTC)))


async def test_a_new_tenant_has_this_month_and_two_ahead_and_no_default(trail: Database) -> None:
    found = await rows(
        trail.owner_url,
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'acme_audit_events'::regclass ORDER BY 1",
    )

    assert found == [
        ("acme_audit_events_y2026m11", f"FOR VALUES FROM (MINVALUE) TO ('{floor(2026, 12)}')"),
        (
            "acme_audit_events_y2026m12",
            f"FOR VALUES FROM ('{floor(2026, 12)}') TO ('{floor(2027, 1)}')",
        ),
        (
            "acme_audit_events_y2027m01",
            f"FOR VALUES FROM ('{floor(2027, 1)}') TO ('{floor(2027, 2)}')",
        ),
    ]


@pytest.mark.parametrize(
    ("instant", "month"),
    [
        (datetime(1971, 1, 1, tzinfo=UTC), "y2026m11"),
        (datetime(2026, 11, 30, 23, 59, 59, 999999, tzinfo=UTC), "y2026m11"),
        (datetime(2026, 12, 1, tzinfo=UTC), "y2026m12"),
        (datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "y2026m12"),
        (datetime(2027, 1, 31, 23, 59, 59, 999999, tzinfo=UTC), "y2027m01"),
    ],
)
async def test_an_event_is_kept_in_the_month_of_its_instant(
    trail: Database, instant: datetime, month: str
) -> None:
    assert await append(trail, instant) == f"acme_audit_events_{month}"


async def test_an_event_beyond_the_last_month_is_refused(trail: Database) -> None:
    with pytest.raises(DBAPIError, match="no partition of relation"):
        await append(trail, datetime(2027, 2, 1, tzinfo=UTC))

    assert await rows(trail.owner_url, "SELECT count(*) FROM acme_audit_events") == [(0,)]


async def test_a_new_month_adds_one_and_repeating_it_none(trail: Database) -> None:
    december = NOVEMBER + timedelta(days=30)

    assert await ensure(trail, december) == ("acme_audit_events_y2027m02",)
    made = await everything(trail.owner_url)
    assert await ensure(trail, december) == ()
    assert await ensure(trail, NOVEMBER) == ()
    assert await everything(trail.owner_url) == made


async def test_months_that_a_pause_left_out_are_made_up_for(trail: Database) -> None:
    made = await ensure(trail, datetime(2027, 4, 30, 23, 0, tzinfo=UTC))

    assert made == tuple(f"acme_audit_events_y2027m0{month}" for month in (2, 3, 4, 5, 6))
    assert await append(trail, datetime(2027, 3, 15, tzinfo=UTC)) == made[1]


async def test_the_month_is_that_of_utc_wherever_the_clock_hangs(trail: Database) -> None:
    evening_before = datetime(2026, 11, 30, 23, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert await ensure(trail, evening_before) == ("acme_audit_events_y2027m02",)


async def test_a_reader_of_the_trail_is_neither_waited_for_nor_kept_waiting(
    trail: Database,
) -> None:
    async with connect(settings(trail)) as reader, reader.begin():
        await reader.exec_driver_sql("SELECT count(*) FROM acme_audit_events")

        async with owning(trail) as owner:
            await ensure_audit_partitions(owner, ACME, datetime(2027, 1, 1, tzinfo=UTC))
            # The partition stands but is not committed: another reader comes through.
            await rows(trail.app_url, "SELECT count(*) FROM acme_audit_events")

    assert await append(trail, datetime(2027, 3, 1, tzinfo=UTC)) == "acme_audit_events_y2027m03"


async def test_two_at_once_make_each_month_once(trail: Database) -> None:
    later = datetime(2027, 6, 1, tzinfo=UTC)

    made = await asyncio.gather(*(ensure(trail, later) for _ in range(3)))

    assert sorted(map(len, made)) == [0, 0, 7]
    async with owning(trail) as connection:
        assert len(await audit_partitions(connection, ACME)) == 10


async def test_a_partition_has_every_index_of_its_parent(trail: Database) -> None:
    await ensure(trail, datetime(2027, 1, 1, tzinfo=UTC))

    # An index of the parent is valid once each partition has attached its own.
    assert await rows(
        trail.owner_url,
        "SELECT count(*), bool_and(indisvalid) FROM pg_index"
        " WHERE indrelid = 'acme_audit_events'::regclass",
    ) == [(5, True)]
    per_partition = await rows(
        trail.owner_url,
        "SELECT DISTINCT count(*) FROM pg_index WHERE indrelid IN"
        " (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'acme_audit_events'::regclass)"
        " GROUP BY indrelid",
    )
    assert per_partition == [(5,)]
