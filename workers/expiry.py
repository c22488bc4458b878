"""Credentials whose end has come are shown as ended."""

from __future__ import annotations

from datetime import datetime

from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    raise NotImplementedError
