"""The list: every job, when it runs, and why there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from workers import partitions
from workers.state import Report, State


@dataclass(frozen=True, slots=True)
class Job:
    """Runs when a worker starts and then daily at `hour`:`minute` UTC, on one worker at a time."""

    name: str
    run: Callable[[State, datetime], Awaitable[Report]]
    hour: int
    minute: int
    timeout_seconds: int
    reason: str


JOBS = (
    Job(
        name="ensure_audit_partitions",
        run=partitions.run,
        hour=2,
        minute=17,
        timeout_seconds=600,
        reason="an event whose month has no partition cannot be written, so months come early",
    ),
)
