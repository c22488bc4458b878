"""The cache that other tests empty, and kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey


@pytest.fixture
def server() -> Iterator[Valkey]:
    with temporary_place() as place:
        started = Valkey(place)
        started.start()
        yield started
        started.stop()


async def run_id(url: str) -> str:
    async with Redis.from_url(url) as client:
        return str((await client.info("server"))["run_id"])


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_is_empty_and_has_another_run_id(server: Valkey, how: str) -> None:
    async with Redis.from_url(server.url()) as client:
        await client.set("word", "forgotten")
    before = await run_id(server.url())
    getattr(server, how)()

    server.start()

    assert await run_id(server.url()) != before
    async with Redis.from_url(server.url()) as client:
        assert await client.dbsize() == 0


async def test_nothing_is_evicted_and_nothing_is_kept(server: Valkey) -> None:
    async with Redis.from_url(server.url()) as client:
        kept = await client.config_get("maxmemory-policy", "save", "appendonly", "port")
    assert kept == {
        "maxmemory-policy": "noeviction",
        "save": "",
        "appendonly": "no",
        "port": "0",
    }


async def test_every_test_finds_it_empty(redis: Redis, redis_url: str) -> None:
    assert await redis.dbsize() == 0
    async with Redis.from_url(redis_url) as other:
        await other.set("word", "seen by the client of the fixture")
    assert await redis.dbsize() == 1
