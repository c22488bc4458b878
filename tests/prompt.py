"""A queue that does at once what it is rung for, in the task that rings, by the program's own list.

What a test has asked for is so when the answer is there, and nothing happens that it did not ask
for. `held` keeps back what is rung for, to show how things are before it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from db.clock import Clock
from db.contract import Storage
from db.revocations import RevocationCache
from db.settings import StorageSettings
from db.work import Work, WorkState
from workers.run import Runner


class PromptQueue:
    """`workers.queue.Queue`; `waiting` is what it was rung for and has kept back."""

    def __init__(
        self, settings: StorageSettings, storage: Storage, cache: RevocationCache, clock: Clock
    ) -> None:
        self.waiting: list[str] = []
        self._storage = storage
        self._clock = clock
        self._holding = False
        self._running = False
        self._runner = Runner(
            settings=settings,
            storage=storage,
            cache=cache,
            doorbell=self,
            clock=clock,
            name="the suite",
        )

    async def start(self) -> None:
        self._running = True

    async def close(self) -> None:
        self._running = False

    async def ring(self, *keys: str) -> None:
        assert self._running, "rung while there is nobody to hear it"
        self.waiting += keys
        if not self._holding:
            await self.run()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block nothing is run unless `run` says so."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    async def run(self) -> None:
        """Does what is waiting, each to its end: one that fails is tried until it is given up."""
        while self.waiting:
            await self._to_its_end(self.waiting.pop(0))

    async def _to_its_end(self, key: str) -> None:
        runner = self._runner
        while (work := await runner.run(key)) is not None and _tried_again(work):
            # The test's clock stands still, so the wait between two attempts is left out.
            runner = replace(self._runner, clock=_at(work.run_after))


def _tried_again(work: Work) -> bool:
    return work.state is WorkState.QUEUED and work.attempts > 0


def _at(instant: datetime) -> Clock:
    return lambda: instant
