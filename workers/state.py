"""What a job is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

from db.contract import Storage
from db.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class State:
    settings: StorageSettings
    storage: Storage


@dataclass(frozen=True, slots=True)
class Report:
    """How many things were looked at, changed, and failed; `failures` names the failed ones."""

    seen: int = 0
    changed: int = 0
    failures: tuple[str, ...] = ()
