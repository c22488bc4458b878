"""Tokens written by hand: whatever a header and a payload can say, signed by whatever key."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Json = Mapping[str, Any]


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
