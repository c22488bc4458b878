"""The storage contract, continued: what is done to the tables themselves, by their owner's role.

Workers and the command line call this, a request never does. Everything here may be repeated, and
be cut off at any point and repeated: what was done stays done, and the rest is done then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias

from db.namespace import TenantPrefix
from db.records import Purge


class Change(StrEnum):
    APPLIED = "applied"
    SKIPPED = "skipped"
    REVERTED = "reverted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one revision of one subject: a tenant's slug, or `registry`."""

    subject: str
    revision: str
    change: Change
    error: str | None = None


Report: TypeAlias = Callable[[Outcome], None]
Advance: TypeAlias = Callable[[int, int], None]
"""How far a long task is: how many are done, of how many."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of a migration; `seen` counts the subjects, the registry among them. `left` are the slugs of
    those that were not begun, because too much had failed before them."""

    outcomes: tuple[Outcome, ...]
    seen: int = 0
    left: tuple[str, ...] = ()

    @property
    def changed(self) -> int:
        """How many revisions were applied, or taken back."""
        return sum(each.change in (Change.APPLIED, Change.REVERTED) for each in self.outcomes)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(each for each in self.outcomes if each.change is Change.FAILED)


class Upkeep(Protocol):
    async def provision(self, tenant: TenantPrefix, now: datetime) -> str:
        """Makes the tenant's tables, or brings them to head, with the months of the trail that
        `now` asks for. Returns the revision they are at; leaves the registry row alone. Raises
        MigrationFailed, with nothing made."""
        ...

    async def migrate(self, now: datetime, advance: Advance) -> Summary:
        """Brings the registry to head, then every tenant whose tables stand or are to stand. A
        tenant that fails is reported and the others are done. Raises MigrationFailed when the
        registry fails."""
        ...

    async def ensure_months(self, tenant: TenantPrefix, now: datetime) -> Sequence[str]:
        """Makes the months of the tenant's trail that are missing up to two after that of `now`;
        the names of the new ones. Raises MigrationFailed when the table is busy for one."""
        ...

    async def purge(self, tenant: TenantPrefix, before: datetime, now: datetime) -> Sequence[Purge]:
        """Takes away the months of the trail that lie wholly before `before`; what was taken, each
        with its line in the registry's `purges`. Raises MigrationFailed when the table is busy for
        one: what is not taken yet can still be read, or is taken next time."""
        ...

    async def sweep_revocations(self, tenant: TenantPrefix, before: datetime) -> int:
        """Forgets the revocations of tokens that ended before `before`; how many they were. Raises
        MigrationFailed when the table is busy for one, or when `before` has not come yet by the
        store's own clock."""
        ...

    async def drop(self, tenant: TenantPrefix, due: datetime | None = None) -> None:
        """Takes away the tenant's tables with all that is in them; the registry row stays. Raises
        MigrationFailed, with nothing taken, also when `due` has not come yet by the store's own
        clock."""
        ...

    async def kind(self) -> str:
        """What stores it: `memory`, `PostgreSQL 18.1`, `PostgreSQL 15.6 with Citus 13.0`."""
        ...
