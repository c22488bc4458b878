"""What may be said of a noun: every value's grammar, checked before either backend sees it.

Each function returns the value as it will be kept or raises InvalidInput that names `path`.
PostgreSQL cannot hold NUL or half a surrogate pair; refusing them here keeps both backends equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from db.errors import InvalidInput
from db.namespace import prefix_problem
from db.records import JSON

# The scopes of the gateway itself; an agent may hold them as capabilities.
GATEWAY_RESOURCES = ("agents", "credentials", "tokens", "audit")
GATEWAY_CAPABILITIES = frozenset(f"{r}:{a}" for r in GATEWAY_RESOURCES for a in ("read", "write"))
# The operator's own, which no tenant can ever hold.
OPERATOR_RESOURCES = frozenset({"tenants", "jobs"})

MAX_CAPABILITIES = 256
MAX_LIST = 256
MAX_RESOURCE_SERVERS = 64
MAX_JSON_BYTES = 16_384
MAX_JSON_DEPTH = 16
# Beyond these a number does not survive every JSON reader (RFC 7493 §2.2).
_MAX_NUMBER = 2**53 - 1

_CAPABILITY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}:[a-z0-9][a-z0-9_.-]{0,62}")
# The grammar of semver.org 2.0.0.
_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
# RFC 5321 §4.1.2 without quoted local parts and address literals: what people call an address.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})+)")
# RFC 3986 §4.3 `absolute-URI`, which has no fragment; a path, a query or an authority follows the
# scheme. Without userinfo: what names a server holds nobody's password.
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_HOST = r"(?:\[[0-9A-Fa-f:.]{2,}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
_ABSOLUTE_URI = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*:"
    rf"(?://{_HOST}(?::[0-9]*)?(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*)"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?"
)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def text(value: str, path: str, *, most: int, least: int = 0) -> str:
    """Any text that PostgreSQL can hold, of `least` to `most` characters."""
    if _UNSTORABLE.search(value):
        raise InvalidInput("the text holds a NUL or an unpaired surrogate", (path,))
    if not least <= len(value) <= most:
        wanted = f"{least} to {most}" if least else f"at most {most}"
        raise InvalidInput(f"the text must have {wanted} characters", (path,))
    return value


def instant(value: datetime, path: str) -> datetime:
    """An instant that names its offset, in UTC."""
    if value.utcoffset() is None:
        raise InvalidInput("an instant must name its offset from UTC", (path,))
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput("the instant lies outside the years 1 to 9999 of UTC", (path,)) from None


def email(value: str, path: str = "email") -> str:
    """An address by its syntax alone; kept as written, compared as written."""
    match = _EMAIL.fullmatch(value) if len(value) <= 255 else None
    if match is None or len(match["local"]) > 64:
        raise InvalidInput("this is not an email address of at most 255 characters", (path,))
    return value


def version(value: str, path: str = "version") -> str:
    if len(value) > 64 or not _SEMVER.fullmatch(value):
        raise InvalidInput("this is not a semantic version (semver 2.0.0), such as 1.4.0", (path,))
    return value


def owner(value: str, path: str = "owner") -> str:
    if not value.strip():
        raise InvalidInput("the owner must not be blank", (path,))
    return text(value, path, most=128, least=1)


def capabilities(values: Sequence[str], path: str = "capabilities") -> tuple[str, ...]:
    """At least one `resource:action`, without repetition, in the order given."""
    if not 1 <= len(values) <= MAX_CAPABILITIES:
        raise InvalidInput(f"an agent has 1 to {MAX_CAPABILITIES} capabilities", (path,))
    for value in values:
        if not _CAPABILITY.fullmatch(value):
            raise InvalidInput("a capability is resource:action, such as agents:read", (path,))
        if value.partition(":")[0] in OPERATOR_RESOURCES:
            raise InvalidInput("tenants:* and jobs:* are the operator's alone", (path,))
    return tuple(dict.fromkeys(values))


def is_capability(value: str) -> bool:
    return _CAPABILITY.fullmatch(value) is not None


def words(values: Sequence[str], path: str) -> tuple[str, ...]:
    """A list of names, such as channels or tools."""
    if len(values) > MAX_LIST:
        raise InvalidInput(f"the list may hold at most {MAX_LIST} values", (path,))
    return tuple(text(value, path, most=128, least=1) for value in values)


def resource_servers(values: Sequence[str], path: str = "resourceServers") -> tuple[str, ...]:
    """Absolute URIs in the order given, each once; they are compared as they are written."""
    if len(values) > MAX_RESOURCE_SERVERS:
        raise InvalidInput(f"a tenant has at most {MAX_RESOURCE_SERVERS} resource servers", (path,))
    for value in values:
        if len(value) > 512 or not _ABSOLUTE_URI.fullmatch(value):
            raise InvalidInput(
                "a resource server is an absolute URI of at most 512 characters, without user and"
                " fragment, such as https://api.example.com/",
                (path,),
            )
    if len(set(values)) != len(values):
        raise InvalidInput("a resource server is there more than once", (path,))
    return tuple(values)


def slug(value: str, path: str = "slug") -> str:
    if problem := prefix_problem(value):
        raise InvalidInput(problem, (path,))
    return value


def json(value: JSON, path: str) -> JSON:
    """A JSON value that reads back as it was written: bounded, finite, and interoperable."""
    _check(value, path, MAX_JSON_DEPTH)
    if len(msgspec.json.encode(value)) > MAX_JSON_BYTES:
        raise InvalidInput(f"the value may have at most {MAX_JSON_BYTES} bytes as JSON", (path,))
    return value


def _check(value: JSON, path: str, depth: int) -> None:
    if depth == 0:
        raise InvalidInput(f"the value may nest at most {MAX_JSON_DEPTH} levels", (path,))
    if isinstance(value, str):
        text(value, path, most=MAX_JSON_BYTES)
    elif isinstance(value, dict):
        for name, member in value.items():
            text(name, path, most=MAX_JSON_BYTES)
            _check(member, path, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, path, depth - 1)
    # Comparing is exact for an int of any length, where a conversion to float would overflow;
    # a NaN is within no bounds.
    elif isinstance(value, (int, float)) and not abs(value) <= _MAX_NUMBER:
        raise InvalidInput("a number must be finite and within ±(2^53 − 1)", (path,))
