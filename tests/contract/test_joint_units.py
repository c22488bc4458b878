"""A unit of a tenant and one of the registry, in one: both are kept, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from anyio.lowlevel import checkpoint

from db.contract import JointUnit, Storage
from db.errors import EmailTaken, Misused, NotFound, SlugTaken, TenantNotProvisioned, UnitOver
from db.namespace import TenantPrefix
from db.records import Agent, Tenant
from tests.contract.cast import (
    ACME,
    GLOBEX,
    NOW,
    Interrupted,
    new_agent,
    new_event,
    new_operator_event,
    new_tenant,
    put,
)
from tests.contract.paging import items


@pytest.fixture
async def agent(storage: Storage) -> Agent:
    agent = new_agent()
    await put(storage, ACME, agent)
    return agent


async def tenant(storage: Storage) -> Tenant:
    found = await storage.registry.tenants.get(ACME.value)
    assert found is not None
    return found


async def cut(unit: JointUnit, agent: Agent) -> None:
    """Something of both sides, as a kill switch would do it."""
    held = await unit.registry.tenants.get(ACME.value)
    assert held is not None
    await unit.registry.tenants.save(replace(held, token_generation=held.token_generation + 1))
    assert await unit.agents.get(agent.agent_id) == agent
    await unit.agents.save(replace(agent, owner="changed"))
    await unit.audit.append(new_event())
    await unit.registry.operator_events.append(new_operator_event())


async def everything(storage: Storage) -> object:
    reader = storage.read(ACME)
    return (
        await items(reader.agents.page),
        await items(lambda request: reader.audit.page(request, NOW)),
        await items(storage.registry.tenants.page),
        await items(storage.registry.operator_events.page),
    )


async def test_both_sides_are_kept_together(storage: Storage, agent: Agent) -> None:
    before, first = await everything(storage), await tenant(storage)
    async with storage.joint_unit(ACME) as unit:
        await cut(unit, agent)
        assert await everything(storage) == before
    assert await tenant(storage) == replace(first, token_generation=first.token_generation + 1)
    assert await items(storage.read(ACME).agents.page) == [replace(agent, owner="changed")]
    assert await storage.read(ACME).audit.count(NOW) == 1
    assert len(await items(storage.registry.operator_events.page)) == 1


async def test_the_tenant_that_the_tenant_s_side_sees_is_the_one_that_was_changed(
    storage: Storage,
) -> None:
    first = await tenant(storage)
    changed = replace(first, token_generation=first.token_generation + 1)
    async with storage.joint_unit(ACME) as unit:
        await unit.registry.tenants.get(ACME.value)
        await unit.registry.tenants.save(changed)
        assert await unit.registry.tenants.get(ACME.value) == changed
        assert await unit.tenant() == changed


async def _interrupt(_unit: JointUnit) -> None:
    raise Interrupted


async def _address_taken(unit: JointUnit) -> None:
    address = "one@agents.example"
    await unit.agents.add(new_agent(email=address))
    await unit.agents.add(new_agent(email=address))


async def _slug_taken(unit: JointUnit) -> None:
    await unit.registry.tenants.add(new_tenant("globex"))


async def _no_such_tenant(unit: JointUnit) -> None:
    await unit.registry.tenants.save(new_tenant("initech"))


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (_interrupt, Interrupted),
        (_address_taken, EmailTaken),
        (_slug_taken, SlugTaken),
        (_no_such_tenant, NotFound),
    ],
)
async def test_whichever_side_fails_nothing_of_either_is_kept(
    storage: Storage,
    agent: Agent,
    fail: Callable[[JointUnit], Awaitable[None]],
    error: type[Exception],
) -> None:
    before = await everything(storage)

    async def change() -> None:
        async with storage.joint_unit(ACME) as unit:
            await cut(unit, agent)
            await fail(unit)

    with pytest.raises(error):
        await change()
    assert await everything(storage) == before


@pytest.mark.parametrize("fail", [_address_taken, _slug_taken])
async def test_an_error_of_one_side_is_the_end_of_both(
    storage: Storage, agent: Agent, fail: Callable[[JointUnit], Awaitable[None]]
) -> None:
    before = await everything(storage)

    async def go_on() -> None:
        async with storage.joint_unit(ACME) as unit:
            await cut(unit, agent)
            with pytest.raises((EmailTaken, SlugTaken)):
                await fail(unit)
            for act in (
                lambda: unit.tenant(),
                lambda: unit.agents.get(agent.agent_id),
                lambda: unit.registry.tenants.get(ACME.value),
                lambda: unit.registry.operator_events.append(new_operator_event()),
            ):
                with pytest.raises(UnitOver):
                    await act()

    with pytest.raises(UnitOver):
        await go_on()
    assert await everything(storage) == before


async def test_after_its_block_neither_side_can_be_used(storage: Storage, agent: Agent) -> None:
    before = await everything(storage)
    async with storage.joint_unit(ACME) as unit:
        registry = unit.registry
    with pytest.raises(UnitOver):
        await unit.agents.save(replace(agent, owner="late"))
    with pytest.raises(UnitOver):
        await registry.operator_events.append(new_operator_event())
    assert await everything(storage) == before


async def test_no_unit_of_either_side_is_begun_inside_it_and_it_is_begun_inside_none(
    storage: Storage, agent: Agent
) -> None:
    """A unit of another tenant waits for nothing that this one holds."""
    first = await tenant(storage)
    async with storage.joint_unit(ACME) as unit:
        await cut(unit, agent)
        for another in (storage.registry_unit, lambda: storage.unit(ACME)):
            with pytest.raises(Misused):
                async with another():
                    pass
        for prefix in (ACME, GLOBEX):
            with pytest.raises(Misused):
                async with storage.joint_unit(prefix):
                    pass
        async with storage.unit(GLOBEX) as other:
            assert await other.agents.get(agent.agent_id) is None
    for outer in (storage.registry_unit, lambda: storage.unit(ACME)):
        async with outer():
            with pytest.raises(Misused):
                async with storage.joint_unit(ACME):
                    pass
    # What was refused has ended nothing but itself, and nobody is left waiting.
    assert (await tenant(storage)).token_generation == first.token_generation + 1
    async with storage.joint_unit(ACME) as unit:
        assert await unit.agents.get(agent.agent_id) == replace(agent, owner="changed")


async def test_there_is_none_of_a_tenant_that_was_never_provisioned(storage: Storage) -> None:
    async def ask() -> None:
        async with storage.joint_unit(TenantPrefix("initech")) as unit:
            await unit.agents.get(new_agent().agent_id)

    with pytest.raises(TenantNotProvisioned):
        await ask()
    async with storage.registry_unit() as unit:
        await unit.tenants.get(ACME.value)


async def test_units_that_hold_the_tenant_s_row_wait_for_it_and_see_what_it_did(
    storage: Storage, agent: Agent
) -> None:
    first = await tenant(storage)
    holding = asyncio.Event()
    seen = list[int]()

    async def change() -> None:
        async with storage.joint_unit(ACME) as unit:
            held = await unit.registry.tenants.get(ACME.value)
            assert held is not None
            holding.set()
            for _ in range(20):
                await checkpoint()  # lets the others reach the row
            await unit.registry.tenants.save(
                replace(held, token_generation=held.token_generation + 1)
            )
            await unit.agents.get(agent.agent_id)
            await unit.agents.save(replace(agent, owner="changed"))

    async def act() -> None:
        await holding.wait()
        async with storage.unit(ACME) as unit:
            found = await unit.tenant()
            assert found is not None
            seen.append(found.token_generation)
            held = await unit.agents.get(agent.agent_id)
            assert held is not None
            assert held.owner == "changed"

    await asyncio.gather(change(), act(), act())
    assert seen == [first.token_generation + 1] * 2
