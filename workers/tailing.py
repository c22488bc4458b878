"""What was cut in the last minutes is put into the cache again, and its lease is renewed.

The crash of a gateway between commit and publication is repaired by this, within seconds and at
the latest when the lease is over; and a cache without its mark is noticed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from db.work import JobName, WorkState, new_work, requeued, work_key
from workers.filling import Filling
from workers.state import Report, State

_BACK = timedelta(seconds=120)
_WARM_UP = work_key(JobName.WARM_REVOCATIONS)


async def run(state: State, now: datetime) -> Report:
    """`changed` counts the keys. Where a tenant could not be read the lease is left to end. Raises
    Unavailable and Misconfigured for the cache."""
    warmth = state.cache.warmth
    if warmth is None:
        return Report()
    opening = await warmth.look()
    instant = opening.no_later(now)
    report = await Filling(state, warmth, opening, instant).recent(instant - _BACK)
    if not report.failures and not await warmth.renew(opening):
        await _ask_for_warm_up(state, now)
    return report


async def _ask_for_warm_up(state: State, now: datetime) -> None:
    async with state.storage.registry_unit() as unit:
        work = await unit.work.get(_WARM_UP)
        if work is None:
            await unit.work.add(new_work(JobName.WARM_REVOCATIONS, now, after=now))
        elif work.state not in (WorkState.QUEUED, WorkState.RUNNING):
            # One that waits after a failure keeps its delay.
            await unit.work.save(requeued(work, now))
    await state.doorbell.ring(_WARM_UP)
