"""While a job runs, its claim is renewed and its progress is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import structlog

from db.clock import Clock
from db.contract import Storage
from db.errors import AgentIdPError
from db.records import JSONObject
from db.work import Work, renewed
from workers.state import hold

TICK = timedelta(seconds=2)
"""How far behind the progress that others read may be."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """What the job said last."""

    said: JSONObject | None = None

    def advance(self, done: int, total: int) -> None:
        self.said = {"done": done, "total": total}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`pause` is how it waits from one look at the clock to the next."""

    storage: Storage
    clock: Clock
    pause: Callable[[float], Awaitable[None]]
    lease: timedelta

    async def beat(self, claim: Work, progress: Progress) -> NoReturn:
        """Renews the claim each third of its lease, sooner when there is progress to tell. Raises
        LeaseLost. A store that is away does not stop the job, which may do without it: whatever
        is changed for its row is guarded by the claim."""
        interval = self.lease / 3
        told: JSONObject | None = None
        due = self.clock() + interval
        while True:
            await self.pause(min(interval, TICK).total_seconds())
            now, said = self.clock(), progress.said
            if now < due and said == told:
                continue
            try:
                async with self.storage.registry_unit() as unit:
                    held = await hold(unit, claim)
                    await unit.work.save(renewed(held, now, said, self.lease))
            except AgentIdPError as error:
                _log.warning("no heartbeat", work=claim.key, reason=error.message)
            else:
                told, due = said, now + interval
