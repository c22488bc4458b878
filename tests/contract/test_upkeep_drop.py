"""The end of a tenant's tables: its own, all of them, and nobody else's."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage
from db.errors import TenantNotProvisioned
from db.namespace import TenantPrefix
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    new_agent,
    new_credential,
    new_event,
    new_revocation,
    new_tenant,
    put,
)
from tests.contract.paging import items

# Its name begins as acme's does, and so do the names of all its tables.
ACME_AUDIT = TenantPrefix("acme_audit_events")


async def test_nothing_of_a_dropped_tenant_is_left_and_its_registry_row_stays(
    storage: Storage,
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent, new_credential(agent.agent_id), new_event(), new_revocation())
    before = await items(storage.registry.tenants.page)

    await storage.upkeep.drop(ACME)

    reader = storage.read(ACME)
    for read in (
        lambda: reader.agents.get(agent.agent_id),
        lambda: reader.credentials.count(),
        lambda: reader.audit.count(NOW),
        lambda: reader.revocations.contains(uuid4()),
    ):
        with pytest.raises(TenantNotProvisioned):
            await read()
    with pytest.raises(TenantNotProvisioned):
        await put(storage, ACME, new_agent())
    assert await items(storage.registry.tenants.page) == before


async def test_another_tenant_keeps_all_it_has_even_one_whose_name_begins_alike(
    storage: Storage,
) -> None:
    await storage.upkeep.provision(ACME_AUDIT, NOW)
    kept = {}
    for tenant in (GLOBEX, ACME_AUDIT):
        agent, event = new_agent(), new_event()
        await put(storage, tenant, agent, new_credential(agent.agent_id), event)
        kept[tenant] = (agent, event)

    await storage.upkeep.drop(ACME)

    for tenant, (agent, event) in kept.items():
        reader = storage.read(tenant)
        assert await items(reader.agents.page) == [agent]
        assert await reader.credentials.count() == 1
        assert await reader.audit.get(event.event_id, NOW) == event
        await put(storage, tenant, new_agent(), new_event(), new_revocation())


async def test_dropping_again_and_dropping_what_never_stood_are_harmless(storage: Storage) -> None:
    for tenant in (ACME, ACME, new_tenant("initech").prefix):
        await storage.upkeep.drop(tenant)
    with pytest.raises(TenantNotProvisioned):
        await storage.read(ACME).agents.count()
    assert await storage.read(GLOBEX).agents.count() == 0


async def test_what_is_made_again_is_empty(storage: Storage) -> None:
    await put(storage, ACME, new_agent(), new_event())
    await storage.upkeep.drop(ACME)
    await storage.upkeep.provision(ACME, NOW)
    assert await storage.read(ACME).agents.count() == 0
    assert await storage.read(ACME).audit.count(NOW) == 0


async def test_a_unit_that_is_under_way_is_waited_for_and_one_that_comes_later_finds_nothing(
    storage: Storage,
) -> None:
    added, go_on = asyncio.Event(), asyncio.Event()
    agent = new_agent()

    async def act() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(agent)
            added.set()
            await go_on.wait()

    async def come_late() -> str:
        await added.wait()
        try:
            await put(storage, ACME, new_agent())
        except TenantNotProvisioned:
            return "refused"
        return "done"

    async with asyncio.TaskGroup() as group:
        group.create_task(act())
        await added.wait()
        dropping = group.create_task(storage.upkeep.drop(ACME))
        for _ in range(50):
            await checkpoint()
        assert not dropping.done()
        late = group.create_task(come_late())
        go_on.set()
        await dropping
    # It was before the drop, or after it: never in tables that nobody sees any more.
    assert late.result() in ("refused", "done")
    with pytest.raises(TenantNotProvisioned):
        await put(storage, ACME, new_agent())
