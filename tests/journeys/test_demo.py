"""`make run` says that it is ready when the demo tenant is, and why when it cannot be."""

from __future__ import annotations

import asyncio

import pytest
from anyio.lowlevel import checkpoint

from db.errors import Misconfigured
from db.pages import PageRequest
from db.records import TenantStatus
from gateway.demo import TENANT, prepare
from tests.db.postgres import execute
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database


async def test_the_client_that_is_shown_can_log_in(in_memory: RunningGateway) -> None:
    client_id, secret = await prepare(in_memory.gateway)

    assert await in_memory.token(Client(TENANT, client_id, secret))


async def test_it_waits_while_the_tenant_is_being_made(in_memory: RunningGateway) -> None:
    with in_memory.queue.held():
        preparing = asyncio.create_task(prepare(in_memory.gateway))
        while not in_memory.queue.waiting:
            await checkpoint()
        assert not preparing.done()
        await in_memory.queue.run()
        client_id, secret = await preparing

    assert await in_memory.token(Client(TENANT, client_id, secret))


async def test_a_second_time_there_is_nothing_to_show(in_memory: RunningGateway) -> None:
    await prepare(in_memory.gateway)
    events = await in_memory.gateway.storage.registry.operator_events.page(PageRequest())

    assert await prepare(in_memory.gateway) == ("$CLIENT_ID", "$CLIENT_SECRET")

    again = await in_memory.gateway.storage.registry.operator_events.page(PageRequest())
    assert again.items == events.items


async def test_where_nobody_makes_it_the_worker_is_named(in_memory: RunningGateway) -> None:
    with in_memory.queue.held(), pytest.raises(Misconfigured, match="python -m workers"):
        await prepare(in_memory.gateway, patience=0)

    tenant = await in_memory.gateway.tenants.get(TENANT)
    assert tenant is not None
    assert tenant.status is TenantStatus.PROVISIONING


async def test_what_stands_in_the_way_is_named(empty_database: Database) -> None:
    settings = postgres_settings(empty_database, "memory://")
    async with running(settings) as started:
        await execute(empty_database, "CREATE TABLE demo_agents (of_somebody_else int)")

        with pytest.raises(Misconfigured, match="demo_agents"):
            await prepare(started.gateway)

        assert await started.gateway.authenticator.active_tenant(TENANT, started.clock.now) is None
