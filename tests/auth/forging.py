"""Tokens written by hand: whatever a header and a payload can say, signed by whatever key."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from db.errors import Unauthenticated
from gateway.auth.tokens import TokenAuthority
from tests.gateway import PUBLIC_URL

Json = Mapping[str, Any]

NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
SECOND = int(NOW.timestamp())
TTL = 600
ISSUER = f"{PUBLIC_URL}/t/acme"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signed(key: ec.EllipticCurvePrivateKey, header: Json | bytes, payload: Json | bytes) -> str:
    """A compact JWS with an ECDSA signature over SHA-256, whatever its header says of it."""
    text = signing_input(header, payload)
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    size = (key.key_size + 7) // 8
    return f"{text}.{base64url(r.to_bytes(size) + s.to_bytes(size))}"


def signing_input(header: Json | bytes, payload: Json | bytes) -> str:
    return f"{base64url(_encoded(header))}.{base64url(_encoded(payload))}"


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _encoded(part: Json | bytes) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


@dataclass
class Forge:
    """Writes tokens with the authority's own key; `header` and `claims` are those of a good one."""

    authority: TokenAuthority
    key: ec.EllipticCurvePrivateKey
    header: dict[str, Any]
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

    def refuses(self, token: str, now: datetime = NOW) -> bool:
        """Refused, in the one sentence that there is; any other exception fails the test."""
        with pytest.raises(Unauthenticated, match=r"^the access token is not accepted$"):
            self.authority.verify(token, now)
        return True

    def accepts(self, token: str, now: datetime = NOW) -> bool:
        self.authority.verify(token, now)
        return True
