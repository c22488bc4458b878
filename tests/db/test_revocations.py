"""The dual-store rule: the cache may refuse, and storage alone accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations, RevocationCache, open_cache
from db.contract import Storage
from db.cuts import CLOCK_LEEWAY_SECONDS
from db.errors import TenantNotProvisioned, Unavailable
from db.namespace import retired_key
from db.records import (
    AgentStatus,
    Credential,
    CredentialStatus,
    SigningKey,
    SigningKeyStatus,
    Tenant,
    TenantStatus,
)
from db.revocations import Revocations
from db.settings import MEMORY, StorageSettings
from db.warmth import LEASE_SECONDS, MARKER
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    SECOND,
    after,
    new_agent,
    new_credential,
    new_revocation,
    new_tenant,
    put,
)
from tests.db.postgres import opened, settings_of
from tests.db.token import Token
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey


@pytest.fixture(params=["memory", "postgres"])
def settings(request: pytest.FixtureRequest) -> StorageSettings:
    if request.param == "memory":
        return StorageSettings.load()
    database: Database = request.getfixturevalue("database")
    return settings_of(database)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    """With the tables of acme and globex."""
    async with opened(settings) as storage:
        for tenant in (ACME, GLOBEX):
            await storage.upkeep.provision(tenant, NOW)
        yield storage


@pytest.fixture
async def unreachable(place: Path) -> AsyncIterator[Storage]:
    """Storage that nothing can be asked of: an answer came from the cache."""
    url = f"postgresql://nobody@/nothing?host={place}"
    async with opened(StorageSettings.load(database_url=url)) as storage:
        yield storage


@pytest.fixture
def acme() -> Tenant:
    return new_tenant("acme", token_generation=5)


@pytest.fixture
def credential() -> Credential:
    return new_credential(uuid4())


@pytest.fixture
async def token(storage: Storage, credential: Credential) -> Token:
    """Of an active agent, nothing revoked."""
    agent = new_agent(agent_id=credential.client_id, token_generation=3)
    await put(storage, ACME, agent, credential)
    return Token(uuid4(), agent.agent_id, credential.credential_id)


async def _set_agent(storage: Storage, token: Token, **changes: object) -> None:
    async with storage.unit(ACME) as unit:
        agent = await unit.agents.get(token.sub)
        assert agent is not None
        await unit.agents.save(replace(agent, **changes))  # type: ignore[arg-type]


async def _revoke_token(storage: Storage, token: Token) -> None:
    await put(storage, ACME, new_revocation(jti=token.jti))


async def _revoke_credential(storage: Storage, token: Token) -> None:
    async with storage.unit(ACME) as unit:
        assert await unit.credentials.revoke_all(token.sub, NOW) == [token.credential_id]


async def _raise_generation(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, token_generation=4)


async def _suspend(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, status=AgentStatus.SUSPENDED)


async def _decommission(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, status=AgentStatus.DECOMMISSIONED)


async def _retire_key(storage: Storage, token: Token) -> None:
    key = SigningKey(token.kid, "ES256", b"", SigningKeyStatus.RETIRED, NOW, NOW)
    async with storage.registry_unit() as unit:
        assert await unit.signing_keys.add(key)


CUTS: dict[str, Callable[[Storage, Token], Awaitable[None]]] = {
    "the token is revoked": _revoke_token,
    "the credential is revoked": _revoke_credential,
    "the generation is raised": _raise_generation,
    "the agent is suspended": _suspend,
    "the agent is decommissioned": _decommission,
    "the key is retired": _retire_key,
}


@pytest.mark.parametrize("status", [SigningKeyStatus.PUBLISHED, SigningKeyStatus.SIGNING])
async def test_a_token_of_a_key_that_is_not_retired_is_accepted(
    storage: Storage, acme: Tenant, token: Token, status: SigningKeyStatus
) -> None:
    async with storage.registry_unit() as unit:
        assert await unit.signing_keys.add(SigningKey("k", "ES256", b"", status, NOW, NOW))
    assert await Revocations(storage, open_cache(MEMORY)).accepts(acme, token)


async def test_a_token_that_nothing_cuts_is_accepted(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    assert await revocations.accepts(acme, token)
    newer = replace(token, gen=(4, 6))
    assert await revocations.accepts(acme, newer)


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_that_the_cache_never_heard_of_is_decided_by_storage(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token, cut: str
) -> None:
    revocations = Revocations(storage, cache)
    assert await revocations.accepts(acme, token)
    await CUTS[cut](storage, token)
    assert not await revocations.accepts(acme, token)


@pytest.mark.parametrize("cut", CUTS)
async def test_without_a_cache_storage_decides(
    storage: Storage, acme: Tenant, token: Token, cut: str
) -> None:
    revocations = Revocations(storage, open_cache(MEMORY))
    assert await revocations.accepts(acme, token)
    await CUTS[cut](storage, token)
    await revocations.publish_token(ACME, token.jti, after(900), NOW, NOW)
    await revocations.publish_credential(ACME, token.credential_id, NOW, NOW)
    await revocations.publish_generation(ACME, token.sub, 4, NOW, NOW)
    await revocations.publish_key(token.kid, NOW, NOW)
    assert not await revocations.accepts(acme, token)
    assert await revocations.cache_answers() is None


async def test_a_cache_that_lost_everything_loses_no_revocation(
    storage: Storage, cache: RevocationCache, redis: Redis, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await _revoke_token(storage, token)
    await revocations.publish_token(ACME, token.jti, FAR, FAR, FAR)
    assert not await revocations.accepts(acme, token)
    await redis.flushdb()
    assert not await revocations.accepts(acme, token)


async def test_a_token_older_than_its_tenant_is_refused_without_asking_anyone(
    unreachable: Storage, acme: Tenant
) -> None:
    revocations = Revocations(unreachable, open_cache(MEMORY))
    old = Token(uuid4(), uuid4(), uuid4(), gen=(3, 4))
    assert not await revocations.accepts(acme, old)


@pytest.mark.parametrize("generation", [(2, 5), (3, 4), (0, 0), (-1, 5)])
async def test_a_token_of_an_older_generation_is_refused(
    storage: Storage,
    cache: RevocationCache,
    acme: Tenant,
    token: Token,
    generation: tuple[int, int],
) -> None:
    revocations = Revocations(storage, cache)
    assert not await revocations.accepts(acme, replace(token, gen=generation))


async def test_a_token_of_nobodys_is_refused(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    other = new_agent(token_generation=3)
    others = new_credential(other.agent_id)
    await put(storage, ACME, other, others)
    revocations = Revocations(storage, cache)
    for wrong in (
        replace(token, sub=uuid4()),
        replace(token, credential_id=uuid4()),
        replace(token, credential_id=others.credential_id),
    ):
        assert not await revocations.accepts(acme, wrong)
    assert await revocations.accepts(acme, token)


async def test_a_token_outlives_the_expiry_of_its_credential(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token, credential: Credential
) -> None:
    expired = replace(credential, expires_at=NOW - SECOND)
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(expired)
    revocations = Revocations(storage, cache)
    assert await revocations.accepts(acme, token)
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(replace(expired, status=CredentialStatus.REVOKED))
    assert not await revocations.accepts(acme, token)


async def test_the_same_ids_at_another_tenant_cut_nothing_here(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await put(storage, GLOBEX, new_revocation(jti=token.jti))
    await _publish_everything(revocations, GLOBEX.value, token)
    assert await revocations.accepts(acme, token)
    globex = new_tenant("globex", token_generation=5)
    assert not await revocations.accepts(globex, token)


async def _publish_everything(revocations: Revocations, slug: str, token: Token) -> None:
    tenant = new_tenant(slug).prefix
    await revocations.publish_token(tenant, token.jti, FAR, FAR, FAR)
    await revocations.publish_credential(tenant, token.credential_id, FAR, FAR)
    await revocations.publish_generation(tenant, token.sub, 4, FAR, FAR)
    await revocations.publish_generation(tenant, None, 6, FAR, FAR)


# By the server's own clock, which no test can set, it lies ahead.
FAR = NOW.replace(year=2199)

PUBLICATIONS: dict[str, Callable[[Revocations, Token], Awaitable[None]]] = {
    "token": lambda revocations, token: revocations.publish_token(ACME, token.jti, FAR, FAR, FAR),
    "credential": lambda revocations, token: revocations.publish_credential(
        ACME, token.credential_id, FAR, FAR
    ),
    "agent": lambda revocations, token: revocations.publish_generation(
        ACME, token.sub, 4, FAR, FAR
    ),
    "tenant": lambda revocations, token: revocations.publish_generation(ACME, None, 6, FAR, FAR),
    "key": lambda revocations, token: revocations.publish_key(token.kid, FAR, FAR),
}


@pytest.mark.parametrize("published", PUBLICATIONS)
async def test_a_hit_refuses_although_storage_cannot_be_asked(
    unreachable: Storage, cache: RevocationCache, acme: Tenant, published: str
) -> None:
    token = Token(uuid4(), uuid4(), uuid4())
    revocations = Revocations(unreachable, cache)
    with pytest.raises(Unavailable):
        await revocations.accepts(acme, token)
    await PUBLICATIONS[published](revocations, token)
    assert not await revocations.accepts(acme, token)


async def test_a_generation_that_the_token_has_reached_is_no_hit(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await revocations.publish_generation(ACME, token.sub, 3, FAR, FAR)
    await revocations.publish_generation(ACME, None, 5, FAR, FAR)
    assert await revocations.accepts(acme, token)


async def test_no_answer_is_made_up_for_a_tenant_without_tables(
    storage: Storage, cache: RevocationCache, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    initech = new_tenant("initech", status=TenantStatus.PROVISIONING)
    with pytest.raises(TenantNotProvisioned):
        await revocations.accepts(initech, token)


# What a warm cache says is believed without storage; what it does not say in so many words is not.


@pytest.fixture
async def warm(cache: RevocationCache) -> RevocationCache:
    warmth = cache.warmth
    assert warmth is not None
    opening = await warmth.claim()
    await warmth.complete(opening, await warmth.hold(opening))
    return cache


async def test_a_warm_cache_accepts_without_asking_storage(
    unreachable: Storage, warm: RevocationCache, acme: Tenant
) -> None:
    revocations = Revocations(unreachable, warm)
    assert await revocations.is_warm()
    assert await revocations.accepts(acme, Token(uuid4(), uuid4(), uuid4()))


@pytest.mark.parametrize("published", PUBLICATIONS)
async def test_a_warm_cache_refuses_what_was_cut(
    unreachable: Storage, warm: RevocationCache, acme: Tenant, published: str
) -> None:
    token = Token(uuid4(), uuid4(), uuid4())
    revocations = Revocations(unreachable, warm)
    await PUBLICATIONS[published](revocations, token)
    assert not await revocations.accepts(acme, token)
    as_is = replace(acme, token_generation=6)
    assert await revocations.accepts(as_is, replace(token, gen=(4, 6))) is (
        published in ("agent", "tenant")
    )


async def test_a_row_from_before_the_tenants_last_cut_is_not_enough_for_a_warm_cache(
    unreachable: Storage, warm: RevocationCache, acme: Tenant
) -> None:
    """A token from after it may be good; the row says no more whether its tenant is."""
    newer = Token(uuid4(), uuid4(), uuid4(), gen=(4, 6))
    revocations = Revocations(unreachable, warm)
    assert await revocations.heard(acme, newer) is True
    assert await revocations.is_current(acme)
    await revocations.publish_generation(ACME, None, 6, FAR, FAR)
    assert await revocations.heard(acme, newer) is None
    assert not await revocations.is_current(acme)
    with pytest.raises(Unavailable):
        await revocations.accepts(acme, newer)
    assert await revocations.is_current(replace(acme, token_generation=6))


@pytest.mark.parametrize("value", [b"", b"x", b"-9", b"2147483648"])
async def test_a_row_is_proven_by_a_warm_cache_and_a_generation_of_ours(
    unreachable: Storage, warm: RevocationCache, redis: Redis, acme: Tenant, value: bytes
) -> None:
    revocations = Revocations(unreachable, warm)
    await redis.set(ACME.tenant_generation_key, value)
    assert not await revocations.is_current(acme)
    await redis.set(ACME.tenant_generation_key, b"5")
    assert await revocations.is_current(acme)
    await redis.delete(MARKER)
    assert not await revocations.is_current(acme)


async def test_a_killed_tenants_token_is_refused_whatever_its_generation(
    storage: Storage, warm: RevocationCache, acme: Tenant, token: Token
) -> None:
    killed = replace(acme, kill_switched_at=NOW)
    for cache in (warm, open_cache(MEMORY)):
        revocations = Revocations(storage, cache)
        assert await revocations.accepts(acme, token)
        assert not await revocations.accepts(killed, token)
        assert await revocations.heard(killed, token) is False
        assert not await revocations.stored(killed, token)


@pytest.mark.parametrize("value", [b"", b"0", b"-9", b"9.5", b"2147483648"])
@pytest.mark.parametrize("which", range(5))
async def test_what_is_none_of_ours_is_decided_by_storage_although_the_cache_is_warm(
    unreachable: Storage,
    warm: RevocationCache,
    redis: Redis,
    acme: Tenant,
    value: bytes,
    which: int,
) -> None:
    if which >= 3 and value == b"0":
        return  # A generation, and the lowest.
    token = Token(uuid4(), uuid4(), uuid4())
    key = (
        ACME.revoked_key(token.jti),
        ACME.revoked_key(token.credential_id),
        retired_key(token.kid),
        ACME.agent_generation_key(token.sub),
        ACME.tenant_generation_key,
    )[which]
    await redis.set(key, value)
    with pytest.raises(Unavailable):
        await Revocations(unreachable, warm).accepts(acme, token)


async def test_without_its_marker_the_cache_is_cold(
    unreachable: Storage, warm: RevocationCache, redis: Redis, acme: Tenant
) -> None:
    revocations = Revocations(unreachable, warm)
    await redis.delete(MARKER)
    assert not await revocations.is_warm()
    with pytest.raises(Unavailable):
        await revocations.accepts(acme, Token(uuid4(), uuid4(), uuid4()))


async def test_a_token_older_than_its_tenant_is_refused_by_a_warm_cache_too(
    unreachable: Storage, warm: RevocationCache, acme: Tenant
) -> None:
    """The registry's row knows it first."""
    old = Token(uuid4(), uuid4(), uuid4(), gen=(3, 4))
    assert not await Revocations(unreachable, warm).accepts(acme, old)


# When a cut counts as made.

PUBLISHING: dict[str, Callable[[Revocations, datetime, datetime], Awaitable[None]]] = {
    "token": lambda revocations, since, now: revocations.publish_token(
        ACME, UUID(int=1), FAR, since, now
    ),
    "credential": lambda revocations, since, now: revocations.publish_credential(
        ACME, UUID(int=2), since, now
    ),
    "agent": lambda revocations, since, now: revocations.publish_generation(
        ACME, UUID(int=3), 1, since, now
    ),
    "tenant": lambda revocations, since, now: revocations.publish_generation(
        ACME, None, 1, since, now
    ),
    "key": lambda revocations, since, now: revocations.publish_key("k", since, now),
}


@pytest.mark.parametrize("kind", PUBLISHING)
async def test_without_the_server_a_cut_counts_once_every_lease_is_over(
    unreachable: Storage, place: Path, kind: str
) -> None:
    revocations = Revocations(unreachable, open_cache(f"unix://{place}/nothing.sock"))
    publish = PUBLISHING[kind]
    over = LEASE_SECONDS + CLOCK_LEEWAY_SECONDS
    for passed, left in ((0, over), (-5, over + 5), (10.5, over - 10), (over - 0.001, 1)):
        with pytest.raises(Unavailable) as refused:
            await publish(revocations, NOW, after(passed))
        assert refused.value.retry_after == left
    await publish(revocations, NOW, after(over))
    await publish(revocations, NOW, after(10_000))
    await revocations.close()


@pytest.mark.parametrize("kind", PUBLISHING)
async def test_a_server_that_takes_no_key_is_made_cold_instead(
    unreachable: Storage, acme: Tenant, kind: str
) -> None:
    with temporary_place() as room:
        server = Valkey(room / "valkey")
        server.start()
        cache = RedisRevocations(server.url())
        try:
            opening = await cache.warmth.claim()
            await cache.warmth.complete(opening, opening)
            begun = await cache.warmth.claim()
            async with Redis.from_url(server.url()) as client:
                await client.config_set("maxmemory", 1)
            revocations = Revocations(unreachable, cache)
            assert await revocations.is_warm()
            await PUBLISHING[kind](revocations, NOW, NOW)
            assert not await revocations.is_warm()
            async with Redis.from_url(server.url()) as client:
                await client.config_set("maxmemory", 0)
                assert await client.keys("{acme}*") == await client.keys("revocations:key:*") == []
            # Nor is it warm again by a warm-up that may have read before the commit.
            with pytest.raises(Unavailable):
                await cache.warmth.complete(begun, begun)
        finally:
            await cache.close()
            server.stop()


@pytest.mark.parametrize("kind", PUBLISHING)
async def test_a_key_that_is_there_is_enough_whatever_the_marker(
    unreachable: Storage, warm: RevocationCache, redis: Redis, kind: str
) -> None:
    revocations = Revocations(unreachable, warm)
    await PUBLISHING[kind](revocations, FAR, FAR)
    assert len(await redis.keys("{acme}*") + await redis.keys("revocations:key:*")) == 1
    assert await revocations.is_warm()


@pytest.mark.parametrize("kind", PUBLISHING)
async def test_where_there_is_no_cache_a_cut_counts_at_once(
    unreachable: Storage, kind: str
) -> None:
    revocations = Revocations(unreachable, open_cache(MEMORY))
    await PUBLISHING[kind](revocations, NOW, NOW)
    await revocations.require_ear()
    assert not await revocations.is_warm()


async def test_whoever_has_something_to_lose_can_ask_before(
    unreachable: Storage, cache: RevocationCache, place: Path
) -> None:
    await Revocations(unreachable, cache).require_ear()
    deaf = Revocations(unreachable, open_cache(f"unix://{place}/nothing.sock"))
    with pytest.raises(Unavailable):
        await deaf.require_ear()
    await deaf.close()
