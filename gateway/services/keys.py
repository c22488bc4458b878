"""The signing keys of the deployment: made, brought to sign, and retired, by the operator alone.

Status: published → signing ⇄ published → retired, which is final. A rotation is three steps. A key
is published, so that verifiers come to know it; once whatever they keep of the key set is older
than the key, it may sign, and the one before it goes on verifying what it has signed; when the last
of that has ended, or at once when the key is in wrong hands, that one is retired, and with it ends
every token that it has signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio

from db.contract import Storage
from db.cuts import CLOCK_LEEWAY_SECONDS
from db.errors import InvalidTransition, NotFound
from db.records import JSONObject, SigningAlgorithm, SigningKey, SigningKeyStatus
from db.registry import RegistryUnit
from db.revocations import Revocations
from gateway.auth.keyring import JWKS_MAX_AGE, RELOAD_SECONDS, KeptKeys, KeyRing
from gateway.auth.keys import new_key
from gateway.services.call import Call
from gateway.services.idempotency import Attempt

OVERLAP = timedelta(seconds=JWKS_MAX_AGE + RELOAD_SECONDS + CLOCK_LEEWAY_SECONDS)
"""How old a key has to be before every verifier knows it: another process may have published the
set without it a moment later, and somebody keeps that for as long as it may."""

MOST_KEYS = 16
"""How many there may be that are not retired: all of them are in every answer to a verifier."""

_OPERATION = "publishSigningKey"
_LONGEST_KID = 64
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_PUBLISHED, _SIGNING = SigningKeyStatus.PUBLISHED, SigningKeyStatus.SIGNING
_RETIRED = SigningKeyStatus.RETIRED


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """All of a key that anybody is shown. A key that is given by the configuration has no dates;
    `ready_at` is when it may sign at the earliest, unless that is to be at once."""

    kid: str
    algorithm: SigningAlgorithm
    status: SigningKeyStatus
    created_at: datetime | None = None
    changed_at: datetime | None = None

    @property
    def ready_at(self) -> datetime | None:
        # It has been in the key set since it was made, whatever it was beside.
        if self.created_at is None or self.status is _RETIRED:
            return None
        return self.created_at + OVERLAP


class KeyService:
    def __init__(self, storage: Storage, revocations: Revocations, ring: KeyRing) -> None:
        self._storage = storage
        self._revocations = revocations
        self._ring = ring

    async def all(self) -> Sequence[KeyStanding]:
        """The one that signs first, those that verify beside it by age, and the retired, the last
        that was first."""
        if self._ring.kept is None:
            signing, *others = self._ring.known.keys
            return [
                KeyStanding(signing.kid, signing.algorithm, _SIGNING),
                *(KeyStanding(each.kid, each.algorithm, _PUBLISHED) for each in others),
            ]
        keys = self._storage.registry.signing_keys
        live = sorted(await keys.all(), key=lambda key: key.status is not _SIGNING)
        retired = sorted(
            await keys.retired(_BEGINNING), key=lambda key: (key.changed_at, key.kid), reverse=True
        )
        # One that was retired between the two answers is in both.
        gone = {key.kid for key in retired}
        return [_standing(key) for key in [*(k for k in live if k.kid not in gone), *retired]]

    async def publish(
        self, call: Call, algorithm: SigningAlgorithm, idempotency_key: UUID | None = None
    ) -> KeyStanding:
        """A new key, which everybody is told of and nothing is signed with yet. Raises
        InvalidTransition, IdempotencyKeyReused."""
        kept = self._kept()
        attempt = Attempt.of(call, idempotency_key, _OPERATION, {"algorithm": algorithm.value})
        earlier = await attempt.earlier(self._storage.registry)
        if earlier is not None:
            return await self._repeated(earlier)
        if len(await self._storage.registry.signing_keys.all()) >= MOST_KEYS:
            raise InvalidTransition(f"there are {MOST_KEYS} keys already: retire one of them first")
        # To find an RSA key takes longer than anybody else should have to wait.
        key = await anyio.to_thread.run_sync(new_key, algorithm)
        row = kept.vault.seal(key, _PUBLISHED, call.now)
        async with self._storage.registry_unit() as unit:
            earlier = await attempt.claim(unit, {"kid": row.kid})
            if earlier is None:
                await unit.signing_keys.add(row)
                await _note(unit, call, "signing_key.published", row)
        if earlier is not None:
            return await self._repeated(earlier)
        await self._ring.learn(call.now)
        return _standing(row)

    async def activate(self, call: Call, kid: str, *, immediately: bool = False) -> KeyStanding:
        """It signs from now on, here at once and everywhere within RELOAD_SECONDS; the one before
        it is published on. One that not every verifier can know yet is refused, unless it is to
        sign `immediately`: whoever keeps the set from before it refuses its tokens for a while.
        Raises NotFound, InvalidTransition."""
        self._kept()
        _require_name(kid)
        before = await self._signing()
        async with self._storage.registry_unit() as unit:
            # The one that signs is held before any other, so of two that are to follow it, one
            # waits for the other here.
            held = await unit.signing_keys.get(before.kid)
            if held is None or held.status is not _SIGNING:
                raise InvalidTransition("another key came to sign meanwhile: look again", ("kid",))
            key = await _hold(unit, kid)
            if key.status is _SIGNING:
                raise InvalidTransition("the key signs already", ("kid",))
            if key.status is _RETIRED:
                raise InvalidTransition("the key is retired, which is final", ("kid",))
            ready = key.created_at + OVERLAP
            if call.now < ready and not immediately:
                raise InvalidTransition(
                    f"not every verifier can know the key before {ready.isoformat()}:"
                    " wait for that, or say immediately: true",
                    ("kid",),
                )
            key = replace(key, status=_SIGNING, changed_at=call.now)
            await unit.signing_keys.save(replace(held, status=_PUBLISHED, changed_at=call.now))
            await unit.signing_keys.save(key)
            await _note(
                unit, call, "signing_key.activated", key,
                {"before": held.kid, "immediately": call.now < ready},
            )  # fmt: skip
        await self._ring.learn(call.now)
        return _standing(key)

    async def retire(self, call: Call, kid: str) -> KeyStanding:
        """It is published no more, its private half is forgotten, and every token that it has
        signed is refused from now on, everywhere. Asked again it changes nothing, but makes the
        cut known once more, for whoever was answered Unavailable. Raises NotFound,
        InvalidTransition, Unavailable."""
        self._kept()
        _require_name(kid)
        async with self._storage.registry_unit() as unit:
            key = await _hold(unit, kid)
            if key.status is _SIGNING:
                raise InvalidTransition("the key signs: activate another one first", ("kid",))
            repeated = key.status is _RETIRED
            if not repeated:
                key = replace(key, status=_RETIRED, changed_at=call.now, private_key=b"")
                await unit.signing_keys.save(key)
                await _note(unit, call, "signing_key.retired", key)
        await self._revocations.publish_key(key.kid, key.changed_at, call.now)
        await self._ring.learn(call.now)
        if repeated:
            raise InvalidTransition("the key is retired already", ("kid",))
        return _standing(key)

    def _kept(self) -> KeptKeys:
        """Raises InvalidTransition."""
        if self._ring.kept is None:
            raise InvalidTransition(
                "SIGNING_KEYS says which keys there are: change it there, on every gateway"
            )
        return self._ring.kept

    async def _signing(self) -> SigningKey:
        live = await self._storage.registry.signing_keys.all()
        found = next((key for key in live if key.status is _SIGNING), None)
        if found is None:
            raise InvalidTransition("no key signs: start a gateway, which makes one", ("kid",))
        return found

    async def _repeated(self, earlier: JSONObject) -> KeyStanding:
        key = await self._storage.registry.signing_keys.get(str(earlier["kid"]))
        assert key is not None, "a signing key's row is never deleted"
        return _standing(key)


def _standing(key: SigningKey) -> KeyStanding:
    return KeyStanding(
        key.kid, SigningAlgorithm(key.algorithm), key.status, key.created_at, key.changed_at
    )


def _require_name(kid: str) -> None:
    """Raises NotFound for text that names no key, and that a database may not even take."""
    if len(kid) > _LONGEST_KID or not kid.isascii() or not kid.isprintable():
        raise _unknown()


async def _hold(unit: RegistryUnit, kid: str) -> SigningKey:
    """Raises NotFound."""
    key = await unit.signing_keys.get(kid)
    if key is None:
        raise _unknown()
    return key


def _unknown() -> NotFound:
    return NotFound("there is no such signing key", ("kid",))


async def _note(
    unit: RegistryUnit, call: Call, action: str, key: SigningKey, more: JSONObject | None = None
) -> None:
    said: JSONObject = {"kid": key.kid, "algorithm": key.algorithm, **(more or {})}
    await unit.operator_events.append(call.operator_event(action, None, said))
