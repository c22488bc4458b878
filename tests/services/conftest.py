from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.gateway import (
    RunningGateway,
    backend,
    gateway,
    in_memory,
    postgres_settings,
    running,
)
from tests.servers.databases import Database

__all__ = ["backend", "gateway", "in_memory", "on_postgres"]


@pytest.fixture
async def on_postgres(
    empty_database: Database, redis_url: str, redis: Redis
) -> AsyncIterator[RunningGateway]:
    """For what a test does to the database or the cache behind the gateway's back.

    `redis` empties the cache first.
    """
    async with running(postgres_settings(empty_database, redis_url)) as started:
        yield started
