"""Events that stand by themselves: the trail of this program against one transaction for each.

Writers append one event after the other, each waiting until its own is on the disk; what they say
is that a token was issued. The peers are a unit of work for each event, through the same storage,
and the same rows one by one on a pool of the driver's, without anything of ours in between: that is
as fast as one transaction per event can be from here, and the one that the bar is held against.
Rounds follow each other peer by peer, so that a slow minute of the machine is everybody's, and the
events of each are made before its clock starts.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter, process_time
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import structlog

from bench.grounds import Bar, Grounds, grounds, judge, median, table
from db.backends import open_storage
from db.clock import event_id, system_clock
from db.contract import Storage
from db.migrations import migrate
from db.namespace import TenantPrefix
from db.postgres.audit import NAMES, row_of
from db.records import AuditAction, AuditEvent, AuditOutcome, Tenant, TenantStatus

_TENANTS = 50
_WRITERS = 64
_ROUNDS = 3
_EVENTS = 40_000
_CONNECTIONS = 15  # as many as the storage's own pool may have

Append: TypeAlias = Callable[[TenantPrefix, AuditEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Way:
    """To write `events` in a round."""

    name: str
    append: Append
    events: int


@dataclass(frozen=True, slots=True)
class Run:
    """`rate` is in events a second, `micros` the client's processor time for each, `p50` and `p99`
    are in milliseconds."""

    rate: float
    micros: float
    p50: float
    p99: float


async def bench(ground: Grounds, events: int) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    now = system_clock()
    await migrate(ground.settings, now=now)
    storage = await open_storage(ground.settings)
    pool = await asyncpg.create_pool(
        ground.settings.database_url, min_size=_CONNECTIONS, max_size=_CONNECTIONS
    )
    try:
        tenants = [await _onboard(storage, f"team{number}", now) for number in range(_TENANTS)]
        ways = [
            Way("the trail", storage.trail.append, events),
            Way("unit for each event", _by_unit(storage), events // 20),
            Way("driver alone, one by one", _by_driver(pool), events // 8),
        ]
        faster = {count: await _compare(ways, tenants[:count]) for count in (1, _TENANTS)}
    finally:
        await pool.close()
        await storage.close()
    return judge(
        Bar("trail against the driver one by one, one tenant", faster[1], 7, "×", at_least=True),
        Bar(f"the same, {_TENANTS} tenants", faster[_TENANTS], 1.4, "×", at_least=True),
    )


async def _compare(ways: list[Way], tenants: list[TenantPrefix]) -> float:
    """How many times the rate of the last way the first has."""
    for way in ways:
        await _load(way, tenants)
    rounds = [[await _load(way, tenants) for way in ways] for _ in range(_ROUNDS)]
    lines: list[Sequence[object]] = []
    for way, *runs in zip(ways, *rounds, strict=True):
        times = median([ours.rate / run.rate for (ours, *_), run in zip(rounds, runs, strict=True)])
        lines.append(
            (
                way.name,
                int(median([run.rate for run in runs])),
                median([run.micros for run in runs]),
                median([run.p50 for run in runs]),
                median([run.p99 for run in runs]),
                f"{times:.1f} ×",
            )
        )
    heading = f"{len(tenants)} tenants, {_WRITERS} writers"
    table((heading, "events/s", "CPU µs", "p50 ms", "p99 ms", "trail is"), lines)
    print()
    return median([ours.rate / theirs.rate for ours, *_, theirs in rounds])


async def _load(way: Way, tenants: list[TenantPrefix]) -> Run:
    took: list[float] = []
    events = [(tenants[number % len(tenants)], _event()) for number in range(way.events)]
    left = iter(events)

    async def write() -> None:
        for tenant, event in left:
            started = perf_counter()
            await way.append(tenant, event)
            took.append(perf_counter() - started)

    # The garbage collector is not to walk through what the load consists of.
    gc.collect()
    gc.freeze()
    started, spent = perf_counter(), process_time()
    await asyncio.gather(*(write() for _ in range(_WRITERS)))
    lasted, spent = perf_counter() - started, process_time() - spent
    gc.unfreeze()
    took.sort()
    count = len(took)
    return Run(
        count / lasted, 1e6 * spent / count, 1e3 * took[count // 2], 1e3 * took[count * 99 // 100]
    )


def _event() -> AuditEvent:
    now = system_clock()
    return AuditEvent(
        event_id=event_id(now),
        agent_id=uuid4(),
        action=AuditAction.TOKEN_ISSUED,
        outcome=AuditOutcome.SUCCESS,
        ip_address="203.0.113.7",
        user_agent="python-httpx/0.28.1",
        metadata={
            "jti": str(uuid4()),
            "credentialId": str(uuid4()),
            "scope": "agents:read audit:read",
            "expiresAt": now.isoformat(),
        },
        timestamp=now,
    )


def _by_unit(storage: Storage) -> Append:
    async def append(tenant: TenantPrefix, event: AuditEvent) -> None:
        async with storage.unit(tenant) as unit:
            await unit.audit.append(event)

    return append


def _by_driver(pool: asyncpg.Pool) -> Append:
    values = ", ".join(f"${number}" for number in range(1, len(NAMES) + 1))

    async def append(tenant: TenantPrefix, event: AuditEvent) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f'INSERT INTO "{tenant}_audit_events" ({", ".join(NAMES)}) VALUES ({values})'
                " ON CONFLICT DO NOTHING",
                *row_of(event),
            )

    return append


async def _onboard(storage: Storage, slug: str, now: datetime) -> TenantPrefix:
    tenant = Tenant(slug, slug, TenantStatus.ACTIVE, now, now)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(tenant)
    await storage.upkeep.provision(tenant.prefix, now)
    return tenant.prefix


if __name__ == "__main__":
    events = int(sys.argv[1]) if sys.argv[1:] else _EVENTS
    with grounds() as ground:
        sys.exit(asyncio.run(bench(ground, events)))
