"""A credential whose end has come is shown as ended, with its line in the trail, once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from db.contract import Storage
from db.filters import AuditEventFilter
from db.namespace import TenantPrefix
from db.records import AuditAction, AuditOutcome, Credential, CredentialStatus, TenantStatus
from db.settings import StorageSettings
from db.work import JobName, Work
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    after,
    new_agent,
    new_credential,
    put,
)
from tests.contract.paging import EVERYTHING, items
from tests.workers.harness import perform

_EXPIRED = AuditEventFilter(action=(AuditAction.CREDENTIAL_REVOKED,))


async def expire(storage: Storage, settings: StorageSettings) -> Work:
    return await perform(storage, settings, JobName.EXPIRE_CREDENTIALS, NOW)


async def told(storage: Storage, tenant: TenantPrefix) -> int:
    return await storage.read(tenant).audit.count(NOW - timedelta(days=1), _EXPIRED)


async def found(storage: Storage, credential: Credential) -> Credential | None:
    return await storage.read(ACME).credentials.get(credential.credential_id)


async def test_what_has_ended_is_revoked_at_its_own_end_and_told_of(
    storage: Storage, settings: StorageSettings
) -> None:
    agent = new_agent()
    over = new_credential(agent.agent_id, expires_at=after(-3600), label="old")
    just = new_credential(agent.agent_id, expires_at=NOW)
    live = new_credential(agent.agent_id, expires_at=NOW + MICROSECOND)
    endless = new_credential(agent.agent_id)
    gone = new_credential(
        agent.agent_id,
        expires_at=after(-1),
        status=CredentialStatus.REVOKED,
        revoked_at=after(-2),
    )
    await put(storage, ACME, agent, over, just, live, endless, gone)

    ended = await expire(storage, settings)

    assert ended.report == {"seen": 2, "changed": 2, "failures": {}}
    for each in (over, just):
        assert await found(storage, each) == replace(
            each, status=CredentialStatus.REVOKED, revoked_at=each.expires_at
        )
    for each in (live, endless, gone):
        assert await found(storage, each) == each
    events = await items(
        lambda request: storage.read(ACME).audit.page(request, NOW, AuditEventFilter())
    )
    assert [
        (
            each.agent_id,
            each.action,
            each.outcome,
            each.ip_address,
            each.user_agent,
            each.timestamp,
            each.metadata,
        )
        for each in reversed(events)
    ] == [
        (
            agent.agent_id,
            AuditAction.CREDENTIAL_REVOKED,
            AuditOutcome.SUCCESS,
            "-",
            "agentidp worker",
            NOW,
            {
                "agentId": str(agent.agent_id),
                "credentialId": str(each.credential_id),
                "reason": "expired",
            },
        )
        for each in (over, just)
    ]


async def test_nothing_is_written_for_a_tenant_that_is_being_removed(
    storage: Storage, settings: StorageSettings
) -> None:
    agent = new_agent()
    over = new_credential(agent.agent_id, expires_at=after(-3600))
    await put(storage, ACME, agent, over)
    async with storage.registry_unit() as unit:
        tenant = await unit.tenants.get(ACME.value)
        assert tenant is not None
        await unit.tenants.save(replace(tenant, status=TenantStatus.REMOVING))

    await expire(storage, settings)

    assert await found(storage, over) == over
    assert await told(storage, ACME) == 0


async def test_a_second_run_finds_nothing_and_says_nothing(
    storage: Storage, settings: StorageSettings
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent, new_credential(agent.agent_id, expires_at=NOW))
    await expire(storage, settings)

    assert (await expire(storage, settings)).report == {"seen": 2, "changed": 0, "failures": {}}
    assert await told(storage, ACME) == 1


async def test_more_than_one_stretch_is_done_in_one_run(
    storage: Storage, settings: StorageSettings
) -> None:
    agents = [new_agent() for _ in range(7)]
    over = [
        new_credential(agents[number % 7].agent_id, expires_at=after(-number % 11))
        for number in range(230)
    ]
    over = [each for each in over if each.expires_at is not None and each.expires_at <= NOW]
    over += [new_credential(agents[0].agent_id, expires_at=after(-number)) for number in range(210)]
    await put(storage, ACME, *agents, *over)

    ended = await expire(storage, settings)

    assert ended.report == {"seen": 2, "changed": len(over), "failures": {}}
    assert len(over) > 200
    assert list(await storage.read(ACME).credentials.ended(NOW, 10)) == []
    assert await told(storage, ACME) == len(over)


async def test_one_that_is_revoked_meanwhile_keeps_the_hour_of_its_revocation(
    storage: Storage, settings: StorageSettings
) -> None:
    agent = new_agent()
    over = new_credential(agent.agent_id, expires_at=after(-5))
    await put(storage, ACME, agent, over)

    async def revoke() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.get(agent.agent_id)
            started.set()
            await unit.credentials.revoke_all(agent.agent_id, NOW)

    started = asyncio.Event()
    revoking = asyncio.create_task(revoke())
    await started.wait()
    ended = await expire(storage, settings)
    await revoking

    assert ended.report == {"seen": 2, "changed": 0, "failures": {}}
    kept = await found(storage, over)
    assert kept is not None
    assert kept.was_cut
    assert await told(storage, ACME) == 0


async def test_each_tenants_credentials_are_told_of_in_its_own_trail(
    storage: Storage, settings: StorageSettings
) -> None:
    for tenant, count in ((ACME, 1), (GLOBEX, 2)):
        agent = new_agent()
        over = [new_credential(agent.agent_id, expires_at=NOW) for _ in range(count)]
        await put(storage, tenant, agent, *over)

    await expire(storage, settings)

    assert [await told(storage, tenant) for tenant in (ACME, GLOBEX)] == [1, 2]
    page = await storage.read(ACME).credentials.page(EVERYTHING)
    assert [each.status for each in page.items] == [CredentialStatus.REVOKED]
