"""A month of a million events taken away: the job of this program against one DELETE.

Each round fills two months of one tenant alike and takes one away by the job, the other by a DELETE
of the same rows, for which the guard of the trail is taken off. Before that both are as a month is
that was written a quarter of a year ago: vacuumed, on the disk, and in nobody's cache. The job also
counts the events and makes the digest of their ids; the DELETE leaves all of its space to a VACUUM,
which is shown and not held against it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter

import asyncpg
import structlog
from sqlalchemy import make_url

from bench.grounds import Bar, Grounds, grounds, judge, median, table
from db.backends import open_storage
from db.clock import event_id_floor
from db.contract import Storage
from db.migrations import migrate
from db.months import following
from db.namespace import TenantPrefix
from db.records import Tenant, TenantStatus
from db.work import JobName
from tests.workers.harness import perform

_EVENTS = 1_000_000
_ROUNDS = 3
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)
_TRAIL = "acme_audit_events"
# Room for the WAL of the DELETE, which would otherwise be stopped by checkpoints; and nothing of
# the server's own housekeeping in between.
_OPTIONS = {"max_wal_size": "4GB", "checkpoint_timeout": "1h", "autovacuum": "off"}

# As the gateway writes it: a token issued to one of a thousand agents, over four weeks.
_FILL = f"""
    INSERT INTO {_TRAIL} (event_id, agent_id, action, outcome, ip_address, user_agent, metadata,
        timestamp)
    SELECT CAST(lpad(to_hex(millisecond), 12, '0') || '7' || substr(noise, 1, 3) || '8'
            || substr(noise, 4, 15) AS uuid),
        CAST(agent AS uuid), 'token.issued', 'success', '203.0.113.' || number % 250,
        'python-httpx/0.28.1',
        jsonb_build_object('jti', CAST(noise AS uuid), 'credentialId', CAST(agent AS uuid),
            'scope', 'agents:read audit:read', 'expiresAt', to_timestamp(millisecond / 1000.0)),
        to_timestamp(millisecond / 1000.0)
    FROM (SELECT number, $1::bigint + number * 2400 AS millisecond,
            md5(CAST(number AS text)) AS noise, md5(CAST(number % 1000 AS text)) AS agent
        FROM generate_series(1, $2::bigint) AS number) AS drawn
"""


@dataclass(frozen=True, slots=True)
class Cost:
    seconds: float
    wal: int


async def bench(ground: Grounds) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    await migrate(ground.settings, now=_FIRST)
    storage = await open_storage(ground.settings)
    name = make_url(ground.database.owner_url).database
    url = make_url(ground.superuser_url).set(database=name)
    server = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await _onboard(storage)
        await server.execute("CREATE EXTENSION pg_buffercache")
        months = [_FIRST]
        while len(months) < 2 * _ROUNDS:
            months.append(following(months[-1]))
        rounds = [
            await _round(ground, storage, server, mine, peers)
            for mine, peers in zip(months[:_ROUNDS], months[_ROUNDS:], strict=True)
        ]
    finally:
        await server.close()
        await storage.close()
    return _judge(*map(list, zip(*rounds, strict=True)))


async def _round(
    ground: Grounds, storage: Storage, server: asyncpg.Connection, mine: datetime, peers: datetime
) -> tuple[Cost, Cost, Cost]:
    """Of the job, of the DELETE, and of the VACUUM that it needs."""
    for month in (mine, peers):
        await _fill(server, month)
    await _forget(server, mine)
    job = await _cost(server, _purge(ground, storage, mine))
    await _unguard(server, peers)
    await _forget(server, peers)
    delete = await _cost(server, _delete(server, peers))
    return job, delete, await _cost(server, _vacuum(server, peers))


def _judge(ours: list[Cost], theirs: list[Cost], after: list[Cost]) -> int:
    table(
        (f"{_EVENTS:,} events, median of {_ROUNDS}", "seconds", "WAL bytes"),
        [
            (name, median([each.seconds for each in costs]), int(median([c.wal for c in costs])))
            for name, costs in (
                ("purge job", ours),
                ("one DELETE", theirs),
                ("VACUUM after it", after),
            )
        ],
    )
    faster = median([b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)])
    wal = median([100 * a.wal / b.wal for a, b in zip(ours, theirs, strict=True)])
    return judge(
        Bar("purge is faster than DELETE", faster, 5, "×", at_least=True),
        Bar("purge writes of the WAL of DELETE", wal, 1, " %"),
    )


async def _onboard(storage: Storage) -> None:
    tenant = Tenant("acme", "Acme", TenantStatus.ACTIVE, _FIRST, _FIRST)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(tenant)
    await storage.upkeep.provision(tenant.prefix, _FIRST)
    await storage.upkeep.ensure_months(tenant.prefix, _FIRST + timedelta(days=200))


async def _fill(server: asyncpg.Connection, month: datetime) -> None:
    await server.execute(_FILL, int(month.timestamp() * 1000), _EVENTS)
    await server.execute(f"VACUUM (ANALYZE) {_partition(month)}")


async def _forget(server: asyncpg.Connection, month: datetime) -> None:
    """Out of the server's memory, and out of the system's."""
    await server.execute("CHECKPOINT")
    files = await server.fetch(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath(oid) AS path,"
        " pg_buffercache_evict_relation(oid) FROM pg_class WHERE oid = $1::text::regclass"
        " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = $1::text::regclass)",
        _partition(month),
    )
    for each in files:
        descriptor = os.open(each["path"], os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


async def _purge(ground: Grounds, storage: Storage, month: datetime) -> None:
    retention = timedelta(days=ground.settings.audit_retention_days)
    now = following(month) + retention
    done = await perform(storage, ground.settings, JobName.PURGE_AUDIT_EVENTS, now)
    assert done.report == {"seen": 1, "changed": 1, "failures": {}}, done.report


async def _unguard(server: asyncpg.Connection, month: datetime) -> None:
    for name in (_TRAIL, _partition(month)):
        await server.execute(f"ALTER TABLE {name} DISABLE TRIGGER {_TRAIL}_append_only")


async def _delete(server: asyncpg.Connection, month: datetime) -> None:
    lower, upper = event_id_floor(month), event_id_floor(following(month))
    tag = await server.execute(
        f"DELETE FROM {_TRAIL} WHERE event_id >= '{lower}' AND event_id < '{upper}'"
    )
    assert tag == f"DELETE {_EVENTS}", tag


async def _vacuum(server: asyncpg.Connection, month: datetime) -> None:
    await server.execute(f"VACUUM {_partition(month)}")


async def _cost(server: asyncpg.Connection, act: Awaitable[None]) -> Cost:
    before = await server.fetchval("SELECT pg_current_wal_insert_lsn()")
    started = perf_counter()
    await act
    seconds = perf_counter() - started
    wal = await server.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
    return Cost(seconds, int(wal))


def _partition(month: datetime) -> str:
    return TenantPrefix("acme").audit_partition(month)


if __name__ == "__main__":
    with grounds(options=_OPTIONS) as ground:
        sys.exit(asyncio.run(bench(ground)))
