"""The keys that sign access tokens, and the set that the world verifies them with.

Keys belong to the deployment. They are given as PEM (SIGNING_KEYS), or made at the first start
and kept in the registry, encrypted under KEY_ENCRYPTION_SECRET; in memory they live as long as
the process. The key fixes the algorithm: what a token's header says is never asked.

Sources: RFC 7517, RFC 7518 §3.4 and §6.2, RFC 7638.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from db.contract import Storage
from db.errors import Misconfigured
from db.records import SigningKey, SigningKeyStatus
from gateway.settings import GatewaySettings

ALGORITHM = "ES256"
_PEM_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Key:
    """One P-256 key pair. `jwk` is its public half."""

    kid: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)
    public: ec.EllipticCurvePublicKey = field(repr=False)
    jwk: dict[str, str]


class KeyRing:
    """The first key signs; every key verifies, by its kid."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = {key.kid: key for key in keys}
        self.signing = next(iter(self._keys.values()))
        self.jwks: bytes = msgspec.json.encode({"keys": [k.jwk for k in self._keys.values()]})

    def verifying(self, kid: str) -> Key | None:
        return self._keys.get(kid)


async def load_keys(settings: GatewaySettings, storage: Storage, now: datetime) -> KeyRing:
    """The deployment's keys; makes the first one if there is none. Raises Misconfigured."""
    if settings.signing_keys is not None:
        return KeyRing(_given(settings.signing_keys.get_secret_value()))
    if settings.in_memory or settings.key_encryption_secret is None:
        return KeyRing([_key(ec.generate_private_key(ec.SECP256R1()))])
    vault = _Vault(settings.key_encryption_secret.get_secret_value())
    kept = await storage.registry.signing_keys.all()
    if not any(each.status is SigningKeyStatus.SIGNING for each in kept):
        fresh = _key(ec.generate_private_key(ec.SECP256R1()))
        async with storage.registry_unit() as unit:
            # Of several processes that start at once, one adds its key and all of them read it.
            await unit.signing_keys.add(
                SigningKey(
                    fresh.kid, ALGORITHM, vault.seal(fresh), SigningKeyStatus.SIGNING, now, now
                )
            )
        kept = await storage.registry.signing_keys.all()
    in_order = sorted(kept, key=lambda each: each.status is not SigningKeyStatus.SIGNING)
    return KeyRing([vault.open(each) for each in in_order])


def _given(pem: str) -> list[Key]:
    blocks = _PEM_BLOCK.findall(pem.replace("\\n", "\n"))
    if not blocks:
        raise Misconfigured("SIGNING_KEYS holds no PEM block")
    return [_key(_parse(block)) for block in blocks]


def _parse(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise Misconfigured("SIGNING_KEYS holds a PEM block that is no private key") from error
    return _p256(key, "SIGNING_KEYS holds a key")


def _p256(key: object, which: str) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured(f"{which} that is not P-256, as ES256 needs")
    return key


def _key(private: ec.EllipticCurvePrivateKey) -> Key:
    public = private.public_key()
    numbers = public.public_numbers()
    point = {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(32, "big")),
        "y": _base64url(numbers.y.to_bytes(32, "big")),
    }
    kid = _base64url(hashlib.sha256(msgspec.json.encode(point)).digest())
    return Key(kid, private, public, {**point, "kid": kid, "alg": ALGORITHM, "use": "sig"})


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class _Vault:
    """Seals private keys with AES-256-GCM; the kid is bound in, so rows cannot be swapped."""

    def __init__(self, secret: str) -> None:
        derive = HKDF(hashes.SHA256(), 32, salt=None, info=b"agentidp signing keys v1")
        self._cipher = AESGCM(derive.derive(secret.encode()))

    def seal(self, key: Key) -> bytes:
        der = key.private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, der, key.kid.encode())

    def open(self, kept: SigningKey) -> Key:
        nonce, sealed = kept.private_key[:_NONCE_BYTES], kept.private_key[_NONCE_BYTES:]
        try:
            der = self._cipher.decrypt(nonce, sealed, kept.kid.encode())
        except InvalidTag:
            raise Misconfigured(
                "KEY_ENCRYPTION_SECRET does not open the signing keys in the registry"
            ) from None
        key = serialization.load_der_private_key(der, password=None)
        return _key(_p256(key, "the registry holds a signing key"))
