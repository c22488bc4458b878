"""The trail: an event is there once `append` has returned, and whose it is decides all else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest

from db.contract import Storage
from db.errors import TenantNotProvisioned, Unavailable
from db.namespace import TenantPrefix
from db.records import AuditEvent, Credential, CredentialStatus
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    put,
    whole_event,
)

INITECH = TenantPrefix("initech")


async def _event(storage: Storage, tenant: TenantPrefix, event_id: UUID) -> AuditEvent | None:
    return await storage.read(tenant).audit.get(event_id, NOW)


async def _count(storage: Storage, tenant: TenantPrefix) -> int:
    return await storage.read(tenant).audit.count(NOW)


async def _credential(storage: Storage, **changes: object) -> Credential:
    agent = new_agent()
    credential = new_credential(agent.agent_id, **changes)
    await put(storage, ACME, agent, credential)
    return credential


async def _shows(storage: Storage, credential: Credential, at: datetime | None) -> Credential:
    """The row once it says `at`: uses are written behind whoever notes them."""
    async with asyncio.timeout(20):
        while True:
            await asyncio.sleep(0)
            found = await storage.read(ACME).credentials.get(credential.credential_id)
            if found is not None and found.last_used_at == at:
                return found


async def test_what_is_appended_can_be_read_as_it_was_given(storage: Storage) -> None:
    for event in (new_event(), whole_event()):
        await storage.trail.append(ACME, event)
        assert await _event(storage, ACME, event.event_id) == event


async def test_an_id_that_is_there_already_is_left_as_it_is(storage: Storage) -> None:
    event = new_event()
    await storage.trail.append(ACME, event)
    await storage.trail.append(ACME, event)
    await storage.trail.append(ACME, replace(event, user_agent="another"))
    await asyncio.gather(*(storage.trail.append(ACME, event) for _ in range(5)))
    assert await _event(storage, ACME, event.event_id) == event
    assert await _count(storage, ACME) == 1


async def test_one_id_appended_many_times_at_once_is_there_once(storage: Storage) -> None:
    event = new_event()
    await asyncio.gather(*(storage.trail.append(ACME, event) for _ in range(20)))
    assert await _event(storage, ACME, event.event_id) == event
    assert await _count(storage, ACME) == 1


async def test_another_tenant_never_sees_it_and_may_have_the_same_id(storage: Storage) -> None:
    event = new_event()
    await storage.trail.append(ACME, event)
    assert await _event(storage, GLOBEX, event.event_id) is None
    theirs = replace(event, user_agent="theirs")
    await storage.trail.append(GLOBEX, theirs)
    assert await _event(storage, ACME, event.event_id) == event
    assert await _event(storage, GLOBEX, event.event_id) == theirs


async def test_many_events_of_many_tenants_at_once_go_each_to_its_own(storage: Storage) -> None:
    tenants = [TenantPrefix(f"team{number}") for number in range(4)]
    for tenant in tenants:
        await storage.upkeep.provision(tenant, NOW)
    sent = [(tenant, new_event(user_agent=tenant.value)) for tenant in tenants * 150]
    await asyncio.gather(*(storage.trail.append(*each) for each in sent))
    for tenant in tenants:
        assert await _count(storage, tenant) == 150
    for tenant, event in sent:
        assert await _event(storage, tenant, event.event_id) == event


async def test_only_who_names_a_tenant_without_tables_hears_of_it(storage: Storage) -> None:
    good = [(tenant, new_event()) for tenant in (ACME, GLOBEX) * 5]
    bad = [(INITECH, new_event()) for _ in range(3)]
    answers = await asyncio.gather(
        *(storage.trail.append(*each) for pair in zip(good, bad, strict=False) for each in pair),
        *(storage.trail.append(*each) for each in good[3:]),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers[1:6:2]] == [TenantNotProvisioned] * 3
    assert [*answers[0:6:2], *answers[6:]] == [None] * 10
    for tenant, event in good:
        assert await _event(storage, tenant, event.event_id) == event
    await storage.upkeep.provision(INITECH, NOW)
    await storage.trail.append(INITECH, bad[0][1])
    assert await _count(storage, INITECH) == 1


async def test_a_caller_that_goes_away_harms_nobody(storage: Storage) -> None:
    gone, stays = new_event(), new_event()
    going = asyncio.create_task(storage.trail.append(ACME, gone))
    staying = asyncio.create_task(storage.trail.append(ACME, stays))
    await asyncio.sleep(0)
    going.cancel()
    await staying
    assert await _event(storage, ACME, stays.event_id) == stays
    assert await _event(storage, ACME, gone.event_id) in (gone, None)
    await storage.trail.append(ACME, gone)
    assert await _count(storage, ACME) == 2


async def test_after_the_end_nothing_is_taken(storage: Storage) -> None:
    await storage.trail.append(ACME, new_event())
    await storage.close()
    with pytest.raises(Unavailable):
        await storage.trail.append(ACME, new_event())
    assert await _count(storage, ACME) == 1


async def test_a_use_is_shown_by_the_credential_and_changes_nothing_else(storage: Storage) -> None:
    credential = await _credential(storage, label="ci", expires_at=after(9))
    storage.trail.used(ACME, credential, after(1))
    found = await _shows(storage, credential, after(1))
    assert found == replace(credential, last_used_at=after(1))


@pytest.mark.parametrize("moved", [0, 59.999999])
async def test_a_use_within_a_minute_of_the_last_one_known_is_not_written(
    storage: Storage, moved: float
) -> None:
    credential = await _credential(storage, last_used_at=NOW)
    other = await _credential(storage)
    storage.trail.used(ACME, credential, after(moved))
    storage.trail.used(ACME, other, after(moved))
    await _shows(storage, other, after(moved))
    await _shows(storage, credential, NOW)


async def test_a_minute_later_it_is(storage: Storage) -> None:
    credential = await _credential(storage, last_used_at=NOW)
    storage.trail.used(ACME, credential, after(60))
    await _shows(storage, credential, after(60))


async def test_the_last_use_never_goes_back(storage: Storage) -> None:
    credential = await _credential(storage)
    other = await _credential(storage)
    storage.trail.used(ACME, credential, after(500))
    await _shows(storage, credential, after(500))
    # Told by somebody who has read the row before.
    storage.trail.used(ACME, credential, after(100))
    storage.trail.used(ACME, other, after(100))
    await _shows(storage, other, after(100))
    await _shows(storage, credential, after(500))


async def test_of_several_uses_at_once_the_latest_is_shown(storage: Storage) -> None:
    credential = await _credential(storage)
    for seconds in (300, 900, 100, 600):
        storage.trail.used(ACME, credential, after(seconds))
    await storage.close()
    await _shows(storage, credential, after(900))


async def test_what_was_noted_is_written_before_the_end(storage: Storage) -> None:
    credentials = [await _credential(storage) for _ in range(5)]
    for credential in credentials:
        storage.trail.used(ACME, credential, after(1))
    await storage.close()
    for credential in credentials:
        found = await storage.read(ACME).credentials.get(credential.credential_id)
        assert found == replace(credential, last_used_at=after(1))


async def test_a_use_of_a_credential_that_is_not_there_is_nobody_s_error(
    storage: Storage,
) -> None:
    credential = await _credential(storage)
    unknown = new_credential(credential.client_id)
    storage.trail.used(ACME, unknown, NOW)
    storage.trail.used(GLOBEX, credential, NOW)
    storage.trail.used(INITECH, credential, NOW)
    storage.trail.used(ACME, credential, after(1))
    await _shows(storage, credential, after(1))
    assert await storage.read(ACME).credentials.get(unknown.credential_id) is None


async def test_a_use_leaves_what_another_change_has_made(storage: Storage) -> None:
    credential = await _credential(storage)
    revoked = replace(credential, status=CredentialStatus.REVOKED, revoked_at=NOW)
    async with storage.unit(ACME) as unit:
        await unit.credentials.save(revoked)
    storage.trail.used(ACME, credential, NOW + MICROSECOND)
    found = await _shows(storage, credential, NOW + MICROSECOND)
    assert found == replace(revoked, last_used_at=NOW + MICROSECOND)


async def test_whoever_holds_a_credential_holds_up_no_event(storage: Storage) -> None:
    """On a backend where whole tenants take turns, events wait for them; uses never hold one."""
    credential = await _credential(storage)
    event = new_event()
    async with storage.unit(ACME) as unit:
        assert await unit.credentials.get(credential.credential_id) == credential
        storage.trail.used(ACME, credential, NOW)
        await asyncio.sleep(0)
        await storage.trail.append(GLOBEX, event)
    assert await _event(storage, GLOBEX, event.event_id) == event
    # Maybe passed over for being held: then the next one takes it along.
    storage.trail.used(ACME, await _credential(storage), NOW)
    await _shows(storage, credential, NOW)
