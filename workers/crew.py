"""The rows that this process runs just now, each in a task of its own.

A task outlives whoever rang for its row: the bell may be lost while the job goes on, and what came
of it is told to storage alone.
"""

from __future__ import annotations

import asyncio

import structlog

from db.errors import AgentIdPError
from db.log import log_fault
from workers.jobs import of_tenant
from workers.run import Runner

# Jobs of tenants run so many at a time: more only wait for each other in the database. Those that
# have one row for all need no place, so a row of tenants that takes an hour keeps none of them.
PLACES = 4

_PATIENCE = 6  # seconds for putting rows back: without that they wait for their lease to end

_log = structlog.get_logger(__name__)


class Crew:
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._places = asyncio.Semaphore(PLACES)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[str] = set()
        self._closing = False

    async def take(self, key: str, patience: float | None = None) -> bool:
        """Begins to run the row, unless this process runs it already. One of a tenant may have to
        wait for a place, once: False when there was none for `patience` seconds."""
        placed = of_tenant(key) and key not in self._running
        if placed:
            if key in self._waiting:
                # It is rung for as long as it is due: each bell would wait for hours otherwise.
                return True
            self._waiting.add(key)
            try:
                async with asyncio.timeout(patience):
                    await self._places.acquire()
            except TimeoutError:
                return False
            finally:
                self._waiting.remove(key)
        if self._closing or key in self._running:
            if placed:
                self._places.release()
            return not self._closing
        self._running[key] = asyncio.create_task(self._run(key, placed), name=f"work:{key}")
        return True

    async def close(self, grace: float) -> None:
        """Takes nothing more, and waits for what runs: after `grace` seconds it is put back."""
        self._closing = True
        if not self._running:
            return
        _, late = await asyncio.wait(self._running.values(), timeout=grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_PATIENCE)

    async def _run(self, key: str, placed: bool) -> None:
        try:
            await self._runner.run(key)
        except AgentIdPError as error:
            _log.warning("job cut off", work=key, reason=error.message)
        except Exception as fault:
            log_fault(fault)
        finally:
            del self._running[key]
            if placed:
                self._places.release()
