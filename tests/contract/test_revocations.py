"""Revocations: kept once, seen at once, and all that decides about a live token in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from db.contract import Storage
from db.cuts import (
    CUT_LIFE,
    LEAST_ID,
    Cut,
    CutKind,
    Cuts,
    cut_until,
    token_until,
)
from db.records import AgentStatus, CredentialStatus, Standing
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    SECOND,
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


async def test_a_revocation_is_kept_as_it_was_first_added(storage: Storage) -> None:
    revocation = new_revocation()
    await put(storage, ACME, revocation)
    async with storage.unit(ACME) as unit:
        await unit.revocations.add(replace(revocation, expires_at=after(1), revoked_at=after(1)))
    reader = storage.read(ACME).revocations
    assert await reader.get(revocation.jti) == revocation
    assert await reader.get(uuid4()) is None
    assert await storage.read(GLOBEX).revocations.get(revocation.jti) is None


def _every(kind: CutKind, found: Sequence[Cuts]) -> list[Cut]:
    return [cut for cuts in found if cuts.kind is kind for cut in cuts]


async def _cuts(
    storage: Storage, kind: CutKind, since: datetime | None = None, now: datetime = NOW
) -> list[Cut]:
    """As they are found in one go, two at a time, and among the recent ones."""
    reader = storage.read(ACME).revocations
    whole = list(await reader.cuts(kind, now, since, LEAST_ID, 100))
    pages: list[Cut] = []
    while page := await reader.cuts(kind, now, since, pages[-1].id if pages else LEAST_ID, 2):
        assert page.kind is kind
        assert len(page) <= 2
        pages += page
        assert page.last == pages[-1].id
    assert pages == whole
    assert [cut.id for cut in whole] == sorted(cut.id for cut in whole)
    recent = await reader.recent_cuts(now, since or datetime.min.replace(tzinfo=UTC), 100)
    assert all(recent)
    assert _every(kind, recent) == whole
    return whole


async def test_nothing_cuts_where_nothing_was_cut(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent, new_credential(agent.agent_id))
    for kind in CutKind:
        assert await _cuts(storage, kind) == []
    assert await storage.read(ACME).revocations.recent_cuts(NOW, NOW, 10) == []


async def test_revoked_tokens_cut_until_they_would_have_ended(storage: Storage) -> None:
    whole = NOW.replace(microsecond=0)
    ends = {
        uuid4(): end
        for end in (
            whole + SECOND,
            whole + SECOND + MICROSECOND,
            whole + 2 * SECOND - MICROSECOND,
            after(900),
            NOW.replace(year=2199),
        )
    }
    await put(
        storage,
        ACME,
        *(new_revocation(jti=jti, expires_at=end) for jti, end in ends.items()),
        new_revocation(expires_at=NOW),
        new_revocation(expires_at=after(-1)),
    )
    found = await _cuts(storage, CutKind.TOKEN)
    assert {cut.id: cut.until for cut in found} == {
        jti: token_until(end) for jti, end in ends.items()
    }
    assert {cut.generation for cut in found} == {None}


async def test_revoked_credentials_cut_for_the_longest_life_of_a_token(storage: Storage) -> None:
    agent = new_agent()
    live = [
        new_credential(agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=at)
        for at in (NOW, after(-0.5), NOW - CUT_LIFE + MICROSECOND)
    ]
    over = new_credential(
        agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=NOW - CUT_LIFE
    )
    ended = new_credential(
        agent.agent_id, status=CredentialStatus.REVOKED, revoked_at=NOW, expires_at=NOW
    )
    live += [replace(ended, credential_id=uuid4(), expires_at=after(at)) for at in (-1, 1)]
    await put(storage, ACME, agent, *live, over, ended, new_credential(agent.agent_id))
    found = await _cuts(storage, CutKind.CREDENTIAL)
    assert {cut.id: (cut.until, cut.generation) for cut in found} == {
        each.credential_id: (cut_until(each.revoked_at or NOW), None) for each in live
    }


async def test_raised_generations_cut_for_the_longest_life_of_a_token(storage: Storage) -> None:
    live = [
        new_agent(token_generation=generation, updated_at=at)
        for generation, at in (
            (1, NOW),
            (2**31 - 1, after(-0.5)),
            (7, NOW - CUT_LIFE + MICROSECOND),
        )
    ]
    over = new_agent(token_generation=3, updated_at=NOW - CUT_LIFE)
    await put(storage, ACME, *live, over, new_agent())
    found = await _cuts(storage, CutKind.AGENT)
    assert {cut.id: (cut.until, cut.generation) for cut in found} == {
        each.agent_id: (cut_until(each.updated_at), each.token_generation) for each in live
    }


async def test_what_was_cut_since_an_instant_is_found_by_itself(storage: Storage) -> None:
    agents = [new_agent(token_generation=1, updated_at=after(at)) for at in (-1, 0, 1)]
    credentials = [
        new_credential(agents[0].agent_id, status=CredentialStatus.REVOKED, revoked_at=after(at))
        for at in (-1, 0, 1)
    ]
    revocations = [new_revocation(revoked_at=after(at)) for at in (-1, 0, 1)]
    await put(storage, ACME, *agents, *credentials, *revocations)
    expected = {
        CutKind.TOKEN: [each.jti for each in revocations],
        CutKind.CREDENTIAL: [each.credential_id for each in credentials],
        CutKind.AGENT: [each.agent_id for each in agents],
    }
    for kind, ids in expected.items():
        assert {cut.id for cut in await _cuts(storage, kind)} == set(ids)
        assert {cut.id for cut in await _cuts(storage, kind, NOW)} == set(ids[1:])
        assert {cut.id for cut in await _cuts(storage, kind, NOW + MICROSECOND)} == set(ids[2:])


async def test_of_many_recent_cuts_only_the_first_are_told(storage: Storage) -> None:
    revocations = [new_revocation() for _ in range(5)]
    await put(storage, ACME, *revocations, new_agent(token_generation=1))
    tokens, agents = await storage.read(ACME).revocations.recent_cuts(NOW, NOW, 3)
    assert [cut.id for cut in tokens] == sorted(each.jti for each in revocations)[:3]
    assert len(agents) == 1
