"""Revocations of tokens that have ended, and idempotency keys that are over, are forgotten."""

from __future__ import annotations

from datetime import datetime

from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    raise NotImplementedError
