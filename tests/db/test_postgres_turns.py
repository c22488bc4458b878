"""A row that is shared without a pause can still be changed, and whoever comes later sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import pytest

from db.contract import JointUnit, Storage
from db.records import Agent, Tenant
from tests.contract.cast import ACME, GLOBEX, new_agent, put
from tests.db.catalog import wait_for_waiting
from tests.db.postgres import opened, settings_of
from tests.servers.databases import Database

AGENT = new_agent()
Share: TypeAlias = Callable[[JointUnit], Awaitable[Tenant | Agent | None]]
Change: TypeAlias = Callable[[JointUnit], Awaitable[None]]


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    async with opened(settings_of(database)) as made:
        for tenant in (ACME, GLOBEX):
            await put(made, tenant, AGENT)
        yield made


async def share_tenant(unit: JointUnit) -> Tenant | None:
    return await unit.tenant()


async def share_agent(unit: JointUnit) -> Agent | None:
    return await unit.agents.share(AGENT.agent_id)


async def change_tenant(unit: JointUnit) -> None:
    tenant = await unit.registry.tenants.get(ACME.value)
    assert tenant is not None
    await unit.registry.tenants.save(replace(tenant, token_generation=7))


async def change_agent(unit: JointUnit) -> None:
    agent = await unit.agents.get(AGENT.agent_id)
    assert agent is not None
    await unit.agents.save(replace(agent, token_generation=7))


@pytest.mark.parametrize(
    ("share", "change"),
    [(share_tenant, change_tenant), (share_agent, change_agent)],
    ids=["tenant", "agent"],
)
async def test_who_comes_after_one_that_waits_to_change_it_waits_too(
    storage: Storage, database: Database, share: Share, change: Change
) -> None:
    """Otherwise a stream of them, each a moment long, would keep it waiting for ever."""

    async def shared() -> Tenant | Agent | None:
        async with storage.joint_unit(ACME) as unit:
            return await share(unit)

    async def changed() -> None:
        async with storage.joint_unit(ACME) as unit:
            await change(unit)

    async with storage.joint_unit(ACME) as unit:
        before = await share(unit)
        changing = asyncio.create_task(changed())
        await wait_for_waiting(database.owner_url, 1)
        late = asyncio.create_task(shared())
        both = asyncio.create_task(wait_for_waiting(database.owner_url, 2))
        await asyncio.wait([late, both], return_when=asyncio.FIRST_COMPLETED)
        overtaken = late.done()
        # Who has it already waits for nobody.
        again = await share(unit)
        both.cancel()
    await changing
    found = await late

    assert not overtaken
    assert before is not None
    assert again == before
    assert found == replace(before, token_generation=7)


async def test_an_agent_of_another_tenant_has_turns_of_its_own(storage: Storage) -> None:
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(AGENT.agent_id) == AGENT
        async with storage.unit(GLOBEX) as other:
            assert await other.agents.get(AGENT.agent_id) == AGENT
