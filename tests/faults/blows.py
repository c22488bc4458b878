"""What befalls the stores: each blow is one thing that happens to machines, from its beginning
until it is mended. Between two of them the cache is warm again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import redis

from tests.faults.aside import Aside
from tests.faults.ledger import Ledger
from tests.faults.wires import Wire
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey

_FILLER = b"x" * 20_000
_FILLERS = 1000
_LAGGING = 3  # cuts that the replica knows nothing of
_PATIENCE = 100  # seconds: never reached


class Blows:
    """`wires` lead to the cache, the last one from the worker. By name in `all`."""

    def __init__(
        self,
        folder: Path,
        aside: Aside,
        valkey: Valkey,
        postgres: Postgres | None,
        wires: list[Wire],
        ledger: Ledger,
        random: Random,
    ) -> None:
        self._folder = folder
        self._aside = aside
        self._valkey = valkey
        self._postgres = postgres
        self._wires = wires
        self._ledger = ledger
        self._random = random
        self._replicas: list[Valkey] = []
        blows = [
            self.flushed,
            self.killed,
            self.stale_dump,
            self.stalled,
            self.full,
            self.evicting,
            self.failed_over,
            self.one_cut_off,
            self.one_hangs,
        ]
        if postgres is not None:
            blows += [self.postgres_restarted, self.postgres_crashed]
        self.all: dict[str, Callable[[], None]] = {blow.__name__: blow for blow in blows}

    def strike(self, name: str) -> None:
        with self._ledger.outage(name):
            self.all[name]()

    def close(self) -> None:
        for replica in self._replicas:
            replica.stop()

    def flushed(self) -> None:
        with self._connected() as connection:
            connection.flushall()
        self._moment(0.3, 1.0)

    def killed(self) -> None:
        """And empty when it is back."""
        self._valkey.kill()
        self._moment(0.3, 1.0)
        self._valkey.start()
        self._moment(0.2, 0.5)

    def stale_dump(self) -> None:
        """It comes back with what it held some cuts ago, its marker included."""
        with self._connected() as connection:
            connection.save()
        self._until_acknowledged(_LAGGING)
        self._valkey.kill()
        self._valkey.start()
        (self._valkey.home / "dump.rdb").unlink()
        self._moment(0.3, 0.8)

    def stalled(self) -> None:
        """Connected, and silent."""
        process = self._valkey.process
        process.send_signal(signal.SIGSTOP)
        try:
            self._moment(1.2, 4.8)
        finally:
            process.send_signal(signal.SIGCONT)
        self._moment(0.2, 0.5)

    def full(self) -> None:
        """It takes nothing more, and answers all the same."""
        with self._connected() as connection:
            connection.config_set("maxmemory", 1)
            self._moment(0.6, 1.2)
            connection.config_set("maxmemory", 0)

    def evicting(self) -> None:
        """Somebody has told it to forget what it has no room for."""
        with self._connected() as connection:
            used = int(connection.info("memory")["used_memory"])
            connection.config_set("maxmemory-policy", "allkeys-lru")
            connection.config_set("maxmemory", used + _FILLERS // 4 * len(_FILLER))
            for number in range(_FILLERS):
                # It may be short of room for its own sake, and then takes nothing either.
                with suppress(redis.exceptions.OutOfMemoryError):
                    connection.set(f"filler:{number}", _FILLER, ex=60)
            assert int(connection.info("stats")["evicted_keys"]) > _FILLERS // 4
            self._moment(0.5, 1.0)
            connection.config_set("maxmemory", 0)
            connection.config_set("maxmemory-policy", "noeviction")
            # What is left has lost some, and is believed again only when all is there again.
            self._moment(0.2, 0.5)

    def failed_over(self) -> None:
        """To a replica that has not heard the last of it."""
        home = self._folder / f"valkey-{len(self._replicas)}"
        link = Wire(self._aside, socket_of(self._valkey))
        replica = Valkey(home, options={"repl-diskless-sync-delay": "0"})
        replica.start()
        self._replicas.append(replica)
        with redis.Redis.from_url(replica.url()) as connection:
            connection.replicaof("127.0.0.1", str(link.port))
            self._until(lambda: connection.info("replication")["master_link_status"] == "up")
            link.hang()
            self._until_acknowledged(_LAGGING)
            self._valkey.kill()
            link.close()
            connection.replicaof("NO", "ONE")
        for wire in self._wires:
            wire.lead_to(socket_of(replica))
        self._valkey = replica
        self._moment(0.3, 0.8)

    def one_cut_off(self) -> None:
        """The others, and the cache, see nothing of it."""
        wire = self._one()
        wire.cut()
        self._moment(0.8, 1.6)
        wire.mend()
        self._moment(0.2, 0.5)

    def one_hangs(self) -> None:
        """As before, but without a word: and what it had said arrives late."""
        wire = self._one()
        wire.hang()
        self._moment(1.2, 2.4)
        wire.mend()
        self._moment(0.2, 0.5)

    def postgres_restarted(self) -> None:
        assert self._postgres is not None
        self._postgres.stop()
        self._moment(0.3, 0.8)
        self._postgres.start()

    def postgres_crashed(self) -> None:
        assert self._postgres is not None
        self._postgres.kill()
        self._moment(0.1, 0.5)
        self._postgres.start()

    def _one(self) -> Wire:
        *gateways, _ = self._wires
        return self._random.choice(gateways)

    def _connected(self) -> redis.Redis:
        return redis.Redis.from_url(self._valkey.url())

    def _until_acknowledged(self, more: int) -> None:
        wanted = self._ledger.acknowledged.total() + more
        self._until(lambda: self._ledger.acknowledged.total() >= wanted)

    def _until(self, happens: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not happens():
            assert time.monotonic() < deadline, f"waited in vain, at {self._ledger.on}"
            time.sleep(0.05)

    def _moment(self, least: float, most: float) -> None:
        """For the others to do what they do meanwhile."""
        time.sleep(self._random.uniform(least, most))


def socket_of(valkey: Valkey) -> Path:
    return Path(urlsplit(valkey.url()).path)
