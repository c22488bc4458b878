"""Credentials that have come to their own end: which these are, and what becomes of tokens."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from db.contract import Storage
from db.records import CredentialStatus
from tests.contract.cast import ACME, MICROSECOND, NOW, after, new_agent, new_credential, put


async def test_the_longest_ended_come_first_and_no_more_than_are_asked_for(
    storage: Storage,
) -> None:
    agent = new_agent()
    ends = (after(-3), after(-2), after(-2), NOW, NOW + MICROSECOND, None)
    made = [new_credential(agent.agent_id, expires_at=end) for end in ends]
    gone = new_credential(
        agent.agent_id,
        expires_at=after(-9),
        status=CredentialStatus.REVOKED,
        revoked_at=after(-9),
    )
    await put(storage, ACME, agent, gone, *reversed(made))

    expected = sorted(made[:4], key=lambda each: (each.expires_at, each.credential_id))
    ended = storage.read(ACME).credentials.ended
    assert list(await ended(NOW, 100)) == expected
    assert list(await ended(NOW, 3)) == expected[:3]
    assert list(await ended(after(-4), 3)) == []


async def test_tokens_outlive_a_credential_that_ended_by_itself_and_none_that_was_revoked(
    storage: Storage,
) -> None:
    agent = new_agent()
    ended = new_credential(agent.agent_id, expires_at=NOW)
    await put(storage, ACME, agent, ended)

    async def admits() -> bool:
        standing = await storage.read(ACME).revocations.standing(
            uuid4(), agent.agent_id, ended.credential_id
        )
        assert standing is not None
        return standing.admits(agent.agent_id, 0)

    assert await admits()
    for revoked_at, accepted in (
        (NOW, True),
        (after(-1), False),
        (after(1), False),
        (None, False),
    ):
        async with storage.unit(ACME) as unit:
            await unit.credentials.save(
                replace(ended, status=CredentialStatus.REVOKED, revoked_at=revoked_at)
            )
        assert await admits() is accepted, revoked_at


async def test_without_an_end_of_its_own_a_revoked_credential_was_cut() -> None:
    live = new_credential(uuid4())

    assert not live.was_cut
    assert replace(live, status=CredentialStatus.REVOKED, revoked_at=NOW).was_cut
    assert replace(live, status=CredentialStatus.REVOKED).was_cut
