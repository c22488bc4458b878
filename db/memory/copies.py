"""What is stored is nobody else's: JSON values are copied on the way in and on the way out.

Records are frozen, but a dict inside one is not, and a trail that its reader can rewrite is no
trail. On the way in a value also takes the form that it would have in a JSONB column, so that both
backends give back the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from db.contract import Wanted
from db.fields import Record, field_names, partial
from db.records import (
    JSON,
    Agent,
    AuditEvent,
    Credential,
    IdempotencyKey,
    OperatorEvent,
    Tenant,
)
from db.work import Work

Holder = TypeVar(
    "Holder", Agent, Credential, AuditEvent, OperatorEvent, Tenant, Work, IdempotencyKey
)

_HELD = {
    Agent: ("permissions", "metadata"),
    Credential: ("public_key",),
    AuditEvent: ("metadata",),
    OperatorEvent: ("metadata",),
    Tenant: ("limits",),
    Work: ("progress", "report"),
    IdempotencyKey: ("result",),
}


def stored_value(value: JSON) -> JSON:
    """As `stored`, for a value that is in no record."""
    return _normal(value)


def fresh_value(value: JSON) -> JSON:
    return _copied(value)


def stored(record: Holder) -> Holder:
    return _with_values(record, _normal)


def fresh(record: Holder) -> Holder:
    return _with_values(record, _copied)


def showing(
    kind: type[Record], wanted: Wanted, always: Iterable[str]
) -> Callable[[Record], Record] | None:
    """How to cut a record down to the `wanted` fields; None when it is to be whole."""
    if wanted is None:
        return None
    names = tuple(set(always).union(wanted))
    if unknown := set(names).difference(field_names(kind)):
        raise AttributeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return cut(kind, names)


def cut(kind: type[Record], names: Sequence[str]) -> Callable[[Record], Record]:
    """How to make a record that holds `names` alone."""

    def cut_down(record: Record) -> Record:
        return partial(kind, names, (_copied(getattr(record, name)) for name in names))

    return cut_down


def _with_values(record: Holder, change: Callable[[JSON], JSON]) -> Holder:
    values: dict[str, Any] = {
        name: change(value)
        for name in _HELD[type(record)]
        if (value := getattr(record, name)) is not None
    }
    return replace(record, **values) if values else record


def _copied(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _copied(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value


def _normal(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _normal(value[name]) for name in sorted(value, key=_jsonb_order)}
    if isinstance(value, list):
        return [_normal(each) for each in value]
    # PostgreSQL's numbers have no negative zero.
    return value + 0.0 if isinstance(value, float) else value


def _jsonb_order(name: str) -> tuple[int, bytes]:
    encoded = name.encode()
    return (len(encoded), encoded)
