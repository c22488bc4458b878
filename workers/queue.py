"""The public door: whoever has queued a row rings here, and a worker looks at it sooner.

Over Redis where there is one, for worker processes to hear (`bell`). A process that is alone runs
the same jobs, from the same list, inside itself (`inline`). What either needs is loaded when it is
opened: a process in memory never loads arq.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from db.clock import Clock
from db.contract import Storage
from db.revocations import RevocationCache
from db.settings import MEMORY, StorageSettings
from db.work import Doorbell, JobName


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A line of the list, for the operator to read."""

    name: JobName
    schedule: str | None
    of_tenant: bool
    reason: str


class Queue(Doorbell, Protocol):
    async def start(self) -> None:
        """From here on rows are looked at, wherever their worker is."""
        ...

    async def close(self) -> None: ...


def open_queue(
    settings: StorageSettings, storage: Storage, cache: RevocationCache, clock: Clock
) -> Queue:
    """Over Redis where there is one, else inside this process. Does not connect yet. Raises
    Misconfigured."""
    if settings.redis_url != MEMORY:
        from workers.bell import ArqQueue

        return ArqQueue(settings.redis_url, clock)
    from workers.inline import InlineQueue

    return InlineQueue(settings, storage, cache, clock)


def catalogue() -> Sequence[JobInfo]:
    """Every job, in the order of the list."""
    from workers.jobs import JOBS

    return [
        JobInfo(
            name=job.name,
            schedule=str(job.schedule) if job.schedule else None,
            of_tenant=job.of_tenant,
            reason=job.reason,
        )
        for job in JOBS.values()
    ]
