"""Worker processes that are killed, and a Valkey that is emptied and restarted, at random."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

from redis.asyncio import Redis

from tests.servers.process import end, launch
from tests.servers.valkey import Valkey

_ROOT = Path(__file__).parents[2]


class Chaos:
    """Keeps `size` workers going, and does to them and to Valkey what machines do. `done` counts
    it; the same seed does the same things, though not at the same instants."""

    def __init__(
        self, folder: Path, valkey: Valkey, environment: dict[str, str], *, size: int, seed: int
    ) -> None:
        self.done: Counter[str] = Counter()
        self._folder = folder
        self._valkey = valkey
        self._environment = environment
        self._random = Random(seed)
        self._size = size
        self._workers: list[subprocess.Popen[bytes]] = []
        self._began = 0

    def begin(self) -> None:
        while len(self._workers) < self._size:
            self._start()

    def end(self) -> None:
        for worker in self._workers:
            end(worker, signal.SIGTERM)
        self._workers.clear()

    def log(self) -> str:
        """What every worker said, from the first to the last."""
        return "".join(
            path.read_text(errors="replace") for path in sorted(self._folder.glob("worker-*.log"))
        )

    async def strike(self) -> None:
        """One thing, and then a moment."""
        what = self._random.choice((self._kill, self._kill, self._flush, self._restart))
        await what()
        self.done[what.__name__.removeprefix("_")] += 1
        await asyncio.sleep(self._random.uniform(0.1, 1.2))

    async def _kill(self) -> None:
        victim = self._workers.pop(self._random.randrange(len(self._workers)))
        end(victim, signal.SIGKILL)
        self._start()

    async def _flush(self) -> None:
        async with Redis.from_url(self._valkey.url()) as client:
            await client.flushall()

    async def _restart(self) -> None:
        self._valkey.kill()
        await asyncio.sleep(self._random.uniform(0, 0.5))
        self._valkey.start()

    def _start(self) -> None:
        self._began += 1
        with (self._folder / f"worker-{self._began:03d}.log").open("wb") as output:
            self._workers.append(
                launch(
                    [sys.executable, "-m", "tests.faults.worker"],
                    output=output,
                    environment=self._environment,
                    folder=_ROOT,
                )
            )
