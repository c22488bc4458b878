"""Tokens written by hand: whatever a header and a payload can say, signed by whatever key."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from db.errors import Unauthenticated
from db.memory.storage import MemoryStorage
from db.records import SigningAlgorithm
from gateway.auth.keyring import KeyRing, load_keys
from gateway.auth.tokens import TokenAuthority
from tests.gateway import PUBLIC_URL, memory_settings

Json = Mapping[str, Any]

NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
SECOND = int(NOW.timestamp())
TTL = 600
ISSUER = f"{PUBLIC_URL}/t/acme"


PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
ALGORITHMS = tuple(SigningAlgorithm)
_RINGS: dict[str, KeyRing] = {}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def key_for(algorithm: str, number: int = 0) -> PrivateKey:
    """The same each time: it takes a while to find a key for RSA."""
    match algorithm:
        case "ES256":
            return new_key()
        case "RS256":
            return rsa.generate_private_key(65_537, 2048)
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_der(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def jwk_of(key: PrivateKey) -> dict[str, str]:
    """The public half by the letter of RFC 7518 §6 and RFC 8037 §2, and without our code."""
    match key.public_key():
        case ec.EllipticCurvePublicKey() as point:
            numbers = point.public_numbers()
            x, y = (base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
            return {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        case rsa.RSAPublicKey() as public:
            modulus = public.public_numbers().n.to_bytes(public.key_size // 8)
            return {"e": "AQAB", "kty": "RSA", "n": base64url(modulus)}
        case ed25519.Ed25519PublicKey() as octets:
            return {"crv": "Ed25519", "kty": "OKP", "x": base64url(octets.public_bytes_raw())}


def kid_of(key: PrivateKey) -> str:
    """By the letter of RFC 7638 §3: the required members, in their order, without a blank."""
    members = ",".join(f'"{name}":"{value}"' for name, value in jwk_of(key).items())
    return base64url(hashlib.sha256(f"{{{members}}}".encode()).digest())


def signed(key: PrivateKey, header: Json | bytes, payload: Json | bytes) -> str:
    """A compact JWS with a signature of the key's own kind, whatever its header says of it."""
    text = signing_input(header, payload)
    return f"{text}.{base64url(signature(key, text.encode()))}"


def signature(key: PrivateKey, text: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
            size = (key.key_size + 7) // 8
            return r.to_bytes(size) + s.to_bytes(size)
        case rsa.RSAPrivateKey():
            return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        case ed25519.Ed25519PrivateKey():
            return key.sign(text)


def signed_by(token: str) -> str:
    """The kid that a token's header names."""
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


def signing_input(header: Json | bytes, payload: Json | bytes) -> str:
    return f"{base64url(_encoded(header))}.{base64url(_encoded(payload))}"


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _encoded(part: Json | bytes) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


@dataclass
class Forge:
    """Writes tokens with the authority's own key; `header` and `claims` are those of a good one.
    `stranger` is another key of the same kind, which the authority does not know."""

    authority: TokenAuthority
    key: PrivateKey
    stranger: PrivateKey
    header: dict[str, Any]
    jwks: bytes
    claims: dict[str, Any] = field(
        default_factory=lambda: {
            "iss": ISSUER,
            "sub": str(uuid4()),
            "aud": ISSUER,
            "exp": SECOND + TTL,
            "iat": SECOND,
            "nbf": SECOND,
            "jti": str(uuid4()),
            "client_id": str(uuid4()),
            "scope": "agents:read",
            "credential_id": str(uuid4()),
            "gen": [0, 0],
        }
    )

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        return self.saying(claims, header)

    def saying(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        return signed(self.key, {**self.header, **(header or {})}, {**self.claims, **claims})

    def without(self, *names: str) -> str:
        left = {name: value for name, value in self.claims.items() if name not in names}
        return signed(self.key, self.header, left)

    @classmethod
    async def of(cls, algorithm: str) -> Forge:
        key, stranger = (key_for(algorithm, number) for number in range(2))
        # Read once: an RSA key takes a while to be looked over.
        if algorithm not in _RINGS:
            settings = memory_settings(signing_keys=pem(key))
            _RINGS[algorithm] = await load_keys(settings, MemoryStorage(), NOW)
        ring = _RINGS[algorithm]
        header = {"alg": algorithm, "typ": "at+jwt", "kid": kid_of(key)}
        authority = TokenAuthority(ring, PUBLIC_URL, TTL)
        return cls(authority, key, stranger, header, ring.known.jwks)

    async def refuses(self, token: str, now: datetime = NOW) -> bool:
        """Refused, in the one sentence that there is; any other exception fails the test."""
        with pytest.raises(Unauthenticated, match=r"^the access token is not accepted$"):
            await self.authority.verify(token, now)
        return True

    async def accepts(self, token: str, now: datetime = NOW) -> bool:
        await self.authority.verify(token, now)
        return True
