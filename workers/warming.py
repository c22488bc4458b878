"""The revocation cache is filled with all that is live, and then marked as complete."""

from __future__ import annotations

from datetime import datetime

from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    raise NotImplementedError
