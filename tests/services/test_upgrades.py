"""Hashes follow BCRYPT_COST: made anew when their secret is shown, and never at a login's cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db.errors import Unavailable
from db.records import Credential, CredentialStatus
from gateway.auth.secrets import tag_of
from gateway.settings import GatewaySettings
from tests.contract.cast import ACME
from tests.gateway import CHEAPEST_BCRYPT, Client, RunningGateway, running
from tests.services.logins import Counting, log_in, outcome

DEARER = CHEAPEST_BCRYPT + 2
"""BCRYPT_COST from now on; what is stored so far is cheaper."""


async def stored(gateway: RunningGateway, client: Client) -> Credential:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    [credential] = await reader.of_client(UUID(client.client_id), gateway.clock.now)
    return credential


@pytest.fixture
def hasher() -> Counting:
    return Counting()


@pytest.fixture
async def gateway(backend: GatewaySettings, hasher: Counting) -> AsyncIterator[RunningGateway]:
    async with running(backend, hasher=hasher) as started:
        yield started


async def settled(gateway: RunningGateway) -> None:
    """As at the end of the process, which may come at any time."""
    await gateway.gateway.clients.close()


async def test_a_cheaper_hash_is_replaced_by_one_of_the_cost_that_is_set(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    before = await stored(gateway, admin)
    hasher.cost = DEARER
    await log_in(gateway, admin)
    await settled(gateway)
    after = await stored(gateway, admin)
    assert after.secret_hash.startswith(f"$2b$0{DEARER}$")
    assert replace(after, secret_hash="", last_used_at=None) == replace(
        before, secret_hash="", last_used_at=None
    )
    # Known already to match: no hash is compared for it again.
    runs = hasher.runs
    assert await outcome(gateway, admin) == "OK"
    assert await outcome(gateway, replace(admin, secret=admin.secret[:-1])) == "INVALID_CLIENT"
    assert hasher.runs == runs + 1


async def test_one_that_is_as_dear_or_dearer_is_left_as_it_is(
    gateway: RunningGateway, hasher: Counting
) -> None:
    hasher.cost = DEARER
    admin = await gateway.onboard()
    before = await stored(gateway, admin)
    for cost in (DEARER, CHEAPEST_BCRYPT):
        hasher.cost = cost
        await log_in(gateway, admin)
        await settled(gateway)
        assert (await stored(gateway, admin)).secret_hash == before.secret_hash


async def test_one_without_a_tag_is_given_it_and_keeps_its_hash(
    gateway: RunningGateway, hasher: Counting
) -> None:
    """As older versions made them."""
    admin = await gateway.onboard()
    before = await stored(gateway, admin)
    await untag(gateway, before)
    await log_in(gateway, admin)
    await settled(gateway)
    after = await stored(gateway, admin)
    assert (after.secret_tag, after.secret_hash) == (tag_of(admin.secret), before.secret_hash)


async def untag(gateway: RunningGateway, credential: Credential) -> None:
    """In another row, with the same secret: no store takes a tag away."""
    async with gateway.gateway.storage.unit(ACME) as unit:
        ended = replace(credential, status=CredentialStatus.REVOKED, revoked_at=gateway.clock.now)
        await unit.credentials.save(ended)
        await unit.credentials.add(replace(credential, credential_id=UUID(int=1), secret_tag=None))


async def test_a_wrong_secret_changes_nothing(gateway: RunningGateway, hasher: Counting) -> None:
    admin = await gateway.onboard()
    before = await stored(gateway, admin)
    hasher.cost = DEARER
    assert await outcome(gateway, replace(admin, secret="x")) == "INVALID_CLIENT"
    await settled(gateway)
    assert await stored(gateway, admin) == before


async def test_a_crowd_makes_one(gateway: RunningGateway, hasher: Counting) -> None:
    admin = await gateway.onboard()
    hasher.cost = DEARER
    before = hasher.runs
    assert await asyncio.gather(*(outcome(gateway, admin) for _ in range(50))) == ["OK"] * 50
    await settled(gateway)
    assert hasher.runs == before + 2


async def test_what_was_revoked_meanwhile_is_left_as_it_is(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    credential = await stored(gateway, worker)
    hasher.cost = DEARER
    with hasher.held():
        await log_in(gateway, worker)
        call = await gateway.as_caller(admin)
        revoked = await gateway.gateway.credentials.revoke(call, credential.credential_id)
    await settled(gateway)
    reader = gateway.gateway.storage.read(worker.prefix).credentials
    after = await reader.get(credential.credential_id)
    assert after is not None
    assert (after.status, after.secret_hash) == (revoked.status, credential.secret_hash)
    assert await outcome(gateway, worker) == "INVALID_CLIENT"


async def test_a_login_does_not_fail_by_it(backend: GatewaySettings) -> None:
    """Neither when there is no room to hash, nor when nothing can be stored."""

    class Full(Counting):
        async def hash(self, secret: str, whence: str = "") -> Any:
            if self.cost == DEARER:
                raise Unavailable("too many secrets are being hashed")
            return await super().hash(secret, whence)

    hasher = Full()
    async with running(backend, hasher=hasher) as gateway:
        admin = await gateway.onboard()
        before = await stored(gateway, admin)
        hasher.cost = DEARER
        assert await outcome(gateway, admin) == "OK"
        await settled(gateway)
        after = await stored(gateway, admin)
        assert after.secret_hash == before.secret_hash
        assert await outcome(gateway, admin) == "OK"
