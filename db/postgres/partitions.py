"""The months of a tenant's audit trail.

A partition holds the events of one calendar month in UTC; the bounds are the smallest ids that the
first instants of two months can have. The lowest has no lower end, none is a DEFAULT: a row in one
would stand in the way of the month it belongs to, and with one no month could be detached while
the trail is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.clock import event_id_floor, instant_of
from db.namespace import APPEND_ONLY_FUNCTION, TenantPrefix
from db.postgres.owner import hold

MONTHS_AHEAD = 2

_UPPER_BOUND = re.compile(r"TO \('([0-9a-f-]{36})'\)$")


async def ensure_audit_partitions(
    connection: AsyncConnection, tenant: TenantPrefix, now: datetime
) -> tuple[str, ...]:
    """Makes the partitions that are missing up to two months after that of `now`, in the caller's
    transaction; the names of those that are new. Months are never skipped: what a pause left out
    is made up for. A long-running reader of the trail is not in the way, nor kept waiting.

    What default privileges give on them is for `roles.grant` to take back, which follows.
    """
    await hold(connection, str(tenant))
    until = await _covered_until(connection, tenant)
    made = []
    for name, statements in missing_months(tenant, until, now):
        for statement in statements:
            await connection.execute(text(statement))
        made.append(name)
    return tuple(made)


def missing_months(
    tenant: TenantPrefix, until: datetime | None, now: datetime
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The partitions that are missing where the trail is covered up to `until` (None: not at all),
    each with the statements that make it."""
    for month in _months(until or _month(now), now):
        name = tenant.audit_partition(month)
        lower = f"'{event_id_floor(month)}'" if until else "MINVALUE"
        until = _next(month)
        yield name, _statements(tenant, name, lower, f"'{event_id_floor(until)}'")


def covered_until(bounds: Iterable[str]) -> datetime | None:
    """The end of the last month, from the bounds of all partitions as PostgreSQL prints them."""
    uppers = [UUID(found[1]) for bound in bounds if (found := _UPPER_BOUND.search(bound))]
    return instant_of(max(uppers)) if uppers else None


async def audit_partitions(connection: AsyncConnection, tenant: TenantPrefix) -> tuple[str, ...]:
    """By name, oldest first."""
    rows = await connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = to_regclass(:parent) ORDER BY c.relname"
        ),
        {"parent": tenant.table("audit_events")},
    )
    return tuple(rows.scalars())


async def _covered_until(connection: AsyncConnection, tenant: TenantPrefix) -> datetime | None:
    bounds = await connection.execute(
        text(
            "SELECT pg_get_expr(c.relpartbound, c.oid)"
            " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = to_regclass(:parent)"
        ),
        {"parent": tenant.table("audit_events")},
    )
    return covered_until(bounds.scalars())


def _statements(tenant: TenantPrefix, name: str, lower: str, upper: str) -> tuple[str, ...]:
    parent = tenant.table("audit_events")
    # CREATE … PARTITION OF would wait for every reader of the parent, and they for it.
    return (
        f'CREATE TABLE "{name}" (LIKE "{parent}" INCLUDING ALL)',
        f'CREATE TRIGGER "{tenant.trigger("audit_events_no_truncate")}" BEFORE TRUNCATE ON "{name}"'
        f" FOR EACH STATEMENT EXECUTE FUNCTION {APPEND_ONLY_FUNCTION}()",
        f'ALTER TABLE "{parent}" ATTACH PARTITION "{name}" FOR VALUES FROM ({lower}) TO ({upper})',
    )


def _months(first: datetime, now: datetime) -> Iterator[datetime]:
    last = _month(now)
    for _ in range(MONTHS_AHEAD):
        last = _next(last)
    while first <= last:
        yield first
        first = _next(first)


def _month(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(month: datetime) -> datetime:
    years, index = divmod(month.month, 12)
    return month.replace(year=month.year + years, month=index + 1)
