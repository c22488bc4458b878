"""A tenant comes to be: its tables, its first administrator, and only then `active`."""

from __future__ import annotations

from datetime import datetime

from db.registry import RegistryUnit
from db.work import Work
from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    raise NotImplementedError


async def gave_up(unit: RegistryUnit, work: Work, error: str, now: datetime) -> None:
    raise NotImplementedError
