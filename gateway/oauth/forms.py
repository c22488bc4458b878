"""Bodies of `application/x-www-form-urlencoded`, read strictly.

What a lenient reader would repair is refused: a value that two readers understand differently is
how a request gets past one of them. Nothing that PostgreSQL cannot hold comes through.

Sources: RFC 6749 §3.2 and appendices A and B.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from gateway.oauth.errors import invalid_request

_MEDIA_TYPE = "application/x-www-form-urlencoded"
_MAX_PARAMETERS = 256
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
# RFC 8707 §2 lets a request name several; everything else is there once.
_REPEATABLE = frozenset({"resource"})
# Its own error (`invalid_scope`) tells more, and only exact capabilities get past it.
_CHECKED_LATER = frozenset({"scope"})


class Malformed(ValueError):
    """The text is no form encoding of UTF-8, or holds control characters."""


class Form:
    """The parameters of a body. One sent without a value is one that was not sent."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> Sequence[str]:
        return [value for value in self._values.get(name, ()) if value]

    def required(self, name: str) -> str:
        """Raises OAuthError."""
        value = self.get(name)
        if value is None:
            raise invalid_request(f"{name} is missing")
        return value


def require_form(content_types: Sequence[str]) -> None:
    """That the body is a form, by its Content-Type; parameters of the type are ignored, because
    the encoding is UTF-8 whatever they say. Raises OAuthError."""
    if len(content_types) != 1 or _essence(content_types[0]) != _MEDIA_TYPE:
        raise invalid_request(f"send the parameters in a body of {_MEDIA_TYPE}")


def parse(body: bytes) -> Form:
    """Raises OAuthError."""
    if body.count(b"&") >= _MAX_PARAMETERS:
        raise invalid_request(f"the body may hold at most {_MAX_PARAMETERS} parameters")
    values: dict[str, list[str]] = {}
    for pair in body.split(b"&"):
        if not pair:
            continue
        encoded_name, _, encoded_value = pair.partition(b"=")
        try:
            name = printable(decode(encoded_name))
            value = decode(encoded_value)
            if name not in _CHECKED_LATER:
                printable(value)
        except Malformed:
            raise invalid_request("the body is not a form of printable UTF-8") from None
        if name in values and name not in _REPEATABLE:
            # The name is the sender's own text, so it is not repeated in the answer.
            raise invalid_request("a parameter is there more than once")
        values.setdefault(name, []).append(value)
    return Form(values)


def decode(encoded: bytes) -> str:
    """One name or value. Raises Malformed."""
    if _BROKEN_ESCAPE.search(encoded):
        raise Malformed
    try:
        return unquote_to_bytes(encoded.replace(b"+", b" ")).decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Malformed from None


def printable(text: str) -> str:
    """The text itself. Raises Malformed when it holds a control character."""
    if _CONTROL.search(text):
        raise Malformed
    return text


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
