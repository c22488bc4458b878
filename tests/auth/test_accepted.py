"""A token is looked at once and remembered: that must never make it better than it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from db.errors import Unauthenticated
from db.memory.storage import MemoryStorage
from db.records import SigningAlgorithm, SigningKeyStatus
from gateway.auth.accepted import AcceptedTokens
from gateway.auth.keyring import RELOAD_SECONDS, SEARCH_SECONDS, KeySet, load_keys
from gateway.auth.keys import new_key
from gateway.auth.tokens import TokenAuthority
from gateway.auth.vault import Vault
from tests.auth import forging
from tests.auth.forging import NOW, SECOND, TTL, Forge
from tests.auth.test_tokens import records
from tests.gateway import KEY_ENCRYPTION_SECRET, PUBLIC_URL, RunningGateway, memory_settings


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(SECOND, UTC) + timedelta(seconds=seconds)


class TestRemembered:
    async def test_it_ends_when_it_ends(self, forge: Forge) -> None:
        token = forge.token()
        for _ in range(2):
            assert await forge.accepts(token, at(TTL - 1))
        assert await forge.refuses(token, at(TTL))
        assert await forge.refuses(token, at(TTL + 1000))

    async def test_it_does_not_begin_before_its_time(self, forge: Forge) -> None:
        token = forge.token(nbf=SECOND + 100)
        assert await forge.accepts(token, at(100))
        assert await forge.refuses(token, at(0))

    async def test_its_audience_is_asked_each_time(self, forge: Forge) -> None:
        token = forge.token(aud="https://api.example.com")
        assert await forge.authority.verify(token, NOW, audience="")
        assert await forge.refuses(token)
        assert await forge.authority.verify(token, NOW, audience="https://api.example.com")
        with pytest.raises(Unauthenticated):
            await forge.authority.verify(token, NOW, audience="https://api.example.org")

    async def test_another_text_is_another_token(self, forge: Forge) -> None:
        token = forge.token()
        assert await forge.accepts(token)
        head, payload, signature = token.split(".")
        for other in (
            token + "=", token + ".", f"{token} ", token[:-1], f"{head}.{payload}.",
            f"{head}.{payload}", f"{head}.{signature}.{payload}", token.swapcase(),
        ):  # fmt: skip
            assert await forge.refuses(other)
        assert await forge.accepts(token)

    async def test_its_revocation_is_asked_each_time(self, in_memory: RunningGateway) -> None:
        admin = await in_memory.onboard()
        token = await in_memory.token(admin)
        call = await in_memory.as_caller(admin)
        bearer = in_memory.gateway.authenticator.bearer
        for _ in range(2):
            await bearer([f"Bearer {token}"], call.now)
        await in_memory.gateway.tokens.revoke(call, token)
        with pytest.raises(Unauthenticated):
            await bearer([f"Bearer {token}"], call.now)


async def test_a_token_is_forgotten_with_its_key() -> None:
    """Whatever the cuts say: the key left the ring."""
    storage = MemoryStorage()
    settings = memory_settings(key_encryption_secret=KEY_ENCRYPTION_SECRET)
    ring = await load_keys(settings, storage, NOW)
    authority = TokenAuthority(ring, PUBLIC_URL, TTL)
    tenant, agent, credential = records()
    old = await authority.issue(tenant, agent, credential, "a:b", [], NOW)
    assert await authority.verify(old.access_token, NOW)

    async with storage.registry_unit() as unit:
        row = await unit.signing_keys.get(ring.known.signing.kid)
        assert row is not None
        retired = Vault(KEY_ENCRYPTION_SECRET).seal(
            ring.known.signing, SigningKeyStatus.RETIRED, NOW
        )
        await unit.signing_keys.save(retired)
        fresh = new_key(SigningAlgorithm.EDDSA)
        sealed = Vault(KEY_ENCRYPTION_SECRET).seal(fresh, SigningKeyStatus.SIGNING, NOW)
        assert await unit.signing_keys.add(sealed)
    later = NOW + timedelta(seconds=RELOAD_SECONDS)
    new = await authority.issue(tenant, agent, credential, "a:b", [], later)
    assert (await authority.verify(new.access_token, later)).kid == fresh.kid
    with pytest.raises(Unauthenticated):
        await authority.verify(old.access_token, later)


async def test_a_refusal_is_not_remembered() -> None:
    """A token that nobody here could verify is good as soon as its key is known."""
    storage = MemoryStorage()
    settings = memory_settings(key_encryption_secret=KEY_ENCRYPTION_SECRET)
    authority = TokenAuthority(await load_keys(settings, storage, NOW), PUBLIC_URL, TTL)
    fresh = new_key(SigningAlgorithm.ES256)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": fresh.kid}
    token = forging.signed(fresh.private, header, (await Forge.of("ES256")).claims)
    with pytest.raises(Unauthenticated):
        await authority.verify(token, NOW)
    async with storage.registry_unit() as unit:
        vault = Vault(KEY_ENCRYPTION_SECRET)
        await unit.signing_keys.add(vault.seal(fresh, SigningKeyStatus.PUBLISHED, NOW))
    assert await authority.verify(token, NOW + timedelta(seconds=SEARCH_SECONDS))


async def test_the_last_that_were_asked_for_are_remembered_and_no_others() -> None:
    forge = await Forge.of("ES256")
    claims = await forge.authority.verify(forge.token(), NOW)
    keys, remembered = KeySet([new_key(SigningAlgorithm.ES256)]), AcceptedTokens(2)
    for digest in (b"a", b"b"):
        remembered.keep(digest, claims, keys)
    assert remembered.get(b"a", keys) is claims
    remembered.keep(b"c", claims, keys)
    assert len(remembered) == 2
    assert remembered.get(b"b", keys) is None
    assert remembered.get(b"a", keys) is claims
    other = KeySet(keys.keys)
    assert remembered.get(b"a", other) is None
    remembered.keep(b"d", claims, other)
    assert len(remembered) == 1
