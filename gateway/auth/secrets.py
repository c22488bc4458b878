"""Client secrets: made once, shown once, kept as a bcrypt hash.

Hashing is slow by design, so it runs in a thread (bcrypt lets go of the GIL) and only a few at a
time; the event loop never waits for one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import bcrypt

SECRET_PREFIX = "sk_live_"
# bcrypt reads 72 bytes: a longer secret would match by its beginning alone.
MAX_SECRET_BYTES = 72
_TAG_DOMAIN = b"agentidp client secret tag\0"


def new_secret() -> str:
    """`sk_live_` and 64 hex digits: 256 random bits."""
    return SECRET_PREFIX + secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class HashedSecret:
    """What is kept of a secret: its hash, and the tag that says which hash is worth comparing."""

    hash: str = field(repr=False)
    tag: str = field(repr=False)


def tag_of(secret: str) -> str:
    """16 bits of a digest, as four hex digits: of the 256 bits of a secret, 240 are left to guess,
    and of the credentials of a client seldom more than one is worth comparing."""
    digest = hashlib.sha256(_TAG_DOMAIN + secret.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:4]


class SecretHasher:
    """`cost` is bcrypt's work factor; `threads` bounds how many hashes run at once."""

    def __init__(self, cost: int, threads: int = 2) -> None:
        self._cost = cost
        self._threads = anyio.CapacityLimiter(threads)
        # What an unknown client's secret is compared with, so that it takes as long as a known one.
        self._decoy = bcrypt.hashpw(secrets.token_bytes(32), bcrypt.gensalt(cost)).decode()

    async def hash(self, secret: str) -> HashedSecret:
        hashed = await anyio.to_thread.run_sync(self._hash, secret, limiter=self._threads)
        return HashedSecret(hashed, tag_of(secret))

    async def matches(self, secret: str, secret_hash: str | None) -> bool:
        """Whether the secret is the hashed one; None stands for no such client, and never matches.

        A secret of more than 72 bytes is refused before hashing.
        """
        presented = secret.encode("utf-8", "surrogatepass")
        if len(presented) > MAX_SECRET_BYTES or b"\0" in presented:
            return False
        same = await anyio.to_thread.run_sync(
            bcrypt.checkpw, presented, (secret_hash or self._decoy).encode(), limiter=self._threads
        )
        return same and secret_hash is not None

    def _hash(self, secret: str) -> str:
        return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(self._cost)).decode()
