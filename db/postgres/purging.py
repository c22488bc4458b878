"""Months of the trail that are taken away whole, each with its line in `purge_log`.

A month goes in two steps, and whoever is cut off anywhere in between leaves what the next run
recognises. First its partition is detached, which waits for those who read the trail and keeps
nobody from it. What is then a table by itself, out of the application's reach, is counted, noted
and dropped in one transaction: no month goes without its line, and no line is of one that stayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.clock import event_id, event_id_floor
from db.errors import MigrationFailed, TenantNotProvisioned, Unavailable
from db.months import following, is_over
from db.namespace import TenantPrefix
from db.postgres.citus import citus_version, completion, detachment
from db.postgres.owner import Source, connect, hold, is_lost, reason, table_exists
from db.postgres.partitions import Partition, partitions
from db.postgres.rows import parameters
from db.records import Purge
from db.tables import purge_log

# How long a statement of ours waits for others before it is left for the next run.
_PATIENCE = timedelta(seconds=2)
# A clock that is further ahead of the database's is wrong, and what it calls old may be young.
_MOST_AHEAD = timedelta(days=1)
_IDS_AT_ONCE = 20_000
_FIRST_ID = UUID(int=0)


async def purge(
    source: Source, tenant: TenantPrefix, before: datetime, now: datetime
) -> tuple[Purge, ...]:
    """Takes away the months that lie wholly before `before`, oldest first; what was taken.

    Another purge of the tenant is waited for, a reader of the trail for a moment. Raises
    MigrationFailed when that was not enough, or when `now` cannot be; TenantNotProvisioned and
    Unavailable.
    """
    async with _reported(tenant), _turn(source, tenant), connect(source) as connection:
        async with connection.begin():
            if not await table_exists(connection, tenant.table("audit_events")):
                raise TenantNotProvisioned(f"the tenant {tenant} was never provisioned")
            await _refuse_the_future(connection, tenant, now)
            citus = await citus_version(connection) is not None
        run = _Run(connection, tenant, before, now, citus)
        # While one is half out, no other can be detached.
        for partition in await run.standing():
            if partition.pending:
                await run.complete(partition)
        await run.take_detached()
        for partition in await run.standing():
            if partition.attached and run.concerns(partition):
                await run.detach(partition)
                await run.take_detached()
        if run.left:
            raise MigrationFailed(f"{tenant} keeps what is no month by its name: {run.left}")
        return tuple(run.taken)


@dataclass(slots=True)
class _Run:
    connection: AsyncConnection
    tenant: TenantPrefix
    before: datetime
    now: datetime
    citus: bool
    taken: list[Purge] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)

    @property
    def left(self) -> str:
        return ", ".join(sorted(self.strange))

    async def standing(self) -> Sequence[Partition]:
        async with self.connection.begin():
            return await partitions(self.connection, self.tenant)

    def concerns(self, partition: Partition) -> bool:
        """Whether all of it is old. What is old and is not the month that its name says was not
        made here: it is told of, and stays."""
        if partition.month is not None:
            return is_over(partition.month, self.before)
        if partition.upper is not None and partition.upper <= self.before:
            self.strange.add(partition.name)
        return False

    async def complete(self, partition: Partition) -> None:
        async with self._briefly():
            await self.connection.execute(text(completion(self._parent, partition.name)))

    async def detach(self, partition: Partition) -> None:
        statement = detachment(self._parent, partition.name, citus=self.citus)
        if self.citus:
            async with self._briefly():
                await self.connection.execute(text(statement))
            return
        # No transaction may be around it, so no setting can be local to it, and one of the session
        # would stay behind in a pooler's connection: whoever waits too long takes it back instead.
        # As one simple message it is whole on whatever connection a pooler gives it.
        driver = (await self.connection.get_raw_connection()).driver_connection
        assert isinstance(driver, asyncpg.Connection)
        try:
            await driver.execute(statement, timeout=_PATIENCE.total_seconds())
        except TimeoutError:
            raise MigrationFailed(
                f"{self.tenant} was not purged: {partition.name} is being read"
            ) from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if driver.is_closed():
                raise Unavailable("the connection to the database was lost") from None
            raise MigrationFailed(f"{self.tenant} was not purged: {reason(error)}") from None

    async def take_detached(self) -> None:
        for partition in await self.standing():
            if not partition.attached and self.concerns(partition) and partition.month:
                await self._take(partition.name, partition.month)

    async def _take(self, name: str, month: datetime) -> None:
        async with self._briefly():
            await self.connection.execute(text(f'LOCK TABLE "{name}" IN ACCESS EXCLUSIVE MODE'))
            events, digest, last = await self._contents(name)
            if last >= event_id_floor(following(month)):
                self.strange.add(name)
                return
            purge = Purge(
                purge_id=event_id(self.now),
                tenant=str(self.tenant),
                partition=name,
                lower=month if await self._has_earlier(month) else None,
                upper=following(month),
                before=self.before,
                events=events,
                digest=digest,
                purged_at=self.now,
            )
            await self.connection.execute(insert(purge_log).values(parameters(purge)))
            await self.connection.execute(text(f'DROP TABLE "{name}"'))
        self.taken.append(purge)

    async def _contents(self, name: str) -> tuple[int, str, UUID]:
        """How many events, the digest of their ids, and the last of these. The database strings
        the ids together, some of them at a time; here they are only hashed."""
        some = text(
            "SELECT string_agg(uuid_send(event_id), CAST('' AS bytea) ORDER BY event_id), count(*)"
            f' FROM (SELECT event_id FROM "{name}" WHERE event_id >= :first'
            " ORDER BY event_id LIMIT :most) AS ids"
        )
        events, digest, last = 0, hashlib.sha256(), _FIRST_ID
        first = _FIRST_ID
        while True:
            found = await self.connection.execute(some, {"first": first, "most": _IDS_AT_ONCE})
            ids, count = found.one()
            if not count:
                return events, digest.hexdigest(), last
            digest.update(ids)
            events += count
            last = UUID(bytes=ids[-16:])
            first = UUID(int=last.int + 1)

    async def _has_earlier(self, month: datetime) -> bool:
        """Whether there is, or was, a month before it: the first has no lower end."""
        if any(
            each.upper is not None and each.upper <= month
            for each in await partitions(self.connection, self.tenant)
        ):
            return True
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
    except DBAPIError as error:
        raise MigrationFailed(f"{tenant} was not purged: {reason(error)}") from None


async def _refuse_the_future(
    connection: AsyncConnection, tenant: TenantPrefix, now: datetime
) -> None:
    there = await connection.scalar(text("SELECT clock_timestamp()"))
    assert isinstance(there, datetime)
    if now - there > _MOST_AHEAD:
        raise MigrationFailed(
            f"{tenant} was not purged: this process is {(now - there).days} days ahead of the"
            " database, and would take events for older than they are"
        )
