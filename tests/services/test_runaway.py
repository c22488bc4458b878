"""Who does nothing but act, as fast as it can, is stopped all the same, and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from redis.asyncio import Redis

from db.errors import Unauthenticated
from gateway.auth.principal import Operator
from tests.gateway import Client, RunningGateway, postgres_settings, profile, running
from tests.servers.databases import Database

AT_ONCE = 20
ACTS = 100

Stop = Callable[[RunningGateway, Client], Awaitable[object]]


async def stop_the_fleet(operator: RunningGateway, wild: Client) -> object:
    call = operator.call(Operator())
    return await operator.gateway.kill_switch.engage(call, "it went wild", slug=wild.slug)


async def stop_the_agent(operator: RunningGateway, wild: Client) -> object:
    call, agent_id = operator.call(Operator()), UUID(wild.client_id)
    return await operator.gateway.kill_switch.engage(
        call, "it went wild", slug=wild.slug, agent_id=agent_id
    )


async def suspend_the_tenant(operator: RunningGateway, wild: Client) -> object:
    return await operator.gateway.tenants.suspend(operator.call(Operator()), wild.slug)


@pytest.mark.parametrize("stop", [stop_the_fleet, stop_the_agent, suspend_the_tenant])
async def test_a_stream_of_changes_without_a_pause_does_not_keep_it_from_being_stopped(
    empty_database: Database, redis_url: str, redis: Redis, stop: Stop
) -> None:
    """Each of them shares the rows that are to be changed, so at no instant are they free."""
    settings = postgres_settings(empty_database, redis_url)
    async with running(settings) as gateway, running(settings, clock=gateway.clock) as operator:
        admin = await gateway.onboard()
        wild = await gateway.client_of(admin, ["agents:write", "x:y"])
        call = await gateway.as_caller(wild)
        acted, stopped, well_under_way = 0, False, asyncio.Event()

        async def act(which: int) -> None:
            nonlocal acted
            number = 0
            while True:
                number, too_late = number + 1, stopped
                made = profile(f"n{number}-{which}@agents.example", ["x:y"])
                try:
                    await gateway.gateway.agents.register(call, made)
                except Unauthenticated:
                    return
                assert not too_late, "it acted after it was stopped"
                acted += 1
                if acted == ACTS:
                    well_under_way.set()

        async with asyncio.TaskGroup() as acting:
            for which in range(AT_ONCE):
                acting.create_task(act(which))
            await well_under_way.wait()
            before = acted
            await stop(operator, wild)
            stopped = True
            meanwhile = acted - before

        # Those that were on their way or came while its own question was: not thousands.
        assert meanwhile < 20 * AT_ONCE
