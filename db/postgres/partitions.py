"""The months of a tenant's audit trail.

A partition holds the events of one calendar month in UTC; the bounds are the smallest ids that the
first instants of two months can have. The lowest has no lower end, none is a DEFAULT: a row in one
would stand in the way of the month it belongs to, and with one no month could be detached while
the trail is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.clock import event_id_floor, instant_of
from db.months import following, missing, month_of
from db.namespace import APPEND_ONLY_FUNCTION, TenantPrefix
from db.postgres.owner import hold, table_exists
from db.tables import purge_log

_UPPER_BOUND = re.compile(r"TO \('([0-9a-f-]{36})'\)$")
_MONTH = re.compile(r"y([1-9][0-9]{3})m(0[1-9]|1[0-2])$")

# The catalog holds the tables of every tenant: each half finds its own by an index.
_STANDING = text("""
    SELECT c.relname, i.inhparent IS NOT NULL, coalesce(i.inhdetachpending, false),
        pg_get_expr(c.relpartbound, c.oid)
    FROM pg_class c LEFT JOIN pg_inherits i
        ON i.inhrelid = c.oid AND i.inhparent = to_regclass(:parent)
    WHERE c.oid IN (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:parent)
        UNION SELECT oid FROM pg_class
            WHERE relname >= CAST(:first AS name) AND relname <= CAST(:last AS name)
            AND relnamespace =
                (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:parent))
            AND relkind = 'r' AND NOT relispartition
    ) ORDER BY c.relname
""")


@dataclass(frozen=True, slots=True)
class Partition:
    """A table that is a part of the trail, or bears the name of one.

    `upper` is where it ends: by its bound while it is attached, else by its name. `month` is the
    month that it holds, None when its bound is not that of the month it is named after. `pending`
    is a detachment that was begun and cut off: readers have it no more, the catalog still does.
    """

    name: str
    month: datetime | None
    upper: datetime | None
    attached: bool
    pending: bool


async def ensure_audit_partitions(
    connection: AsyncConnection, tenant: TenantPrefix, now: datetime
) -> tuple[str, ...]:
    """Makes the partitions that are missing up to two months after that of `now`, in the caller's
    transaction; the names of those that are new. Months are never skipped: what a pause left out
    is made up for; and one that was purged, or is about to be, is never made again. A long-running
    reader of the trail is not in the way, nor kept waiting.

    What default privileges give on them is for `roles.grant` to take back, which follows.
    """
    await hold(connection, str(tenant))
    standing = await partitions(connection, tenant)
    until = await _covered_until(connection, tenant, standing, now)
    detached = {each.name for each in standing if not each.attached}
    made = []
    for name, statements in missing_months(tenant, until, now):
        in_the_way = name in detached and not await _cleared(connection, name)
        for statement in statements[1:] if in_the_way else statements:
            await connection.execute(text(statement))
        made.append(name)
    return tuple(made)


def missing_months(
    tenant: TenantPrefix, until: datetime | None, now: datetime
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The partitions that are missing where the trail is covered up to `until` (None: not at all),
    each with the statements that make it: the first makes the table, the others its place."""
    for month in missing(until, now):
        name = tenant.audit_partition(month)
        lower = f"'{event_id_floor(month)}'" if until else "MINVALUE"
        until = following(month)
        yield name, _statements(tenant, name, lower, f"'{event_id_floor(until)}'")


def covered_until(bounds: Iterable[str]) -> datetime | None:
    """The end of the last month, from the bounds of all partitions as PostgreSQL prints them."""
    return max(filter(None, map(_upper, bounds)), default=None)


async def audit_partitions(connection: AsyncConnection, tenant: TenantPrefix) -> tuple[str, ...]:
    """By name, oldest first."""
    return tuple(each.name for each in await partitions(connection, tenant) if each.attached)


async def partitions(connection: AsyncConnection, tenant: TenantPrefix) -> Sequence[Partition]:
    """What the trail consists of, and the months that a purge has detached and not dropped yet;
    by name, oldest first."""
    rows = await connection.execute(
        _STANDING,
        {
            "parent": tenant.table("audit_events"),
            "first": tenant.table("audit_events_y0000m00"),
            "last": tenant.table("audit_events_y9999m99"),
        },
    )
    every = [_partition(tenant, *row) for row in rows]
    return [each for each in every if each.attached or each.month is not None]


def _partition(
    tenant: TenantPrefix, name: str, attached: bool, pending: bool, bounds: str | None
) -> Partition:
    month = _month_named(tenant, name)
    if not attached:
        return Partition(name, month, month and following(month), attached, pending)
    upper = _upper(bounds or "")
    own = month is not None and upper == following(month)
    return Partition(name, month if own else None, upper, attached, pending)


def _upper(bounds: str) -> datetime | None:
    found = _UPPER_BOUND.search(bounds)
    return instant_of(UUID(found[1])) if found else None


def _month_named(tenant: TenantPrefix, name: str) -> datetime | None:
    found = _MONTH.search(name)
    month = datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC) if found else None
    return month if month and tenant.audit_partition(month) == name else None


async def _covered_until(
    connection: AsyncConnection,
    tenant: TenantPrefix,
    standing: Sequence[Partition],
    now: datetime,
) -> datetime | None:
    """Where the last month ends that there is, or has been; None when there was none yet."""
    ends = [each.upper for each in standing if each.attached and each.upper]
    if not ends:
        # All that there was is purged, or on its way there.
        ends += [
            following(each.month)
            for each in standing
            if each.month is not None and each.month < month_of(now)
        ]
        if await table_exists(connection, purge_log.name):
            purged = await connection.scalar(
                select(func.max(purge_log.c.upper)).where(purge_log.c.tenant == str(tenant))
            )
            ends += [] if purged is None else [purged]
    return max(ends, default=None)


async def _cleared(connection: AsyncConnection, name: str) -> bool:
    """Whether a table that stands where a month is missing was empty, and is gone. Whoever took a
    month with events out of the trail gets it back instead."""
    if await connection.scalar(text(f'SELECT EXISTS (SELECT FROM "{name}")')):
        return False
    await connection.execute(text(f'DROP TABLE "{name}"'))
    return True


def _statements(tenant: TenantPrefix, name: str, lower: str, upper: str) -> tuple[str, ...]:
    parent = tenant.table("audit_events")
    # CREATE … PARTITION OF would wait for every reader of the parent, and they for it. The guard of
    # the rows comes from the parent, that of the whole table does not.
    return (
        f'CREATE TABLE "{name}" (LIKE "{parent}" INCLUDING ALL)',
        f'CREATE OR REPLACE TRIGGER "{tenant.trigger("audit_events_no_truncate")}"'
        f' BEFORE TRUNCATE ON "{name}"'
        f" FOR EACH STATEMENT EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()",
        f'ALTER TABLE "{parent}" ATTACH PARTITION "{name}" FOR VALUES FROM ({lower}) TO ({upper})',
    )
