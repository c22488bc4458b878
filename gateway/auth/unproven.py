"""A client assertion as it came: taken apart, and nothing of it believed yet.

Read strictly, because two readers who understand one text differently are how a claim gets past one
of them: three parts in their one spelling, JSON objects of UTF-8 without a name twice, no extension
that would have to be understood. Keys and addresses of keys in the header are not looked at.

Sources: RFC 7515 §4.1.11 and §5.2, RFC 7519 §4 and §7.2, RFC 7797 §6, RFC 8725 §3.11.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.records import JSON, JSONObject
from gateway.auth.jwk import SIGNING_ALGORITHMS

MAX_ASSERTION_BYTES = 8192
_MOST_NESTED = 128
# Absent is good too. An access token, or whatever else is a JWT of ours, never is.
_TYPES = frozenset({"jwt", "client-authentication+jwt"})


class _Malformed(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Unproven:
    text: str = field(repr=False)
    algorithm: str
    kid: str | None
    claims: JSONObject = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientAssertion:
    """What was presented, whoever it belongs to. `client_id` is whom it names; `said` is what the
    request says besides, if anything; `unproven` is None for what is no assertion at all."""

    client_id: str
    said: str | None
    unproven: Unproven | None

    @classmethod
    def read(cls, text: str, said: str | None) -> ClientAssertion:
        try:
            unproven = _read(text)
        except ValueError:
            return cls(said or "", said, None)
        subject = unproven.claims.get("sub")
        return cls(subject if isinstance(subject, str) else "", said, unproven)


def _read(text: str) -> Unproven:
    """Raises ValueError."""
    if len(text) > MAX_ASSERTION_BYTES:
        raise _Malformed
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise _Malformed
    header, claims, _ = (_decoded(part) for part in parts)
    said = _object(header)
    algorithm, kid, kind = said.get("alg"), said.get("kid", ""), said.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in SIGNING_ALGORITHMS:
        raise _Malformed
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise _Malformed
    if "crit" in said or "b64" in said or not isinstance(kid, str):
        raise _Malformed
    return Unproven(text, algorithm, kid if "kid" in said else None, _object(claims))


def _decoded(part: str) -> bytes:
    octets = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    # Padding, and bits that the last character leaves over, would be other spellings.
    if base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != part:
        raise _Malformed
    return octets


def _object(encoded: bytes) -> JSONObject:
    # How deep is too deep would otherwise be for the interpreter to say, and each says another.
    if encoded.count(b"{") + encoded.count(b"[") > _MOST_NESTED:
        raise _Malformed
    value: JSON = json.loads(
        encoded.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number
    )
    if not isinstance(value, dict):
        raise _Malformed
    return value


def _once(pairs: Sequence[tuple[str, JSON]]) -> JSONObject:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Malformed
    return dict(pairs)


def _no_number(_: str) -> JSON:
    """Infinity and NaN are no JSON (RFC 8259 §6)."""
    raise _Malformed
