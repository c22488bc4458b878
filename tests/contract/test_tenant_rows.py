"""A unit of a tenant and the tenant's own row: what is read in one is not changed behind it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage
from db.errors import EmailTaken, UnitOver
from db.records import Revocation, TenantStatus
from tests.contract.cast import ACME, GLOBEX, new_agent, new_revocation, new_tenant, put


async def suspend(storage: Storage, slug: str = "acme") -> None:
    async with storage.registry_unit() as unit:
        held = await unit.tenants.get(slug)
        assert held is not None
        await unit.tenants.save(
            replace(held, status=TenantStatus.SUSPENDED, token_generation=held.token_generation + 1)
        )


async def test_a_unit_reads_its_tenant_s_row_and_no_other(storage: Storage) -> None:
    await suspend(storage, "globex")
    async with storage.unit(ACME) as unit:
        assert await unit.tenant() == await storage.registry.tenants.get("acme")
    async with storage.unit(GLOBEX) as unit:
        tenant = await unit.tenant()
    assert tenant is not None
    assert (tenant.status, tenant.token_generation) == (TenantStatus.SUSPENDED, 1)


async def test_a_tenant_that_nobody_registered_has_no_row(storage: Storage) -> None:
    unregistered = new_tenant("initech").prefix
    await storage.upkeep.provision(unregistered, new_tenant("initech").created_at)
    async with storage.unit(unregistered) as unit:
        assert await unit.tenant() is None


async def test_whoever_changed_the_row_waits_for_the_units_that_had_read_it(
    storage: Storage,
) -> None:
    read, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []
    agent = new_agent()

    async def act() -> None:
        async with storage.unit(ACME) as unit:
            tenant = await unit.tenant()
            assert tenant is not None
            assert tenant.is_active
            read.set()
            await go_on.wait()
            await unit.agents.add(agent)
        done.append("acted")

    async def change() -> None:
        await read.wait()
        await suspend(storage)
        async with storage.unit(ACME):
            pass
        done.append("changed")

    async with asyncio.TaskGroup() as group:
        group.create_task(act())
        changing = group.create_task(change())
        await read.wait()
        for _ in range(200):
            await checkpoint()
        assert not changing.done()
        go_on.set()
    assert done == ["acted", "changed"]
    async with storage.unit(ACME) as unit:
        tenant = await unit.tenant()
        assert tenant is not None
        assert not tenant.is_active
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent


async def test_two_units_read_the_row_at_once(storage: Storage) -> None:
    async with asyncio.timeout(5), storage.unit(ACME) as first, storage.unit(GLOBEX) as second:
        assert await first.tenant() != await second.tenant()


async def test_a_unit_that_is_over_reads_no_row(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    with pytest.raises(EmailTaken):
        async with storage.unit(ACME) as unit:
            await unit.agents.add(new_agent(email=agent.email))
    with pytest.raises(UnitOver):
        await unit.tenant()


async def test_revocations_come_in_batches_and_none_is_left_out(storage: Storage) -> None:
    known = sorted((new_revocation() for _ in range(7)), key=lambda each: each.jti)
    await put(storage, ACME, *known)
    found: list[Revocation] = []
    after = UUID(int=0)
    while batch := await storage.read(ACME).revocations.batch(after, 3):
        assert len(batch) <= 3
        found += batch
        after = batch[-1].jti
    assert found == known
    assert list(await storage.read(GLOBEX).revocations.batch(UUID(int=0), 3)) == []
