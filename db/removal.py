"""What is known of a tenant's removal, as it waits beside the row that will do it.

Sealed there, because nobody but the two who need it should rely on it: whoever calls the removal
off, and the worker that takes it up again after another has died at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from db.errors import Misconfigured
from db.records import JSONObject, TenantStatus


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A complete export: its name, the SHA-256 of its bytes, and how many lines of each type it
    has."""

    name: str
    sha256: str
    rows: Mapping[str, int]

    def to_json(self) -> JSONObject:
        found: JSONObject = msgspec.to_builtins(self)
        return found


@dataclass(frozen=True, slots=True)
class Removal:
    """`was` is the tenant's status before, `due` when its time of grace is over. Once there is an
    `export`, its tables may be gone."""

    requested_at: datetime
    was: TenantStatus
    export: ExportFile | None = None
    due: datetime | None = None

    @property
    def was_served(self) -> bool:
        """Whether the tenant can be brought back: one that was never finished cannot."""
        return self.was in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)

    def to_json(self) -> JSONObject:
        found: JSONObject = msgspec.to_builtins(self)
        return found

    @classmethod
    def from_json(cls, sealed: JSONObject | None) -> Removal:
        """Raises Misconfigured for nothing at all, and for what another program has laid there."""
        try:
            return msgspec.convert(sealed, cls)
        except msgspec.ValidationError:
            raise Misconfigured(
                "what was noted of the tenant's removal cannot be read: another version queued it"
            ) from None
