"""Whoever holds what others wait for does not wait for a connection: the others have them all, and
everybody would wait for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.namespace import TenantPrefix
from db.records import SigningAlgorithm
from gateway.auth.principal import Operator
from tests.gateway import Client, RunningGateway, postgres_settings, profile, running
from tests.servers.databases import Database

Act = Callable[[RunningGateway, Client], Coroutine[Any, Any, None]]


@pytest.fixture
async def narrow(
    empty_database: Database, redis_url: str, redis: Redis
) -> AsyncIterator[RunningGateway]:
    """A gateway with two connections, which a worker within it needs to admit a tenant."""
    settings = postgres_settings(empty_database, redis_url, db_pool_size=2, db_max_overflow=0)
    async with running(settings) as started:
        yield started


async def of_the_agents(gateway: RunningGateway, admin: Client) -> None:
    call, parts = await gateway.as_caller(admin), gateway.gateway
    made = await parts.agents.register(call, profile("a@agents.example", ["x:y"]))
    fresh = await parts.credentials.generate(call, made.agent_id)
    again = await parts.credentials.rotate(call, fresh.credential.credential_id)
    await parts.credentials.revoke(call, again.credential.credential_id)
    await parts.agents.update(call, made.agent_id, {"capabilities": ["x:z"]})
    await parts.agents.suspend(call, made.agent_id)
    await parts.agents.decommission(call, made.agent_id)


async def of_the_tokens(gateway: RunningGateway, admin: Client) -> None:
    call, token = await gateway.as_caller(admin), await gateway.token(admin)
    await gateway.gateway.tokens.introspect(call, token)
    await gateway.gateway.tokens.revoke(call, token)


async def of_the_kill_switch(gateway: RunningGateway, admin: Client) -> None:
    switch, operator = gateway.gateway.kill_switch, gateway.call(Operator())
    for agent_id in (UUID(admin.client_id), None):
        await switch.engage(operator, "why not", slug=admin.slug, agent_id=agent_id)
        await switch.release(operator, slug=admin.slug, agent_id=agent_id)


async def of_the_keys(gateway: RunningGateway, admin: Client) -> None:
    keys, operator = gateway.gateway.keys, gateway.call(Operator())
    [before] = await keys.all()
    fresh = await keys.publish(operator, SigningAlgorithm.ES256, uuid4())
    await keys.activate(operator, fresh.kid, immediately=True)
    await keys.retire(operator, before.kid)


async def of_the_tenant(gateway: RunningGateway, admin: Client) -> None:
    tenants, operator = gateway.gateway.tenants, gateway.call(Operator())
    await tenants.update(operator, admin.slug, {"display_name": "another"})
    await tenants.suspend(operator, admin.slug)
    await tenants.reactivate(operator, admin.slug)
    await tenants.remove(operator, admin.slug)


async def a_reset(gateway: RunningGateway, admin: Client) -> None:
    await gateway.gateway.administrators.reset(gateway.call(Operator()), admin.slug)


@pytest.mark.parametrize(
    "act",
    [
        of_the_agents,
        of_the_tokens,
        of_the_kill_switch,
        of_the_keys,
        of_the_tenant,
        a_reset,
    ],
)
async def test_one_connection_is_enough(narrow: RunningGateway, act: Act) -> None:
    admin = await narrow.onboard()
    async with narrow.gateway.storage.unit(TenantPrefix("somebody")):
        await asyncio.create_task(act(narrow, admin))
