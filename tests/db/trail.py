"""A tenant whose trail has been kept for a while, and what is done with it behind our back.

Its months are long gone, so that no purge of them is ahead of the machine's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from db import migrations
from db.clock import event_id, instant_of
from db.namespace import TenantPrefix
from db.postgres import purging
from db.records import Purge
from db.settings import StorageSettings
from tests.contract.cast import ACME
from tests.db.catalog import rows, session
from tests.db.scene import register, settings
from tests.servers.databases import Database

FIRST = datetime(2023, 11, 20, 12, 0, tzinfo=UTC)
NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
MONTHS = ("y2023m11", "y2023m12", "y2024m01", "y2024m02", "y2024m03", "y2024m04", "y2024m05")
PARENT = "acme_audit_events"


def month(year: int, number: int) -> datetime:
    return datetime(year, number, 1, tzinfo=UTC)


def named(*months: str, tenant: TenantPrefix = ACME) -> tuple[str, ...]:
    return tuple(tenant.table(f"audit_events_{each}") for each in months)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """As PostgreSQL's own, with a connection for each call that is closed behind it."""

    source: StorageSettings

    async def provision(self, tenant: TenantPrefix, now: datetime) -> str:
        return await migrations.provision(self.source, tenant, now)

    async def ensure_months(self, tenant: TenantPrefix, now: datetime) -> Sequence[str]:
        return await migrations.ensure_partitions(self.source, tenant, now)

    async def purge(self, tenant: TenantPrefix, before: datetime, now: datetime) -> Sequence[Purge]:
        return await purging.purge(self.source, tenant, before, now)


def upkeep(database: Database) -> Upkeep:
    return Upkeep(settings(database))


async def keep_trail(database: Database, tenant: TenantPrefix = ACME) -> None:
    """From November 2023 on, as daily runs until March 2024 would have left it."""
    await migrations.migrate(settings(database), now=FIRST)
    await register(database, str(tenant))
    await migrations.provision(settings(database), tenant, FIRST)
    await upkeep(database).ensure_months(tenant, NOW)


async def append(
    database: Database, *instants: datetime, tenant: TenantPrefix = ACME
) -> list[UUID]:
    """As the application; the events' ids."""
    ids = [event_id(instant) for instant in instants]
    async with session(database.app_url) as connection:
        for each, instant in zip(ids, instants, strict=True):
            await connection.exec_driver_sql(
                f'INSERT INTO "{tenant}_audit_events" (event_id, agent_id, action, outcome,'
                " ip_address, user_agent, timestamp) VALUES"
                f" ('{each}', '{each}', 'custom', 'success', '::1', '-', '{instant.isoformat()}')"
            )
    return ids


async def events(database: Database, tenant: TenantPrefix = ACME) -> list[UUID]:
    """What a reader of the trail finds."""
    found = await rows(
        database.app_url, f'SELECT event_id FROM "{tenant}_audit_events" ORDER BY event_id'
    )
    return [UUID(str(each)) for (each,) in found]


async def partitions(database: Database, tenant: TenantPrefix = ACME) -> tuple[str, ...]:
    found = await rows(
        database.owner_url,
        "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
        f" WHERE inhparent = '{tenant}_audit_events'::regclass ORDER BY 1",
    )
    return tuple(str(name) for (name,) in found)


async def standing(database: Database, tenant: TenantPrefix = ACME) -> tuple[str, ...]:
    """Every table that bears the name of a month, attached or not."""
    found = await rows(
        database.owner_url,
        f"SELECT relname FROM pg_class WHERE relname ~ '^{tenant}_audit_events_y[0-9]+m[0-9]+$'"
        " AND relkind = 'r' ORDER BY 1",
    )
    return tuple(str(name) for (name,) in found)


async def lines(database: Database) -> list[tuple[object, ...]]:
    """What `purge_log` says went, oldest first, and how many events it held."""
    return await rows(
        database.owner_url,
        "SELECT tenant, partition, events FROM purge_log ORDER BY tenant, partition",
    )


async def pending(database: Database) -> list[tuple[object, ...]]:
    return await rows(
        database.owner_url,
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending",
    )


def digest(ids: Sequence[UUID]) -> str:
    """As `db.digests` says, made another way; what has no month of ours is of the first day."""
    days: dict[str, list[bytes]] = {}
    for each in sorted(ids):
        days.setdefault(max(f"{instant_of(each):%F}", f"{FIRST:%Y-%m}-01"), []).append(each.bytes)
    return sha256(b"".join(sha256(b"".join(day)).digest() for day in days.values())).hexdigest()


@asynccontextmanager
async def reading(
    database: Database, tenant: TenantPrefix = ACME
) -> AsyncIterator[AsyncConnection]:
    """A report that somebody runs over the whole trail, and does not end."""
    async with session(database.app_url) as connection:
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            await transactional.exec_driver_sql(f'SELECT count(*) FROM "{tenant}_audit_events"')
            yield transactional


@asynccontextmanager
async def locking(database: Database, table: str, mode: str) -> AsyncIterator[None]:
    """Somebody changes the table, and takes their time."""
    async with session(database.owner_url) as connection:
        transactional = await connection.execution_options(isolation_level="READ COMMITTED")
        async with transactional.begin():
            await transactional.exec_driver_sql(f'LOCK TABLE "{table}" IN {mode} MODE')
            yield


async def seen_running(database: Database, words: str) -> int:
    """The process of the server that runs a statement with `words` in it, once there is one."""
    async with session(database.owner_url) as connection, asyncio.timeout(30):
        while True:
            found = await connection.exec_driver_sql(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                f" AND state = 'active' AND query LIKE '%%{words}%%' AND pid <> pg_backend_pid()"
            )
            if (pid := found.scalar()) is not None:
                return int(pid)
