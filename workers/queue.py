"""The public door: whoever has queued a row rings here, and a worker looks at it sooner.

`ArqQueue` rings over Redis for worker processes. `InlineQueue` is for a process that is alone: the
same jobs, from the same list, run inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from db.clock import Clock
from db.contract import Storage
from db.revocations import RevocationCache
from db.settings import StorageSettings
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
    """Over Redis where there is one, else inside this process. Does not connect yet."""
    raise NotImplementedError


def catalogue() -> Sequence[JobInfo]:
    """Every job, in the order of the list."""
    raise NotImplementedError
