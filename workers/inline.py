"""Rows are run inside the process that rings for them: for one that is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from db.clock import Clock
from db.contract import Storage
from db.errors import AgentIdPError
from db.log import log_fault
from db.revocations import RevocationCache
from db.settings import StorageSettings
from db.work import LEASE
from workers.crew import Crew
from workers.outage import Outage
from workers.reconcile import SECONDS, reconcile
from workers.run import Runner, worker_name

_GRACE = 4  # seconds


class InlineQueue:
    """Runs each row that is rung for at once, in a task of its own. `pause` is how it waits until
    it looks for others that are due."""

    def __init__(
        self,
        settings: StorageSettings,
        storage: Storage,
        cache: RevocationCache,
        clock: Clock,
        *,
        lease: timedelta = LEASE,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._pause = pause
        runner = Runner(settings, storage, cache, self, clock, worker_name(), lease=lease)
        self._crew = Crew(runner)
        self._hearing: set[asyncio.Task[bool]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="reconcile")

    async def ring(self, *keys: str) -> None:
        for key in keys:
            task = asyncio.create_task(self._crew.take(key), name=f"ring:{key}")
            self._hearing.add(task)
            task.add_done_callback(self._hearing.discard)

    async def close(self) -> None:
        """What runs has a moment to end, and is put back then."""
        waiting = [*self._hearing, *([self._looking] if self._looking else [])]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._crew.close(_GRACE)

    async def _look(self) -> None:
        outage = Outage("storage")
        starting = True
        while True:
            try:
                await reconcile(self._storage, self, self._clock(), starting=starting)
            except AgentIdPError as error:
                outage.met(error.message)
            except Exception as fault:
                # The process serves on, and so must this.
                log_fault(fault)
            else:
                outage.over()
                starting = False
            await self._pause(SECONDS)
