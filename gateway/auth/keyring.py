"""The signing keys that this process knows, and how it learns of those that others made or retired.

Keys belong to the deployment. They are given as PEM (SIGNING_KEYS) and never change then; or they
are made, at the first start and by the operator, and kept in the registry, sealed under
KEY_ENCRYPTION_SECRET. In memory the same happens under a secret that ends with the process.

A set is read again when it is older than RELOAD_SECONDS and somebody is about to publish it or to
sign with it, and when a token names a key that is not in it. So a key that was activated signs
everywhere after that time, and for no longer than that a process may sign with one that was retired
meanwhile: such a token is refused by everybody from the beginning, like all others of that key.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from db.contract import Storage
from db.errors import Misconfigured, Unavailable
from db.records import SigningAlgorithm, SigningKeyStatus
from gateway.auth.keys import Key, base64url, keys_in, new_key
from gateway.auth.vault import Vault
from gateway.settings import GatewaySettings

RELOAD_SECONDS = 5
"""How long a process may publish and sign with what it knows before it looks again."""

SEARCH_SECONDS = 1
"""How often at most unknown names of keys make a process look, however many of them are sent."""

JWKS_MAX_AGE = 300
"""How long verifiers may keep the key set, in seconds."""

_log = structlog.get_logger(__name__)


class KeySet:
    """The first key signs; all verify, by their kids, and are published. None is in it twice."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.kid: key for key in keys}
        self.signing = keys[0]
        self.jwks: bytes = msgspec.json.encode({"keys": [k.jwk for k in self._keys.values()]})
        self.etag = f'"{base64url(hashlib.sha256(self.jwks).digest())}"'

    def get(self, kid: str) -> Key | None:
        return self._keys.get(kid)

    @property
    def keys(self) -> Sequence[Key]:
        return list(self._keys.values())

    @property
    def kids(self) -> Sequence[str]:
        return list(self._keys)


class KeptKeys:
    """The keys in the registry."""

    def __init__(self, storage: Storage, vault: Vault) -> None:
        self._storage = storage
        self.vault = vault

    async def read(self, known: KeySet | None = None) -> KeySet | None:
        """`known` itself when it is still so; None while no key is there that signs. The one that
        signs comes first, the others by age. Raises Misconfigured, Unavailable."""
        kept = await self._storage.registry.signing_keys.all()
        if not any(each.status is SigningKeyStatus.SIGNING for each in kept):
            return None
        in_order = sorted(kept, key=lambda each: each.status is not SigningKeyStatus.SIGNING)
        if known is not None and [each.kid for each in in_order] == known.kids:
            return known
        # A kid is its key's own digest: what was opened under it once is not opened again.
        return KeySet(
            [(known and known.get(each.kid)) or self.vault.open(each) for each in in_order]
        )

    async def make(self, algorithm: SigningAlgorithm, now: datetime) -> None:
        """The key that signs, unless there is one by now: of several processes that start at once
        one adds its key, and all of them read it."""
        row = self.vault.seal(new_key(algorithm), SigningKeyStatus.SIGNING, now)
        async with self._storage.registry_unit() as unit:
            await unit.signing_keys.add(row)


class KeyRing:
    """The set of keys as it is known here; `kept` is None when the keys are given and stay."""

    def __init__(self, known: KeySet, kept: KeptKeys | None, now: datetime) -> None:
        self._known = known
        self.kept = kept
        self._turn = asyncio.Lock()
        self._read_at = now
        self._searched_at: datetime | None = None
        self._silent = False

    @property
    def known(self) -> KeySet:
        """Without looking whether it is still so."""
        return self._known

    async def current(self, now: datetime) -> KeySet:
        """Not older than RELOAD_SECONDS, unless storage cannot be asked."""
        if self.kept is not None and not _within(RELOAD_SECONDS, self._read_at, now):
            async with self._turn:
                # Whoever held the turn before may have read it.
                if not _within(RELOAD_SECONDS, self._read_at, now):
                    await self._read(now)
        return self._known

    async def find(self, kid: str, now: datetime) -> Key | None:
        """The key of that name; storage is asked for one that is not known here. Raises Unavailable
        when it could not answer: what somebody else has made since may be good, or to be cut
        off."""
        if (key := self._known.get(kid)) or self.kept is None:
            return key
        # While somebody reads, the result is waited for: it may be the search for this very name.
        if not self._has_searched(now) or self._turn.locked():
            async with self._turn:
                if self._known.get(kid) is None and not self._has_searched(now):
                    self._searched_at = now
                    await self._read(now)
        if (key := self._known.get(kid)) is None and self._silent:
            raise Unavailable("the signing keys cannot be read", retry_after=SEARCH_SECONDS)
        return key

    async def learn(self, now: datetime) -> None:
        """What this process has just changed itself."""
        async with self._turn:
            await self._read(now)

    def _has_searched(self, now: datetime) -> bool:
        return self._searched_at is not None and _within(SEARCH_SECONDS, self._searched_at, now)

    async def _read(self, now: datetime) -> None:
        """Keeps what is known when there is nothing better: whatever is wrong with the registry,
        what was signed before still verifies."""
        assert self.kept is not None
        self._read_at = now
        self._silent = False
        try:
            found = await self.kept.read(self._known)
        except (Unavailable, Misconfigured) as error:
            self._silent = isinstance(error, Unavailable)
            _log.warning("signing keys not read, the ones known before stay", reason=error.message)
            return
        if found is None:
            _log.error("no key in the registry signs, the one known before does")
            return
        self._known = found


async def load_keys(settings: GatewaySettings, storage: Storage, now: datetime) -> KeyRing:
    """The deployment's keys; makes the first one if there is none. Raises Misconfigured."""
    if settings.signing_keys is not None:
        given = keys_in(settings.signing_keys.get_secret_value(), "SIGNING_KEYS")
        for kid in await _retired(storage, given):
            # It would sign tokens that everybody refuses, this process among them.
            raise Misconfigured(f"SIGNING_KEYS holds the key {kid}, which was retired")
        return KeyRing(KeySet(given), None, now)
    secret = settings.key_encryption_secret
    vault = Vault(secret.get_secret_value() if secret else secrets.token_urlsafe())
    kept = KeptKeys(storage, vault)
    known = await kept.read()
    if known is None:
        await kept.make(SigningAlgorithm.ES256, now)
        known = await kept.read()
        assert known is not None
    return KeyRing(known, kept, now)


async def _retired(storage: Storage, given: Sequence[Key]) -> Sequence[str]:
    try:
        kept = [await storage.registry.signing_keys.get(key.kid) for key in given]
    except (Misconfigured, Unavailable):
        # Before its tables are made a process starts, and is not ready.
        return []
    return [key.kid for key in kept if key and key.status is SigningKeyStatus.RETIRED]


def _within(seconds: int, instant: datetime, now: datetime) -> bool:
    """Also when it lies ahead by as little: two requests read the clock in either order. One that
    lies further ahead was read before the clock was set back."""
    return abs(now - instant) < timedelta(seconds=seconds)
