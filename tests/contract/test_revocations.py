"""Revocations: kept once, seen at once, and all that decides about a live token in one answer."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from db.contract import Storage
from db.records import AgentStatus, CredentialStatus, Standing
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    after,
    new_agent,
    new_credential,
    new_revocation,
    put,
    put_and_interrupt,
)


async def test_a_revoked_token_is_known_and_no_other(storage: Storage) -> None:
    revocation = new_revocation()
    await put(storage, ACME, revocation)
    assert await storage.read(ACME).revocations.contains(revocation.jti)
    assert not await storage.read(ACME).revocations.contains(uuid4())
    assert not await storage.read(GLOBEX).revocations.contains(revocation.jti)


async def test_revoking_again_is_not_new(storage: Storage) -> None:
    revocation = new_revocation()
    async with storage.unit(ACME) as unit:
        assert await unit.revocations.add(revocation) is True
        assert await unit.revocations.add(revocation) is False
    async with storage.unit(ACME) as unit:
        again = replace(revocation, expires_at=after(1), revoked_at=after(1))
        assert await unit.revocations.add(again) is False
        assert await unit.revocations.add(new_revocation()) is True
    assert await storage.read(ACME).revocations.contains(revocation.jti)


async def test_a_revocation_that_was_not_committed_is_new_again(storage: Storage) -> None:
    revocation = new_revocation()
    await put_and_interrupt(storage, ACME, revocation)
    assert not await storage.read(ACME).revocations.contains(revocation.jti)
    async with storage.unit(ACME) as unit:
        assert await unit.revocations.add(revocation) is True


async def test_a_revocation_is_known_as_long_as_it_is_kept(storage: Storage) -> None:
    ended = new_revocation(expires_at=after(-60), revoked_at=after(-120))
    await put(storage, ACME, ended)
    assert await storage.read(ACME).revocations.contains(ended.jti)


@pytest.mark.parametrize("status", list(AgentStatus))
async def test_standing_is_what_decides_about_a_token(
    storage: Storage, status: AgentStatus
) -> None:
    agent = new_agent(status=status, token_generation=7)
    credential = new_credential(
        agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=NOW, expires_at=after(60)
    )
    revocation = new_revocation()
    await put(storage, ACME, agent, credential, revocation)
    standing = storage.read(ACME).revocations.standing
    assert await standing(uuid4(), agent.agent_id, credential.credential_id) == Standing(
        revoked=False, agent_status=status, token_generation=7, credential=credential
    )
    assert await standing(revocation.jti, agent.agent_id, credential.credential_id) == Standing(
        revoked=True, agent_status=status, token_generation=7, credential=credential
    )


async def test_an_unknown_agent_has_no_standing(storage: Storage) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    revocation = new_revocation()
    await put(storage, ACME, agent, credential, revocation)
    standing = storage.read(ACME).revocations.standing
    assert await standing(revocation.jti, uuid4(), credential.credential_id) is None


async def test_a_token_stands_without_a_credential_that_is_unknown_or_anothers(
    storage: Storage,
) -> None:
    agent, other = new_agent(), new_agent()
    foreign = new_credential(other.agent_id)
    await put(storage, ACME, agent, other, foreign, new_credential(agent.agent_id))
    standing = storage.read(ACME).revocations.standing
    for credential_id in (uuid4(), foreign.credential_id):
        assert await standing(uuid4(), agent.agent_id, credential_id) == Standing(
            revoked=False,
            agent_status=AgentStatus.ACTIVE,
            token_generation=0,
            credential=None,
        )


async def test_standing_follows_every_change(storage: Storage) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id)
    await put(storage, ACME, agent, credential)
    revocation = new_revocation()
    async with storage.unit(ACME) as unit:
        await unit.agents.save(replace(agent, status=AgentStatus.SUSPENDED, token_generation=1))
        await unit.credentials.revoke_all(agent.agent_id, after(1))
        await unit.revocations.add(revocation)
    standing = storage.read(ACME).revocations.standing
    assert await standing(revocation.jti, agent.agent_id, credential.credential_id) == Standing(
        revoked=True,
        agent_status=AgentStatus.SUSPENDED,
        token_generation=1,
        credential=replace(credential, status=CredentialStatus.REVOKED, revoked_at=after(1)),
    )
