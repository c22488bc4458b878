"""`python -m bench.provisioning`: a new tenant's tables by our own path, beside the same tables by
plain DDL, one script in one transaction on an open connection.

The plain script holds everything that stands in the end, in the words of our own path: the tables,
indexes, triggers, months and grants; not the locks, the look at what is there before and after, nor
the lines of the log. Both take turns in one run on one database, and what is compared is the middle
of each. Ours is what a worker calls; beside it stand the first call of a process, which pays for
its connection and for a server process that knows nothing yet, and several at once in one process.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import secrets
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from bench.grounds import Bar, Grounds, grounds, judge, median, table
from db import migrations
from db.backends import open_storage
from db.clock import system_clock
from db.namespace import TenantPrefix
from db.postgres.chains import Chain
from db.postgres.driver import driver_of
from db.postgres.owner import connect
from db.postgres.partitions import missing_months
from db.postgres.roles import corrections
from db.postgres.standing import find_ground
from db.postgres.template import stamped

_NOUNS = ("agents", "credentials", "audit_events", "token_revocations")
_AT_ONCE = 4
_LIMIT = 1.5


@dataclass
class _Times:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    async def take(self, act: Awaitable[object]) -> None:
        wall, cpu = perf_counter(), _cpu()
        await act
        self.wall.append((perf_counter() - wall) * 1000)
        self.cpu.append((_cpu() - cpu) * 1000)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def plain_script(ground: Grounds, tenant: TenantPrefix, now: datetime) -> str:
    """Everything that stands in the end, as one text. It is made before the clock runs."""
    chain = Chain(tenant)
    statements = [await stamped(chain, revision) for revision in chain.revisions]
    months = dict(missing_months(tenant, None, now))
    statements += [";".join(made) for made in months.values()]
    async with connect(ground.settings) as connection:
        role = (await find_ground(await driver_of(connection), ground.database.app_role)).role
    assert role is not None, "it was made with the database"
    tables = [*map(tenant.table, _NOUNS), tenant.version_table]
    statements += corrections(tenant, dict.fromkeys(tables, frozenset()), role)
    return ";\n".join(["BEGIN", *statements, "COMMIT"])


@dataclass
class Found:
    plain: _Times = field(default_factory=_Times)
    ours: _Times = field(default_factory=_Times)
    alone: _Times = field(default_factory=_Times)
    at_once: float = 0.0


async def compare(ground: Grounds, rounds: int) -> Found:
    now = system_clock()
    await migrations.migrate(ground.settings, now=now)
    found = Found()
    storage = await open_storage(ground.settings)
    async with connect(ground.settings) as connection:
        driver = await driver_of(connection)

        async def plain() -> None:
            script = await plain_script(ground, _tenant(), now)
            await found.plain.take(driver.execute(script))

        async def ours() -> None:
            await found.ours.take(storage.upkeep.provision(_tenant(), now))

        for number in range(rounds):
            # Whoever goes second finds the other's pages warm.
            for turn in (plain, ours) if number % 2 else (ours, plain):
                await turn()
            if number % 4 == 0:
                await found.alone.take(migrations.provision(ground.settings, _tenant(), now))
    left = [_tenant() for _ in range(rounds)]

    async def work() -> None:
        while left:
            await storage.upkeep.provision(left.pop(), now)

    started = perf_counter()
    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    found.at_once = (perf_counter() - started) * 1000 / rounds
    await storage.close()
    return found


def _tenant() -> TenantPrefix:
    return TenantPrefix(f"bench_{secrets.token_hex(5)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.provisioning")
    parser.add_argument("--rounds", type=int, default=60, help="tenants by each path")
    rounds = parser.parse_args().rounds
    with grounds() as ground:
        found = asyncio.run(compare(ground, rounds))
    plain, ours, alone = found.plain, found.ours, found.alone
    table(
        ("per tenant", "ms", "fastest", "client CPU ms"),
        [
            ("plain DDL, one script", median(plain.wall), min(plain.wall), median(plain.cpu)),
            ("provision", median(ours.wall), min(ours.wall), median(ours.cpu)),
            ("provision, new connection", median(alone.wall), min(alone.wall), median(alone.cpu)),
            (f"provision, {_AT_ONCE} at once", found.at_once, "", ""),
        ],
    )
    ratio = median(ours.wall) / median(plain.wall)
    return judge(Bar("provisioning / plain DDL", ratio, _LIMIT, "×"))


if __name__ == "__main__":
    sys.exit(main())
