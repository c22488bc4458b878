"""The revocation cache is filled with all that is live, and then marked as complete.

`db.warmth` says what the mark means and why each step here comes where it does.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from workers.filling import Filling
from workers.state import Report, State

_OVERLAP = timedelta(seconds=60)


async def run(state: State, now: datetime) -> Report:
    """`changed` counts the keys of both passes. Where a tenant could not be read there is no mark.
    Raises Unavailable and Misconfigured for the cache, and there is none either."""
    warmth = state.cache.warmth
    if warmth is None:
        return Report()
    opening = await warmth.claim()
    now = opening.no_later(now)
    filled = await Filling(state, warmth, opening, now).everything(None)
    if filled.failures:
        return filled
    again_from = await warmth.hold(opening)
    again = await Filling(state, warmth, opening, now).everything(now - _OVERLAP)
    if not again.failures:
        await warmth.complete(opening, again_from)
    return Report(again.seen, filled.changed + again.changed, again.failures)
