"""What a job is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from db.contract import Storage
from db.records import JSONObject
from db.registry import RegistryUnit
from db.revocations import RevocationCache
from db.settings import StorageSettings
from db.upkeep import Advance
from db.work import Doorbell, Work

_LONGEST_ERROR = 500  # characters


class LeaseLost(Exception):
    """Another worker has claimed the row meanwhile: nothing more is to be changed for it."""


async def hold(unit: RegistryUnit, claim: Work) -> Work:
    """The row that was claimed, held until the unit ends. Raises LeaseLost."""
    held = await unit.work.get(claim.key)
    if held is None or not held.held_by(claim):
        raise LeaseLost(claim.key)
    return held


@dataclass(frozen=True, slots=True)
class State:
    """`work` is the row as it was claimed, `advance` tells how far the run is."""

    settings: StorageSettings
    storage: Storage
    cache: RevocationCache
    doorbell: Doorbell
    work: Work
    advance: Advance

    @property
    def tenant(self) -> str:
        """Of a job for one tenant: its slug."""
        assert self.work.tenant is not None, f"{self.work.job} is a job for one tenant"
        return self.work.tenant

    async def hold(self, unit: RegistryUnit) -> None:
        """Keeps the claim until the unit ends: what it changes is changed by the last worker that
        claimed the row, or by none. Raises LeaseLost."""
        await hold(unit, self.work)


@dataclass(frozen=True, slots=True)
class Report:
    """How many things were looked at and changed; what could not be done, by name, with why."""

    seen: int = 0
    changed: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """What could not be done, by name, in one line; None when everything was."""
        if not self.failures:
            return None
        count = len(self.failures)
        of = f" of {self.seen}" if self.seen >= count else ""
        each = ", ".join(f"{name} ({reason})" for name, reason in self.failures.items())
        return shortened(f"{count}{of} failed: {each}")

    def to_json(self) -> JSONObject:
        return {"seen": self.seen, "changed": self.changed, "failures": {**self.failures}}


def shortened(text: str) -> str:
    """As much of it as a line can hold."""
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"
