"""Clients that sign: keys of every kind that is taken, and assertions that say anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from db.records import Credential
from tests.auth.forging import Json, base64url, signing_input
from tests.gateway import PUBLIC_URL, Client, RunningGateway
from tests.oauth.asking import GRANT, Asking, Pairs

ISSUER = f"{PUBLIC_URL}/t/acme"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Private: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Slow to make, so each is made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def new_key(algorithm: str) -> Private:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "RS256" | "PS256":
            return rsa_key(("RS256", "PS256").index(algorithm))
    return ed25519.Ed25519PrivateKey.generate()


def sign(key: Private, text: bytes, algorithm: str) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        case rsa.RSAPrivateKey() if algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
            return key.sign(text, pss, hashes.SHA256())
        case rsa.RSAPrivateKey():
            return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(text)


def jwk_of(key: Private) -> dict[str, Any]:
    """The public half, as a client would give it."""
    match key:
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_numbers()
            x, y = (base64url(each.to_bytes(32)) for each in (point.x, point.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        case rsa.RSAPrivateKey():
            numbers = key.public_key().public_numbers()
            n, e = (
                base64url(each.to_bytes((each.bit_length() + 7) // 8))
                for each in (numbers.n, numbers.e)
            )
            return {"kty": "RSA", "n": n, "e": e}
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().public_bytes_raw())}


@dataclass(frozen=True, slots=True)
class Signer:
    """A client of `acme` that signs with `key`."""

    running: RunningGateway
    client_id: str
    algorithm: str
    key: Private
    credential: Credential

    @property
    def claims(self) -> dict[str, Any]:
        """Those of a good assertion."""
        second = int(self.running.clock.now.timestamp())
        return {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": ISSUER,
            "exp": second + 60,
            "iat": second,
            "jti": str(uuid4()),
        }

    def assertion(self, header: Json | bytes | None = None, **claims: Any) -> str:
        """A good one but for what is said; None leaves a claim or a header parameter out."""
        return self.saying(without_none({**self.claims, **claims}), header)

    def saying(self, payload: Json | bytes, header: Json | bytes | None = None) -> str:
        """Signed, whatever it says."""
        if not isinstance(header, bytes):
            header = without_none({"alg": self.algorithm, **(header or {})})
        text = signing_input(header, payload)
        return f"{text}.{base64url(sign(self.key, text.encode(), self.algorithm))}"


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


async def enrolled(
    asking: Asking,
    algorithm: str = "ES256",
    client: Client | None = None,
    key: Private | None = None,
    expires_in: float | None = None,
    **jwk: Any,
) -> Signer:
    """A key credential of `client`, the administrator unless another is named."""
    client = client or asking.admin
    key = key or new_key(algorithm)
    running = asking.running
    kept = await running.gateway.credentials.enrol(
        await running.as_caller(asking.admin),
        UUID(client.client_id),
        {**jwk_of(key), **jwk},
        expires_at=None
        if expires_in is None
        else running.clock.now + timedelta(seconds=expires_in),
    )
    return Signer(running, client.client_id, algorithm, key, kept)


def asserting(assertion: str, **more: str) -> dict[str, str]:
    return {"client_assertion_type": JWT_BEARER, "client_assertion": assertion, **more}


async def present(
    asking: Asking, assertion: str, endpoint: str = "token", slug: str = "acme", **more: str
) -> httpx.Response:
    """At the token endpoint, unless another is named; without anything else that proves."""
    form: Pairs = {**GRANT, **asserting(assertion), **more}
    return await asking.post(endpoint, form, authorization=None, slug=slug)
