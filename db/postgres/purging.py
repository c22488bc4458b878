"""Months of the trail that are taken away whole, each with its line in `purge_log`.

A month goes in two steps, and whoever is cut off anywhere in between leaves what the next run
recognises. First its partition is detached, which waits for those who read the trail and keeps
nobody from it. What is then a table by itself, out of the application's reach, is counted, noted
and dropped in one transaction: no month goes without its line, and no line is of one that stayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import asyncpg
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.clock import event_id, event_id_floor
from db.digests import days_between, month_digest
from db.errors import MigrationFailed, TenantNotProvisioned
from db.months import following, is_over
from db.namespace import TenantPrefix
from db.postgres.citus import citus_version, completion, detachment
from db.postgres.driver import driver_of
from db.postgres.owner import (
    Source,
    connect,
    hold,
    is_lost,
    reason,
    server_clock,
    table_exists,
)
from db.postgres.partitions import Partition, partitions
from db.postgres.rows import parameters
from db.records import Purge
from db.tables import purge_log

# How long a statement of ours waits for others before it is left for the next run.
_PATIENCE = timedelta(seconds=2)
# A clock that is further ahead of the database's is wrong, and what it calls old may be young.
_MOST_AHEAD = timedelta(days=1)
_BOUNDS = text("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass(:name)")


async def purge(
    source: Source, tenant: TenantPrefix, before: datetime, now: datetime
) -> tuple[Purge, ...]:
    """Takes away the months that lie wholly before `before`, oldest first; what was taken. A clock
    that is a little ahead of the database's makes nothing older than it is.

    Another purge of the tenant is waited for, a reader of the trail for a moment. Raises
    MigrationFailed when that was not enough, or when `now` cannot be; TenantNotProvisioned and
    Unavailable.
    """
    async with _reported(tenant), connect(source) as connection:
        run = _Run(connection, tenant, now, now - before)
        # Most have nothing to give, and then nobody's turn is waited for.
        if not run.has_to_do(await run.look()):
            return ()
        async with _turn(source, tenant):
            await run.take_all()
        if run.strange:
            left = ", ".join(sorted(run.strange))
            raise MigrationFailed(f"{tenant} keeps what is no month by its name: {left}")
        return tuple(run.taken)


@dataclass(slots=True)
class _Run:
    connection: AsyncConnection
    tenant: TenantPrefix
    now: datetime
    kept: timedelta
    before: datetime = field(init=False)
    taken: list[Purge] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)

    async def look(self) -> Sequence[Partition]:
        """What stands. Raises TenantNotProvisioned, and MigrationFailed when `now` cannot be."""
        async with self.connection.begin():
            if not await table_exists(self.connection, self._parent):
                raise TenantNotProvisioned(f"the tenant {self.tenant} was never provisioned")
            there = await _refuse_the_future(self.connection, self.tenant, self.now)
            self.before = min(self.now, there) - self.kept
            return await partitions(self.connection, self.tenant)

    def has_to_do(self, standing: Sequence[Partition]) -> bool:
        found = [each for each in standing if each.pending or self.concerns(each)]
        return bool(found or self.strange)

    async def take_all(self) -> None:
        """In the tenant's turn: what was seen before it may be another's work by now."""
        standing = await self.look()
        # While one is half out, no other can be detached.
        if half_out := [each for each in standing if each.pending]:
            for partition in half_out:
                await self._complete(partition)
            standing = await self.look()
        async with self.connection.begin():
            citus = await citus_version(self.connection) is not None
        # What was detached before comes first: it may be old, and can wait for nobody.
        for partition in sorted(standing, key=lambda each: each.attached):
            if partition.month is not None and self.concerns(partition):
                if partition.attached:
                    await self._detach(partition, citus=citus)
                await self._take(partition.name, partition.month, standing)

    def concerns(self, partition: Partition) -> bool:
        """Whether all of it is old. What is old and is not the month that its name says was not
        made here: it is told of, and stays."""
        if partition.month is not None:
            return is_over(partition.month, self.before)
        if partition.upper is not None and partition.upper <= self.before:
            self.strange.add(partition.name)
        return False

    async def _complete(self, partition: Partition) -> None:
        async with self._briefly():
            bounds = None
            if not self.concerns(partition):
                # It was begun when less was to be kept, or by somebody else: readers get it back.
                bounds = await self.connection.scalar(_BOUNDS, {"name": partition.name})
            await self.connection.execute(text(completion(self._parent, partition.name)))
            if bounds is not None:
                attachment = f'ALTER TABLE "{self._parent}" ATTACH PARTITION "{partition.name}"'
                await self.connection.exec_driver_sql(f"{attachment} {bounds}")

    async def _detach(self, partition: Partition, *, citus: bool) -> None:
        statement = detachment(self._parent, partition.name, citus=citus)
        if citus:
            async with self._briefly():
                await self.connection.execute(text(statement))
            return
        # No transaction may be around it, so no setting can be local to it, and one of the session
        # would stay behind in a pooler's connection: whoever waits too long takes it back instead.
        # As one simple message it is whole on whatever connection a pooler gives it.
        driver = await driver_of(self.connection)
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await driver.execute(statement)
        except TimeoutError:
            raise MigrationFailed(
                f"{self.tenant} was not purged: {partition.name} is being read"
            ) from None

    async def _take(self, name: str, month: datetime, seen: Sequence[Partition]) -> None:
        async with self._briefly():
            await self.connection.execute(text(f'LOCK TABLE "{name}" IN ACCESS EXCLUSIVE MODE'))
            if await self._has_younger(name, month):
                self.strange.add(name)
                return
            events, digest = await self._contents(name, month)
            earlier = any(each.upper is not None and each.upper <= month for each in seen)
            purge = Purge(
                purge_id=event_id(self.now),
                tenant=str(self.tenant),
                partition=name,
                # The first month of all has no lower end.
                lower=month if earlier or await self._has_purged_before(month) else None,
                upper=following(month),
                before=self.before,
                events=events,
                digest=digest,
                purged_at=self.now,
            )
            await self.connection.execute(insert(purge_log).values(parameters(purge)))
            await self.connection.execute(text(f'DROP TABLE "{name}"'))
        self.taken.append(purge)

    async def _contents(self, name: str, month: datetime) -> tuple[int, str]:
        """How many events, and their digest. The database reads the days side by side, and holds no
        more at once than the ids of a few of them."""
        rows = await self.connection.execute(
            text(" UNION ALL ".join(_days(name, days_between(month))))
        )
        days = sorted(tuple(row) for row in rows if row.digest is not None)
        return sum(events for _, events, _ in days), month_digest(each for _, _, each in days)

    async def _has_younger(self, name: str, month: datetime) -> bool:
        upper = event_id_floor(following(month))
        return bool(
            await self.connection.scalar(
                text(f'SELECT EXISTS (SELECT FROM "{name}" WHERE event_id >= :upper)'),
                {"upper": upper},
            )
        )

    async def _has_purged_before(self, month: datetime) -> bool:
        purged = select(func.count()).where(
            purge_log.c.tenant == str(self.tenant), purge_log.c.upper <= month
        )
        return bool(await self.connection.scalar(purged))

    @property
    def _parent(self) -> str:
        return self.tenant.table("audit_events")

    @asynccontextmanager
    async def _briefly(self) -> AsyncIterator[None]:
        """A transaction in which no statement waits long."""
        async with self.connection.begin():
            milliseconds = _PATIENCE // timedelta(milliseconds=1)
            await self.connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
            yield


def _days(name: str, between: Sequence[UUID]) -> Iterator[str]:
    """A query for each day: its number, how many events it has, and the digest of their ids, NULL
    when there are none. The bounds are text of our own, so that each has a plan of its own."""
    for day, (low, high) in enumerate(pairwise([None, *between, None])):
        bounds = [f"event_id >= '{low}'"] * bool(low) + [f"event_id < '{high}'"] * bool(high)
        yield (
            f"SELECT {day} AS day, count(*) AS events, sha256(string_agg(uuid_send(event_id),"
            f" CAST('' AS bytea) ORDER BY event_id)) AS digest"
            f' FROM "{name}" WHERE {" AND ".join(bounds)}'
        )


@asynccontextmanager
async def _turn(source: Source, tenant: TenantPrefix) -> AsyncIterator[None]:
    """One purge of a tenant at a time. A transaction of a connection that does nothing else holds
    the turn, because what is done meanwhile is not one transaction, and may not be in one."""
    async with connect(source) as connection, connection.begin():
        try:
            await hold(connection, f"purge:{tenant}")
        except DBAPIError as error:
            if is_lost(error):
                raise
            raise MigrationFailed(f"{tenant} is being purged elsewhere, and not done yet") from None
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


@asynccontextmanager
async def _reported(tenant: TenantPrefix) -> AsyncIterator[None]:
    try:
        yield
    except (DBAPIError, asyncpg.PostgresError) as error:
        raise MigrationFailed(f"{tenant} was not purged: {reason(error)}") from None


async def _refuse_the_future(
    connection: AsyncConnection, tenant: TenantPrefix, now: datetime
) -> datetime:
    """The database's own time."""
    there = await server_clock(connection)
    if now - there > _MOST_AHEAD:
        raise MigrationFailed(
            f"{tenant} was not purged: this process is {(now - there).days} days ahead of the"
            " database, and would take events for older than they are"
        )
    return there
