"""Whether it lives and whether it can serve, in fixed words that tell nothing else."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
from tests.auth import forging
from tests.gateway import RunningGateway, postgres_settings, running
from tests.servers.databases import Database

CANARY = "canary-51c2"


async def test_in_memory_it_is_ready_without_a_cache(in_memory: RunningGateway) -> None:
    live = await in_memory.client.get("/health/live")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    ready = await in_memory.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "storage": "ready",
        "cache": "none",
        "revocations": "cold",
    }


async def test_on_postgres_it_is_ready_with_and_without_the_cache(
    empty_database: Database, redis_url: str
) -> None:
    for url, cache in (
        (redis_url, "ready"),
        ("memory://", "none"),
        (f"redis://:{CANARY}@127.0.0.1:1/0", "unavailable"),
        (f"unix:///{CANARY}.sock", "unavailable"),
    ):
        async with running(postgres_settings(empty_database, url)) as started:
            ready = await started.client.get("/health/ready")
            assert ready.status_code == 200
            assert (ready.json()["status"], ready.json()["cache"]) == ("ready", cache)
            assert CANARY not in ready.text


async def test_it_says_whether_the_cache_is_believed(
    empty_database: Database, redis_url: str, redis: Redis
) -> None:
    async with running(postgres_settings(empty_database, redis_url)) as started:

        async def told() -> tuple[str, str]:
            ready = (await started.client.get("/health/ready")).json()
            return ready["status"], ready["revocations"]

        assert await told() == ("ready", "cold")
        cache = RedisRevocations(redis_url)
        opening = await cache.warmth.claim()
        await cache.warmth.complete(opening, opening)
        await cache.close()
        assert await told() == ("ready", "warm")
        await redis.flushdb()
        assert await told() == ("ready", "cold")


async def test_before_its_tables_are_made_it_lives_and_is_not_ready(
    empty_database: Database, redis_url: str
) -> None:
    """As where AUTO_MIGRATE is off and `python -m db migrate` has not been run."""
    settings = postgres_settings(
        empty_database,
        redis_url,
        auto_migrate=False,
        key_encryption_secret=None,
        signing_keys=forging.pem(forging.new_key()),
    )
    async with running(settings) as started:
        ready = await started.client.get("/health/ready")
        assert ready.status_code == 503
        assert (ready.json()["status"], ready.json()["storage"]) == ("unavailable", "unavailable")
        assert (await started.client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_only_reading_is_answered(in_memory: RunningGateway, path: str) -> None:
    assert (await in_memory.client.head(path)).status_code == 200
    for method in ("POST", "PUT", "DELETE"):
        answer = await in_memory.client.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]
