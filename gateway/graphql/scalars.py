"""The scalars: what is accepted, and the one form that is shown.

What a caller sent is never repeated in an error: people paste secrets into the wrong box.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import strawberry
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from db import grammar
from db.errors import InvalidInput

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


class Malformed(ValueError):
    """What a scalar's text should have been; never what it was."""


def canonical_uuid(text: str) -> UUID | None:
    """The id that is written in the one form of RFC 9562; UUID() would take many others."""
    return UUID(text) if _CANONICAL_UUID.fullmatch(text) else None


def _parse_uuid(value: object) -> UUID:
    identifier = canonical_uuid(value) if isinstance(value, str) else None
    if identifier is None:
        raise Malformed("a UUID is 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12")
    return identifier


def _parse_instant(value: object) -> datetime:
    try:
        if not isinstance(value, str) or not _INSTANT.fullmatch(value):
            raise ValueError
        return grammar.instant(datetime.fromisoformat(value.upper()), "")
    except (ValueError, InvalidInput):
        raise Malformed(
            "a DateTime is an instant of RFC 3339 with its offset, such as 2026-01-31T12:00:00Z"
        ) from None


def _show_instant(instant: datetime) -> str:
    """Always in UTC and to the microsecond, so that the text sorts as the instants do."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _as_it_is(value: object) -> object:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    UUID: strawberry.scalar(
        name="UUID",
        description="An id in its canonical form: 32 hexadecimal digits and four hyphens.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc9562",
        serialize=str,
        parse_value=_parse_uuid,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description=(
            "An instant. Given with its offset from UTC; shown in UTC, to the microsecond, as in "
            "`2026-01-31T12:00:00.000000Z`."
        ),
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_show_instant,
        parse_value=_parse_instant,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_as_it_is,
        parse_value=_as_it_is,
    ),
}
