"""However many agents and tokens are stopped, it costs the same: one row, and one key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import Engine

from gateway.auth.principal import Operator
from tests.gateway import Client, RunningGateway

MANY = 25
Cost: TypeAlias = tuple[int, list[str], dict[str, int]]


@contextmanager
def statements() -> Iterator[list[str]]:
    """What this task sends meanwhile; what goes on behind the requests does not count."""
    sent: list[str] = []
    asking = asyncio.current_task()

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if asyncio.current_task() is asking:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def written(sent: list[str]) -> list[str]:
    """`UPDATE "{t}agents"`, `INSERT INTO operator_events`."""
    changing = [each.split() for each in sent if each.startswith(("UPDATE", "INSERT", "DELETE"))]
    return sorted(" ".join(each[: 3 if each[0] == "INSERT" else 2]) for each in changing)


async def commands(redis: Redis) -> dict[str, int]:
    """What the server was given since it was told to forget, without what it was told that by."""
    told = await redis.info("commandstats")
    own = ("config", "info", "client", "hello", "select")
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()}
    return {name: count for name, count in calls.items() if not name.startswith(own)}


async def cost(gateway: RunningGateway, redis: Redis, agent_id: UUID | None) -> Cost:
    """Statements, what of them changes something, and commands to the cache."""
    await redis.config_resetstat()
    with statements() as sent:
        await gateway.gateway.kill_switch.engage(
            gateway.call(Operator()), "it misbehaves", slug="acme", agent_id=agent_id
        )
    return len(sent), written(sent), await commands(redis)


@pytest.mark.parametrize("fleet", [False, True], ids=["agent", "fleet"])
async def test_what_it_costs_does_not_grow_with_what_is_stopped(
    on_postgres: RunningGateway, redis: Redis, fleet: bool
) -> None:
    gateway = on_postgres
    admin = await gateway.onboard()
    workers = [await gateway.client_of(admin, email=f"w{n}@agents.example") for n in range(2)]

    async def engaged(worker: Client) -> Cost:
        return await cost(gateway, redis, None if fleet else UUID(worker.client_id))

    # Whatever is done once for each process or connection is done by now.
    await engaged(workers[0])
    released = None if fleet else UUID(workers[0].client_id)
    await gateway.gateway.kill_switch.release(
        gateway.call(Operator()), slug="acme", agent_id=released
    )
    few = await engaged(workers[0])
    await gateway.gateway.kill_switch.release(
        gateway.call(Operator()), slug="acme", agent_id=released
    )
    for number in range(MANY):
        other = await gateway.client_of(admin, email=f"m{number}@agents.example")
        await gateway.token(other)
        await gateway.token(workers[1])
    many = await engaged(workers[1])

    assert many == few
    assert many[1] == [
        'INSERT INTO "{t}audit_events"',
        "INSERT INTO operator_events",
        "UPDATE tenants" if fleet else 'UPDATE "{t}agents"',
    ]
    # One script, which looks at the key and raises it.
    assert many[2] == {"eval": 1, "get": 1, "set": 1}
