"""The warm-up of the revocation cache against the most that its server can be fed.

`python -m bench.warmup`: a million live revocations in PostgreSQL, the job as the worker runs it,
and the same keys as a ready stream of commands pumped through one socket, which is what
`redis-cli --pipe` does. Bar: at least half as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from bench.grounds import Bar, Grounds, grounds, judge, median, table
from db.backends import open_storage
from db.cache import RedisRevocations
from db.clock import system_clock
from db.contract import Storage
from db.cuts import LEAST_ID, CutKind
from db.migrations import migrate
from db.records import Tenant, TenantStatus
from db.work import JobName, new_work
from tests.servers.databases import run
from workers import warming
from workers.state import State

_SLUG = "acme"
_STRETCH = 100_000
_REPLY = len(b"+OK\r\n")


@dataclass(frozen=True, slots=True)
class Run:
    """`cpu` is of the client alone, in µs for each key."""

    keys: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.keys / self.seconds


class _Silent:
    async def ring(self, *keys: str) -> None:
        return None


async def _furnish(ground: Grounds, storage: Storage, keys: int) -> Tenant:
    now = system_clock()
    await migrate(ground.settings, now=now)
    tenant = Tenant(_SLUG, "Acme", TenantStatus.ACTIVE, now, now)
    async with storage.registry_unit() as unit:
        await unit.tenants.add(tenant)
    await storage.upkeep.provision(tenant.prefix, now)
    await asyncio.to_thread(run, ground.database.owner_url, lambda c: _revoke(c, keys))
    await asyncio.to_thread(run, ground.database.owner_url, _settle)
    return tenant


async def _revoke(connection: AsyncConnection, keys: int) -> None:
    await connection.exec_driver_sql(
        f"INSERT INTO {_SLUG}_token_revocations (jti, expires_at, revoked_at)"
        " SELECT gen_random_uuid(), now() + interval '1 day' + n * interval '1 millisecond',"
        f" now() - interval '1 hour' FROM generate_series(1, {keys}) n"
    )


async def _settle(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql(f"ANALYZE {_SLUG}_token_revocations")


async def _stream(storage: Storage, tenant: Tenant) -> list[bytes]:
    """Every key as `SET key 1 EXAT second`, in the protocol's own form."""
    reader, prefix = storage.read(tenant.prefix).revocations, tenant.prefix.revoked_prefix
    now, after, pieces = system_clock(), LEAST_ID, []
    while found := await reader.cuts(CutKind.TOKEN, now, None, after, _STRETCH):
        after = found.last
        head = f"*5\r\n$3\r\nSET\r\n${len(prefix) + 36}\r\n{prefix}"
        tail = "\r\n$1\r\n1\r\n$4\r\nEXAT\r\n$10\r\n"
        lines = [f"{head}{each[:36]}{tail}{each[36:]}\r\n" for each in found.split(1)]
        pieces.append("".join(lines).encode())
    return pieces


def _pump(address: str, stream: list[bytes], keys: int) -> Run:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)

        def drain() -> None:
            left = keys * _REPLY
            while left > 0:
                left -= len(connection.recv(1 << 20))

        draining = threading.Thread(target=drain)
        began, cpu = time.perf_counter(), time.process_time()
        draining.start()
        for piece in stream:
            connection.sendall(piece)
        draining.join()
        return _ended(keys, began, cpu)


async def _warm_up(ground: Grounds, storage: Storage, cache: RedisRevocations) -> Run:
    now = system_clock()
    work = new_work(JobName.WARM_REVOCATIONS, now, after=now)
    state = State(ground.settings, storage, cache, _Silent(), work, lambda done, total: None)
    began, cpu = time.perf_counter(), time.process_time()
    report = await warming.run(state, now)
    ran = _ended(report.changed, began, cpu)
    if not (await cache.read([])).warm:
        raise RuntimeError(f"the cache is not warm: {report}")
    return ran


def _ended(keys: int, began: float, cpu: float) -> Run:
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    return Run(keys, seconds, spent / keys * 1e6)


async def _measure(ground: Grounds, keys: int, rounds: int) -> tuple[list[Run], list[Run]]:
    assert ground.redis_url is not None
    storage = await open_storage(ground.settings)
    cache = RedisRevocations(ground.redis_url)
    ours, limit = [], []
    try:
        tenant = await _furnish(ground, storage, keys)
        stream = await _stream(storage, tenant)
        async with Redis.from_url(ground.redis_url) as redis:
            for _ in range(rounds):
                await redis.flushall()
                limit.append(_pump(urlsplit(ground.redis_url).path, stream, keys))
                await redis.flushall()
                ours.append(await _warm_up(ground, storage, cache))
    finally:
        await cache.close()
        await storage.close()
    return ours, limit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.warmup", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with grounds(valkey=True) as ground:
        ours, limit = asyncio.run(_measure(ground, asked.keys, asked.rounds))
    table(
        ("", "keys/s", "seconds", "client CPU µs/key"),
        [
            (name, round(each.rate), each.seconds, each.cpu)
            for name, runs in (("limit: ready commands", limit), ("warm-up", ours))
            for each in runs
        ],
    )
    ratio = median([each.rate for each in ours]) / median([each.rate for each in limit])
    return judge(Bar("warm-up against the limit", ratio, 0.5, "×", at_least=True))


if __name__ == "__main__":
    sys.exit(main())
