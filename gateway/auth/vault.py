"""Private keys at rest: what the registry keeps of a signing key, and what comes back out of it."""

from __future__ import annotations

import secrets
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from db.errors import Misconfigured
from db.records import SigningKey, SigningKeyStatus
from gateway.auth.keys import Key, key_of

_NONCE_BYTES = 12


class Vault:
    """Seals private keys with AES-256-GCM; the kid is bound in, so rows cannot be swapped."""

    def __init__(self, secret: str) -> None:
        derive = HKDF(hashes.SHA256(), 32, salt=None, info=b"agentidp signing keys v1")
        self._cipher = AESGCM(derive.derive(secret.encode()))

    def seal(self, key: Key, status: SigningKeyStatus, now: datetime) -> SigningKey:
        """A row for a key that was made at `now`."""
        der = key.private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, der, key.kid.encode())
        return SigningKey(key.kid, key.algorithm.value, sealed, status, now, now)

    def open(self, kept: SigningKey) -> Key:
        """Raises Misconfigured."""
        nonce, sealed = kept.private_key[:_NONCE_BYTES], kept.private_key[_NONCE_BYTES:]
        try:
            der = self._cipher.decrypt(nonce, sealed, kept.kid.encode())
        except (InvalidTag, ValueError):
            raise Misconfigured(
                "KEY_ENCRYPTION_SECRET does not open the signing keys in the registry"
            ) from None
        # What the seal vouches for was a good key when it was sealed. To examine an RSA key once
        # more would hold up every request for as long as that takes.
        private = serialization.load_der_private_key(
            der, password=None, unsafe_skip_rsa_key_validation=True
        )
        key = key_of(private, "the registry")
        if (key.kid, key.algorithm.value) != (kept.kid, kept.algorithm):
            raise Misconfigured("the registry holds a signing key under another name or algorithm")
        return key
