"""Months of the trail that are older than their tenant's retention are taken away."""

from __future__ import annotations

from datetime import datetime

from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    raise NotImplementedError
