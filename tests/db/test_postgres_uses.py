"""Uses of credentials, noted while others hold them: the database passes over what is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from anyio.lowlevel import checkpoint

from db.backends import open_storage
from db.contract import Storage
from db.records import CredentialStatus
from tests.contract.cast import ACME, NOW, after, new_agent, new_credential, put
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    async with opened(settings_of(database)) as made:
        yield made


async def test_one_that_another_unit_holds_is_passed_over_and_told(storage: Storage) -> None:
    agent = new_agent()
    held, free = new_credential(agent.agent_id), new_credential(agent.agent_id)
    await put(storage, ACME, agent, held, free)
    uses = {held.credential_id: after(5), free.credential_id: after(5)}

    async def note() -> list[object]:
        async with storage.unit(ACME) as unit:
            return list(await unit.credentials.used(uses))

    async with storage.unit(ACME) as unit:
        found = await unit.credentials.get(held.credential_id)
        assert found is not None
        # It does not wait: this unit ends only afterwards.
        assert await asyncio.create_task(note()) == [held.credential_id]
        revoked = replace(found, status=CredentialStatus.REVOKED, revoked_at=NOW)
        await unit.credentials.save(revoked)
    credentials = storage.read(ACME).credentials
    assert await credentials.get(held.credential_id) == revoked
    assert await credentials.get(free.credential_id) == replace(free, last_used_at=after(5))

    assert await note() == []
    assert await credentials.get(held.credential_id) == replace(revoked, last_used_at=after(5))


async def test_one_that_was_passed_over_is_noted_before_the_storage_is_closed(
    database: Database,
) -> None:
    agent = new_agent()
    held, free = new_credential(agent.agent_id), new_credential(agent.agent_id)
    closing = await open_storage(settings_of(database))
    await put(closing, ACME, agent, held, free)
    async with opened(settings_of(database)) as other:
        async with other.unit(ACME) as unit:
            await unit.credentials.get(held.credential_id)
            for credential in (held, free):
                closing.trail.used(ACME, credential, after(5))
            # Both are of one batch, and of the two this one could be written.
            credentials = other.read(ACME).credentials
            while await credentials.get(free.credential_id) == free:
                await checkpoint()
        await closing.close()
        found = await other.read(ACME).credentials.get(held.credential_id)
    assert found == replace(held, last_used_at=after(5))


async def test_units_that_note_the_same_uses_the_other_way_round_never_wait_for_each_other(
    storage: Storage,
) -> None:
    agent = new_agent()
    credentials = [new_credential(agent.agent_id) for _ in range(20)]
    await put(storage, ACME, agent, *credentials)
    ids = [each.credential_id for each in credentials]

    async def note(second: int) -> None:
        order = ids if second % 2 else ids[::-1]
        async with storage.unit(ACME) as unit:
            missed = await unit.credentials.used(dict.fromkeys(order, after(second)))
        while missed:
            async with storage.unit(ACME) as unit:
                missed = await unit.credentials.used(dict.fromkeys(missed, after(second)))

    await asyncio.gather(*(note(second) for second in range(8)))
    found = await storage.read(ACME).credentials.get_many(ids)
    assert {each.last_used_at for each in found.values()} == {after(7)}
