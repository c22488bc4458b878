"""What a request asks of the servers: of a warm cache one thing, and of the database only what the
operation itself needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import event
from sqlalchemy.engine import Engine

from db.records import AuditAction
from gateway.auth.tenants import MOMENT
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database

# How it is looked at, and what the script of a read does within the server.
_OWN = ("cmdstat_info", "cmdstat_mget")


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """Every statement of this process, as it goes out."""
    statements: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", keep)
    yield statements
    event.remove(Engine, "before_cursor_execute", keep)


class Counting:
    """The commands that the cache's server ran since the last time it was looked at."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._before: dict[str, int] = {}

    async def since(self) -> dict[str, int]:
        stats = await self._redis.info("commandstats")
        now = {name: int(stats[name]["calls"]) for name in stats if name not in _OWN}
        more = {
            name.removeprefix("cmdstat_"): calls - self._before.get(name, 0)
            for name, calls in now.items()
            if calls > self._before.get(name, 0)
        }
        self._before = now
        return more


@pytest.fixture
async def warm(
    empty_database: Database, redis_url: str, redis: Redis
) -> AsyncIterator[RunningGateway]:
    async with running(postgres_settings(empty_database, redis_url)) as started:
        await started.onboard()
        await started.warm_up()
        yield started


@pytest.fixture
async def admin(warm: RunningGateway) -> Client:
    """Of another tenant, which came to be after the warm-up."""
    return await warm.onboard("globex")


async def test_who_asks_for_no_data_costs_one_command_and_no_statement(
    warm: RunningGateway, admin: Client, redis: Redis, sent: list[str]
) -> None:
    token, counting = await warm.token(admin), Counting(redis)
    assert await warm.graphql("{ __typename }", token=token) == {"data": {"__typename": "Query"}}
    for _ in range(3):
        await counting.since()
        sent.clear()
        answer = await warm.graphql("{ __typename }", token=token)
        assert answer == {"data": {"__typename": "Query"}}
        assert await counting.since() == {"evalsha": 1}
        assert sent == []


async def test_a_row_that_is_a_moment_old_is_read_once_more(
    warm: RunningGateway, admin: Client, redis: Redis, sent: list[str]
) -> None:
    token, counting = await warm.token(admin), Counting(redis)
    await warm.graphql("{ __typename }", token=token)
    warm.clock.advance(MOMENT.total_seconds() + 0.001)
    await counting.since()
    sent.clear()
    await warm.graphql("{ __typename }", token=token)
    assert await counting.since() == {"evalsha": 1}
    [statement] = sent
    assert "FROM tenants" in statement


async def test_where_the_cache_is_cold_each_thing_is_read_once(
    warm: RunningGateway, admin: Client, redis: Redis, sent: list[str]
) -> None:
    token, counting = await warm.token(admin), Counting(redis)
    await warm.graphql("{ __typename }", token=token)
    await redis.flushdb()
    await counting.since()
    sent.clear()
    answer = await warm.graphql("{ __typename }", token=token)
    assert answer == {"data": {"__typename": "Query"}}
    assert await counting.since() == {"evalsha": 1}
    tenant, key, standing = sent
    assert "FROM tenants" in tenant
    assert "FROM signing_keys" in key
    assert all(name in standing for name in ("agents", "token_revocations", "credentials"))


async def test_a_client_that_introspects_costs_its_login_two_questions_and_an_event(
    warm: RunningGateway, admin: Client, redis: Redis, sent: list[str]
) -> None:
    token, counting = await warm.token(admin), Counting(redis)

    async def introspect() -> None:
        answer = await warm.client.post(
            "/t/globex/oauth2/introspect",
            data={"token": token},
            auth=(admin.client_id, admin.secret),
        )
        assert answer.json()["active"] is True

    await introspect()
    await counting.since()
    sent.clear()
    before = await warm.trail(admin, AuditAction.TOKEN_INTROSPECTED)
    sent.clear()
    await introspect()
    assert await counting.since() == {"evalsha": 2}
    [login] = [each for each in sent if "audit_events" not in each]
    assert all(name in login for name in ("agents", "credentials"))
    assert len(await warm.trail(admin, AuditAction.TOKEN_INTROSPECTED)) == len(before) + 1


async def test_a_token_is_issued_without_a_look_at_the_tenants_row(
    warm: RunningGateway, admin: Client, redis: Redis, sent: list[str]
) -> None:
    counting = Counting(redis)
    await warm.token(admin)
    await counting.since()
    sent.clear()
    await warm.token(admin)
    assert await counting.since() == {"evalsha": 1}
    assert not [each for each in sent if "FROM tenants" in each]
