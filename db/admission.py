"""What a tenant begins with, as it waits beside the row that will make its tables.

It is decided when the tenant is onboarded, and cannot be stored before the tables stand. Until then
it is JSON, sealed: it holds the hash of a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec

from db.errors import Misconfigured
from db.records import JSON, Agent, AuditEvent, Credential, JSONObject

R = TypeVar("R", Agent, AuditEvent, Credential)

# JSON already, so nothing is to be made of it.
_AS_IT_IS = frozenset({"permissions", "metadata", "public_key"})
_SHAPES: dict[type[object], dict[str, Any]] = {
    kind: get_type_hints(kind) for kind in (Agent, AuditEvent, Credential)
}


@dataclass(frozen=True, slots=True)
class Admission:
    """The first administrator, its credential, and the lines of the trail that say so."""

    administrator: Agent
    credential: Credential
    events: tuple[AuditEvent, ...]

    def to_json(self) -> JSONObject:
        found: JSONObject = msgspec.json.decode(msgspec.json.encode(self))
        return found

    @classmethod
    def from_json(cls, sealed: JSONObject) -> Admission:
        """Raises Misconfigured for what another program has laid there."""
        try:
            events = sealed["events"]
            return cls(
                administrator=_record(Agent, sealed["administrator"]),
                credential=_record(Credential, sealed["credential"]),
                events=tuple(_record(AuditEvent, each) for each in msgspec.convert(events, list)),
            )
        except (KeyError, TypeError, msgspec.ValidationError):
            # Without the reason, which could quote what is sealed.
            raise Misconfigured(
                "the tenant's administrator cannot be read: it was queued by another version"
            ) from None


def _record(kind: type[R], said: JSON) -> R:
    shapes = _SHAPES[kind]
    return kind(
        **{
            name: value if name in _AS_IT_IS else msgspec.convert(value, shapes[name])
            for name, value in msgspec.convert(said, dict[str, Any]).items()
        }
    )
