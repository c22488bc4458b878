"""Gateways, a worker, the crowd and the blows, put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sqlalchemy.ext.asyncio import AsyncConnection

from tests.faults.aside import Aside
from tests.faults.blows import Blows, socket_of
from tests.faults.client import Gateways
from tests.faults.crowd import Crowd, makers_of_every_kind
from tests.faults.cuts import Cutting
from tests.faults.fleet import REAL, Program, fleet
from tests.faults.ledger import Ledger, Token, Verdict
from tests.faults.wires import Wire
from tests.gateway import OPERATOR_TOKEN
from tests.journeys.served import Served
from tests.servers.databases import Database, run
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey

_WARM_WITHIN = 100  # seconds
_STEP = 0.05  # seconds
_RUN_JOB = "mutation($job: JobName!) { runJob(input: {job: $job}) { __typename } }"


@dataclass(slots=True)
class Torture:
    ledger: Ledger
    blows: Blows
    served: list[Served]
    _random: Random
    _aside: Aside
    _crowd: Crowd
    _running: Future[None]

    def round(self) -> None:
        """Every blow once, in an order that the seed decides."""
        names = list(self.blows.all)
        self._random.shuffle(names)
        for name in names:
            self.strike(name)

    def strike(self, name: str) -> None:
        """While the cache is believed, if it can be."""
        self.until_warm()
        self.goes_on()
        self.blows.strike(name)

    def until_acknowledged(self, count: int) -> None:
        while self.ledger.acknowledged.total() < count:
            self.goes_on()
            time.sleep(_STEP)

    def without_revocations(self, owner_url: str) -> list[Verdict]:
        """What the gateways say of a good token while nobody can read what was revoked."""
        self.until_warm()

        async def locked(connection: AsyncConnection) -> list[Verdict]:
            await connection.exec_driver_sql("BEGIN")
            await connection.exec_driver_sql(
                "LOCK TABLE acme_token_revocations IN ACCESS EXCLUSIVE MODE"
            )
            asked = self._aside.begin(self._crowd.let_in_everywhere())
            return await asyncio.wrap_future(asked)

        return run(owner_url, locked)

    def until_warm(self) -> None:
        """The worker would see by itself, some seconds later, that it has to fill the cache."""
        deadline = time.monotonic() + _WARM_WITHIN
        while not all(seen == "warm" for seen in self._seen()):
            assert time.monotonic() < deadline, f"still cold after {self.ledger.on}"
            self.goes_on()
            _run(self.served, "WARM_REVOCATIONS")
            time.sleep(0.2)

    def goes_on(self) -> None:
        """Raises what went wrong with the crowd, if anything did."""
        if self._running.done():
            self._running.result()

    def settle(self) -> None:
        """Until every cut is acknowledged and all is warm; then everybody is asked for all of
        them."""
        self._aside.do(self._crowd.settle())
        self.until_warm()
        self._aside.do(self._crowd.sweep())
        self._aside.do(self._crowd.end())
        self._running.result(_WARM_WITHIN)

    def _seen(self) -> list[str]:
        return _readiness(self.served)


@contextmanager
def tortured(
    folder: Path,
    database: Database,
    *,
    seed: int,
    gateways: int,
    postgres: Postgres | None = None,
    program: Program = REAL,
) -> Iterator[Torture]:
    """A fleet that is up, and a crowd at work on it. `postgres` is the server of `database` where
    it may be restarted."""
    random, ledger = Random(seed), Ledger()
    with ExitStack() as stack:
        room = stack.enter_context(temporary_place())
        aside = stack.enter_context(Aside())
        # Whoever follows it is told at once what there is.
        valkey = Valkey(room / "valkey", options={"repl-diskless-sync-delay": "0"})
        stack.callback(valkey.stop)
        valkey.start()
        wires = [Wire(aside, socket_of(valkey)) for _ in range(gateways + 1)]
        for wire in wires:
            stack.callback(wire.close)
        served = stack.enter_context(
            fleet(folder, database, [wire.port for wire in wires], program)
        )
        everybody = aside.do(_gateways(served, ledger, random))
        stack.callback(lambda: aside.do(everybody.close()))
        crowd = _crowd(aside, served, everybody, random)
        blows = Blows(room, aside, valkey, postgres, wires, ledger, random)
        stack.callback(blows.close)
        running = aside.begin(crowd.run())
        stack.callback(running.cancel)
        yield Torture(ledger, blows, served, random, aside, crowd, running)


async def _gateways(served: list[Served], ledger: Ledger, random: Random) -> Gateways:
    return Gateways([each.url for each in served], ledger, random)


def _crowd(
    aside: Aside,
    served: list[Served],
    gateways: Gateways,
    random: Random,
) -> Crowd:
    """With everything that it needs before anything fails."""
    first, *_ = served
    admin = first.onboard()
    keeper = first.token(admin)
    others = [first.onboard(f"tenant{number}") for number in range(2)]
    good = [Token(keeper, admin.slug, keeper), Token(first.token(admin), admin.slug, keeper)]
    cutting = Cutting(gateways, admin, keeper)
    makers = aside.do(makers_of_every_kind(cutting, others))
    return Crowd(gateways, random, good, makers)


def _run(served: list[Served], job: str) -> None:
    """Out of its turn; where that is refused, it is on its way."""
    served[0].graphql(_RUN_JOB, {"job": job}, OPERATOR_TOKEN)


def _readiness(served: list[Served]) -> list[str]:
    return [each.http.get("/health/ready").json()["revocations"] for each in served]
