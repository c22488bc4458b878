"""Records by the names of their fields: all of them, or some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar


class _Fields(Protocol):
    """Any of the dataclasses in `db.records`, and those of `db.work`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound=_Fields)


def partial(kind: type[Record], names: Iterable[str], values: Iterable[object]) -> Record:
    """A record that holds `names` alone."""
    record = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(record, name, value)
    return record


def field_names(kind: type[Record]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))
