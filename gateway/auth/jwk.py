"""A client's own public key, as a JWK: read strictly when it is given, made usable when it is kept.

What is kept holds only the members that make the key and name it. Nothing that a JWK points to
(`jku`, `x5u`, `x5c`) is ever followed or believed. The key fixes the algorithms: what the header of
an assertion says only picks among them.

Sources: RFC 7517 §4, RFC 7518 §6.2 and §6.3, RFC 8037 §2, RFC 9864 §2, SP 800-89 §5.3.3.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod
from typing import TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from db.errors import InvalidInput
from db.records import JSON, JSONObject

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

# RFC 9864 gives EdDSA over this one curve a name of its own, and clients send either.
_ALGORITHMS = {
    ("EC", "P-256"): ("ES256",),
    ("RSA", None): ("RS256", "PS256"),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
SIGNING_ALGORITHMS = tuple(each for fitting in _ALGORITHMS.values() for each in fitting)
"""What an assertion may be signed with, one way or another."""

_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_KID = re.compile(r"[\x21-\x7e]{1,255}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_COORDINATE = 32  # octets
_RSA_BITS = (2048, 4096)
_EXPONENTS = range(65_537, 2**32)
_MOST_CHARACTERS = 684  # of any member: what a modulus of 4096 bits takes
# A modulus with a factor as small as these is no product of two large primes.
_SMALL_PRIMES = prod(p for p in range(3, 752) if all(p % q for q in range(2, int(p**0.5) + 1)))
# Edwards25519: y² − x² = 1 + d·x²·y² modulo p.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


class _Unfit(ValueError):
    """Why it is no key that we take, without a word of what it says."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """`algorithms` are those that a signature of this key may name; `kid` is its owner's word."""

    public: PublicKey
    algorithms: tuple[str, ...]
    kid: str | None


def public_jwk(value: JSON, path: str) -> JSONObject:
    """The key, with the members that we keep and no others. Raises InvalidInput, which repeats
    nothing of the value: it may hold a private key by mistake."""
    try:
        kept, _ = _read(value)
    except _Unfit as unfit:
        raise InvalidInput(str(unfit), (path,)) from None
    return kept


def thumbprint(jwk: JSON) -> str:
    """Of a JWK as `public_jwk` made it: the same for every way to name the same key.

    Source: RFC 7638 §3.
    """
    assert isinstance(jwk, dict)
    material = {name: value for name, value in jwk.items() if name not in ("alg", "kid")}
    digest = hashlib.sha256(msgspec.json.encode(material, order="sorted")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verifying_key(jwk: JSON) -> VerifyingKey:
    """Of a JWK as `public_jwk` made it. Raises ValueError for anything else."""
    return _parsed(msgspec.json.encode(jwk, order="sorted"))


@lru_cache(maxsize=4096)
def _parsed(encoded: bytes) -> VerifyingKey:
    kept, public = _read(msgspec.json.decode(encoded))
    kid = kept.get("kid")
    return VerifyingKey(public, _fitting(kept), kid if isinstance(kid, str) else None)


def _read(value: JSON) -> tuple[JSONObject, PublicKey]:
    """Raises _Unfit."""
    if not isinstance(value, dict):
        raise _Unfit("a public key is one JWK, a JSON object")
    if not _SECRET.isdisjoint(value):
        raise _Unfit("this JWK holds a private key or a secret: send the public half alone")
    kept, public = _material(value)
    fitting = _ALGORITHMS[str(kept["kty"]), _optional(kept, "crv")]
    if value.get("use", "sig") != "sig":
        raise _Unfit("the key's use must be sig, or not be said")
    operations = value.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Unfit("the key's key_ops must hold verify, or not be said")
    if "alg" in value:
        if value["alg"] not in fitting:
            raise _Unfit(f"the alg of this key must be {' or '.join(fitting)}, or not be said")
        kept["alg"] = value["alg"]
    if "kid" in value:
        kid = value["kid"]
        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise _Unfit("a kid is 1 to 255 characters of ASCII without blanks")
        kept["kid"] = kid
    return kept, public


def _material(value: JSONObject) -> tuple[JSONObject, PublicKey]:
    match value.get("kty"), value.get("crv"):
        case "EC", "P-256":
            x, y = _octets(value, "x"), _octets(value, "y")
            return _kept(value, "kty", "crv", "x", "y"), _p256(x, y)
        case "OKP", "Ed25519":
            x = _octets(value, "x")
            return _kept(value, "kty", "crv", "x"), _ed25519(x)
        case "RSA", _:
            n, e = _octets(value, "n"), _octets(value, "e")
            return _kept(value, "kty", "n", "e"), _rsa(n, e)
    raise _Unfit("a key is EC on P-256, RSA, or OKP on Ed25519")


def _p256(x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    if len(x) != _COORDINATE or len(y) != _COORDINATE:
        raise _Unfit("x and y of a P-256 key have 32 octets each")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()
    )  # fmt: skip
    try:
        return numbers.public_key()
    except ValueError:
        raise _Unfit("x and y are no point of P-256") from None


def _ed25519(x: bytes) -> ed25519.Ed25519PublicKey:
    if len(x) != _COORDINATE:
        raise _Unfit("x of an Ed25519 key has 32 octets")
    y = int.from_bytes(x, "little") & (2**255 - 1)
    if y >= _P or not _is_on_edwards25519(y):
        raise _Unfit("x is no point of Ed25519")
    # Anybody can sign for a point of small order: some signatures hold for every message.
    if _is_of_small_order(y):
        raise _Unfit("x is a point of small order of Ed25519")
    return ed25519.Ed25519PublicKey.from_public_bytes(x)


def _is_on_edwards25519(y: int) -> bool:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    return square == 0 or pow(square, (_P - 1) // 2, _P) == 1


def _is_of_small_order(y: int) -> bool:
    """Whether eight times the point is the neutral element (0, 1)."""
    for _ in range(3):
        # Doubling: y' = (y² + x²) / (2 − (y² − x²)), of which the sign of x is no part.
        yy = y * y % _P
        xx = (yy - 1) * pow(_D * yy + 1, -1, _P) % _P
        y = (yy + xx) * pow(2 - yy + xx, -1, _P) % _P
    return y == 1


def _rsa(n: bytes, e: bytes) -> rsa.RSAPublicKey:
    modulus, exponent = int.from_bytes(n), int.from_bytes(e)
    if n[:1] == b"\0" or e[:1] == b"\0":
        raise _Unfit("n and e have no octets more than they need")
    least, most = _RSA_BITS
    if not least <= modulus.bit_length() <= most:
        raise _Unfit(f"n has {least} to {most} bits")
    if modulus % 2 == 0 or gcd(modulus, _SMALL_PRIMES) != 1:
        raise _Unfit("n is no product of two large primes")
    if exponent not in _EXPONENTS or exponent % 2 == 0:
        raise _Unfit("e is odd, and from 65537 to 4294967295")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _octets(value: JSONObject, name: str) -> bytes:
    """What a member of base64url says, when there is one way to say it."""
    text = value.get(name)
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS or not _BASE64URL.fullmatch(text):
        raise _Unfit(f"{name} is missing, too long or no base64url without padding")
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise _Unfit(f"{name} is no base64url") from None
    if base64.urlsafe_b64encode(octets).rstrip(b"=").decode() != text:
        raise _Unfit(f"{name} is no base64url")
    return octets


def _fitting(kept: JSONObject) -> tuple[str, ...]:
    fitting = _ALGORITHMS[str(kept["kty"]), _optional(kept, "crv")]
    alg = kept.get("alg")
    # EdDSA and Ed25519 are two names of one thing, RS256 and PS256 are not.
    return (str(alg),) if alg is not None and kept["kty"] == "RSA" else fitting


def _optional(kept: JSONObject, name: str) -> str | None:
    value = kept.get(name)
    return value if isinstance(value, str) else None


def _kept(value: JSONObject, *names: str) -> JSONObject:
    return {name: value[name] for name in names}
