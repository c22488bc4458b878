"""A compact JWS, written and taken apart by hand: on the way of every request, and stricter
than the libraries are.

Each token has one spelling. Another text that decodes to the same bytes (padding, the unused bits
of a last character) is not that token. ES256 leaves one freedom that no spelling can take away:
where (r, s) is good, (r, n − s) is too, and anybody can write it. It is the same token, with the
same jti, so whatever revokes the one revokes the other.

Sources: RFC 7515 §2, §4.1 and §5.2, RFC 8725 §3.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.auth.keys import Key, Sign

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Malformed(ValueError):
    """The text is no compact JWS that we could verify."""


class Header(msgspec.Struct, frozen=True):
    """What is asked of a header. Keys and certificates that it brings along, and addresses of some,
    are not even read; what it demands that we understand (`crit`), we refuse."""

    alg: str
    kid: str
    typ: str
    crit: Raw | UnsetType = UNSET
    b64: Raw | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Unverified:
    """A JWS whose signature nobody has looked at yet."""

    header: Header
    signed: bytes
    signature: bytes
    _payload: bytes

    def payload(self, key: Key) -> bytes:
        """What is signed, if it is `key` that signed it. Raises Malformed."""
        if self.header.alg != key.algorithm or not key.verify(self.signed, self.signature):
            raise Malformed("not signed with this key")
        return _unambiguous(_decoded(self._payload))


_header = msgspec.json.Decoder(Header)


def protected(key: Key, typ: str) -> bytes:
    """The beginning of every JWS of that type which `key` signs."""
    members = {"alg": key.algorithm.value, "kid": key.kid, "typ": typ}
    return _encoded(msgspec.json.encode(members)) + b"."


def compact(beginning: bytes, payload: bytes, sign: Sign) -> str:
    text = beginning + _encoded(payload)
    return (text + b"." + _encoded(sign(text))).decode("ascii")


def parse(token: bytes) -> Unverified:
    """Raises Malformed."""
    signed, _, signature = token.rpartition(b".")
    head, dot, payload = signed.partition(b".")
    if not dot or b"." in payload:
        raise Malformed("not three parts")
    try:
        header = _header.decode(_unambiguous(_decoded(head)))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed("not a header") from error
    if header.crit is not UNSET or header.b64 is not UNSET:
        raise Malformed("an extension is demanded")
    return Unverified(header, signed, _decoded(signature), payload)


def _unambiguous(text: bytes) -> bytes:
    """JSON in which no member is there twice: two readers may not understand two things by it.
    Raises Malformed."""
    try:
        json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON, or more than one way to read it") from error
    return text


def _once(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise Malformed("a member is there twice")


def _encoded(value: bytes) -> bytes:
    return binascii.b2a_base64(value, newline=False).translate(_URL_SAFE, b"=")


def _decoded(part: bytes) -> bytes:
    """Raises Malformed unless `part` is just how its bytes are written."""
    try:
        value = binascii.a2b_base64(part.translate(_STANDARD) + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise Malformed("not base64url") from error
    if _encoded(value) != part:
        raise Malformed("not how these bytes are written")
    return value
