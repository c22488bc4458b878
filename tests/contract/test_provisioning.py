"""Before a tenant has a store, and how it gets one."""

from __future__ import annotations

from uuid import uuid4

import pytest

from db.contract import Storage
from db.cuts import LEAST_ID, CutKind
from db.errors import TenantNotProvisioned
from db.namespace import TenantPrefix
from db.pages import PageRequest
from tests.contract.cast import (
    ACME,
    NOW,
    after,
    new_agent,
    new_credential,
    new_event,
    put,
)
from tests.contract.paging import EVERYTHING, items

UNKNOWN = TenantPrefix("initech")


async def test_a_tenant_that_was_never_provisioned_has_no_store(storage: Storage) -> None:
    async def write() -> None:
        async with storage.unit(UNKNOWN) as unit:
            await unit.agents.add(new_agent())

    with pytest.raises(TenantNotProvisioned):
        await write()
    reads = (
        lambda: storage.read(UNKNOWN).agents.get(uuid4()),
        lambda: storage.read(UNKNOWN).agents.page(EVERYTHING),
        lambda: storage.read(UNKNOWN).credentials.count(),
        lambda: storage.read(UNKNOWN).audit.page(PageRequest(), NOW),
        lambda: storage.read(UNKNOWN).revocations.contains(uuid4()),
        lambda: storage.read(UNKNOWN).revocations.get(uuid4()),
        lambda: storage.read(UNKNOWN).revocations.standing(uuid4(), uuid4(), uuid4()),
        lambda: storage.read(UNKNOWN).revocations.cuts(CutKind.AGENT, NOW, None, LEAST_ID, 1),
        lambda: storage.read(UNKNOWN).revocations.recent_cuts(NOW, NOW, 1),
    )
    for read in reads:
        with pytest.raises(TenantNotProvisioned):
            await read()


async def test_provisioning_makes_an_empty_tenant_and_leaves_the_registry_alone(
    storage: Storage,
) -> None:
    before = await items(storage.registry.tenants.page)
    revision = await storage.upkeep.provision(UNKNOWN, NOW)
    assert 1 <= len(revision) <= 64
    assert await items(storage.read(UNKNOWN).agents.page) == []
    agent = new_agent()
    await put(storage, UNKNOWN, agent, new_credential(agent.agent_id), new_event())
    assert await items(storage.read(UNKNOWN).agents.page) == [agent]
    assert await items(storage.registry.tenants.page) == before


async def test_provisioning_again_is_harmless(storage: Storage) -> None:
    agent, event = new_agent(), new_event()
    await put(storage, ACME, agent, event)
    first = await storage.upkeep.provision(ACME, NOW)
    assert await storage.upkeep.provision(ACME, after(60)) == first
    assert await items(storage.read(ACME).agents.page) == [agent]
    assert await storage.read(ACME).audit.get(event.event_id, NOW) == event


async def test_a_reader_made_before_its_tenant_reads_it_afterwards(storage: Storage) -> None:
    reader = storage.read(UNKNOWN)
    await storage.upkeep.provision(UNKNOWN, NOW)
    assert await reader.agents.count() == 0


async def test_storage_answers_and_can_be_closed_twice(storage: Storage) -> None:
    await storage.check()
    await storage.close()
    await storage.close()
