"""The dual-store rule: the cache may refuse, and storage alone accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.contract import Storage
from db.errors import TenantNotProvisioned, Unavailable
from db.records import AgentStatus, Credential, CredentialStatus, Tenant, TenantStatus
from db.revocations import RevocationCache, Revocations, open_cache
from db.settings import MEMORY, StorageSettings
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
from tests.servers.databases import Database


@dataclass(frozen=True)
class Token:
    """What a token that verifies says of itself."""

    jti: UUID
    agent_id: UUID
    credential_id: UUID
    generation: tuple[int, int] = (3, 5)


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
async def cache(redis: Redis, redis_url: str) -> AsyncIterator[RevocationCache]:
    made = open_cache(redis_url)
    yield made
    await made.close()


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


async def accepts(revocations: Revocations, tenant: Tenant, token: Token) -> bool:
    return await revocations.accepts(
        tenant,
        jti=token.jti,
        agent_id=token.agent_id,
        credential_id=token.credential_id,
        generation=token.generation,
    )


async def _set_agent(storage: Storage, token: Token, **changes: object) -> None:
    async with storage.unit(ACME) as unit:
        agent = await unit.agents.get(token.agent_id)
        assert agent is not None
        await unit.agents.save(replace(agent, **changes))  # type: ignore[arg-type]


async def _revoke_token(storage: Storage, token: Token) -> None:
    await put(storage, ACME, new_revocation(jti=token.jti))


async def _revoke_credential(storage: Storage, token: Token) -> None:
    async with storage.unit(ACME) as unit:
        assert await unit.credentials.revoke_all(token.agent_id, NOW) == [token.credential_id]


async def _raise_generation(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, token_generation=4)


async def _suspend(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, status=AgentStatus.SUSPENDED)


async def _decommission(storage: Storage, token: Token) -> None:
    await _set_agent(storage, token, status=AgentStatus.DECOMMISSIONED)


CUTS: dict[str, Callable[[Storage, Token], Awaitable[None]]] = {
    "the token is revoked": _revoke_token,
    "the credential is revoked": _revoke_credential,
    "the generation is raised": _raise_generation,
    "the agent is suspended": _suspend,
    "the agent is decommissioned": _decommission,
}


async def test_a_token_that_nothing_cuts_is_accepted(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    assert await accepts(revocations, acme, token)
    newer = replace(token, generation=(4, 6))
    assert await accepts(revocations, acme, newer)


@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_that_the_cache_never_heard_of_is_decided_by_storage(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token, cut: str
) -> None:
    revocations = Revocations(storage, cache)
    assert await accepts(revocations, acme, token)
    await CUTS[cut](storage, token)
    assert not await accepts(revocations, acme, token)


@pytest.mark.parametrize("cut", CUTS)
async def test_without_a_cache_storage_decides(
    storage: Storage, acme: Tenant, token: Token, cut: str
) -> None:
    revocations = Revocations(storage, open_cache(MEMORY))
    assert await accepts(revocations, acme, token)
    await CUTS[cut](storage, token)
    await revocations.publish_token(ACME, token.jti, after(900), NOW, NOW)
    await revocations.publish_credential(ACME, token.credential_id, NOW, NOW)
    await revocations.publish_generation(ACME, token.agent_id, 4, NOW, NOW)
    assert not await accepts(revocations, acme, token)
    assert await revocations.cache_answers() is None


async def test_a_cache_that_lost_everything_loses_no_revocation(
    storage: Storage, cache: RevocationCache, redis: Redis, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await _revoke_token(storage, token)
    await revocations.publish_token(ACME, token.jti, FAR, FAR, FAR)
    assert not await accepts(revocations, acme, token)
    await redis.flushdb()
    assert not await accepts(revocations, acme, token)


async def test_a_token_older_than_its_tenant_is_refused_without_asking_anyone(
    unreachable: Storage, acme: Tenant
) -> None:
    revocations = Revocations(unreachable, open_cache(MEMORY))
    old = Token(uuid4(), uuid4(), uuid4(), generation=(3, 4))
    assert not await accepts(revocations, acme, old)


@pytest.mark.parametrize("generation", [(2, 5), (3, 4), (0, 0), (-1, 5)])
async def test_a_token_of_an_older_generation_is_refused(
    storage: Storage,
    cache: RevocationCache,
    acme: Tenant,
    token: Token,
    generation: tuple[int, int],
) -> None:
    revocations = Revocations(storage, cache)
    assert not await accepts(revocations, acme, replace(token, generation=generation))


async def test_a_token_of_nobodys_is_refused(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    other = new_agent(token_generation=3)
    others = new_credential(other.agent_id)
    await put(storage, ACME, other, others)
    revocations = Revocations(storage, cache)
    for wrong in (
        replace(token, agent_id=uuid4()),
        replace(token, credential_id=uuid4()),
        replace(token, credential_id=others.credential_id),
    ):
        assert not await accepts(revocations, acme, wrong)
    assert await accepts(revocations, acme, token)


async def test_a_token_outlives_the_expiry_of_its_credential(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token, credential: Credential
) -> None:
    expired = replace(credential, expires_at=NOW - SECOND)
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(expired)
    revocations = Revocations(storage, cache)
    assert await accepts(revocations, acme, token)
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(replace(expired, status=CredentialStatus.REVOKED))
    assert not await accepts(revocations, acme, token)


async def test_the_same_ids_at_another_tenant_cut_nothing_here(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await put(storage, GLOBEX, new_revocation(jti=token.jti))
    await _publish_everything(revocations, GLOBEX.value, token)
    assert await accepts(revocations, acme, token)
    globex = new_tenant("globex", token_generation=5)
    assert not await accepts(revocations, globex, token)


async def _publish_everything(revocations: Revocations, slug: str, token: Token) -> None:
    tenant = new_tenant(slug).prefix
    await revocations.publish_token(tenant, token.jti, FAR, FAR, FAR)
    await revocations.publish_credential(tenant, token.credential_id, FAR, FAR)
    await revocations.publish_generation(tenant, token.agent_id, 4, FAR, FAR)
    await revocations.publish_generation(tenant, None, 6, FAR, FAR)


# By the server's own clock, which no test can set, it lies ahead.
FAR = NOW.replace(year=2199)

PUBLICATIONS: dict[str, Callable[[Revocations, Token], Awaitable[None]]] = {
    "token": lambda revocations, token: revocations.publish_token(ACME, token.jti, FAR, FAR, FAR),
    "credential": lambda revocations, token: revocations.publish_credential(
        ACME, token.credential_id, FAR, FAR
    ),
    "agent": lambda revocations, token: revocations.publish_generation(
        ACME, token.agent_id, 4, FAR, FAR
    ),
    "tenant": lambda revocations, token: revocations.publish_generation(ACME, None, 6, FAR, FAR),
}


@pytest.mark.parametrize("published", PUBLICATIONS)
async def test_a_hit_refuses_although_storage_cannot_be_asked(
    unreachable: Storage, cache: RevocationCache, acme: Tenant, published: str
) -> None:
    token = Token(uuid4(), uuid4(), uuid4())
    revocations = Revocations(unreachable, cache)
    with pytest.raises(Unavailable):
        await accepts(revocations, acme, token)
    await PUBLICATIONS[published](revocations, token)
    assert not await accepts(revocations, acme, token)


async def test_a_generation_that_the_token_has_reached_is_no_hit(
    storage: Storage, cache: RevocationCache, acme: Tenant, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    await revocations.publish_generation(ACME, token.agent_id, 3, FAR, FAR)
    await revocations.publish_generation(ACME, None, 5, FAR, FAR)
    assert await accepts(revocations, acme, token)


async def test_no_answer_is_made_up_for_a_tenant_without_tables(
    storage: Storage, cache: RevocationCache, token: Token
) -> None:
    revocations = Revocations(storage, cache)
    initech = new_tenant("initech", status=TenantStatus.PROVISIONING)
    with pytest.raises(TenantNotProvisioned):
        await accepts(revocations, initech, token)
