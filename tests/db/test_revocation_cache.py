"""The cache by itself: its keys, their lives, and everything that can be wrong with it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from db.backends import open_storage
from db.cache import NoCache, RedisRevocations, RevocationCache, open_cache
from db.contract import Storage
from db.cuts import CLOCK_LEEWAY_SECONDS
from db.errors import Unavailable
from db.records import Tenant
from db.revocations import Revocations
from db.settings import MEMORY, StorageSettings
from tests.contract.cast import ACME, MICROSECOND, NOW, new_agent, new_credential, new_tenant, put
from tests.db.postgres import opened
from tests.db.token import Token
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey

# By the server's own clock, which no test can set, it lies ahead.
FAR = NOW.replace(year=2199, microsecond=0)
# Of a token that another process issued just before the cut, by a clock that is ahead of ours.
LIFE = 86_400 + CLOCK_LEEWAY_SECONDS
JTI, CREDENTIAL, AGENT = (UUID(int=number) for number in (1, 2, 3))
TOKEN_KEY = f"{{acme}}:revoked:{JTI}"
CREDENTIAL_KEY = f"{{acme}}:revoked:{CREDENTIAL}"
AGENT_KEY = f"{{acme}}:gen:{AGENT}"
TENANT_KEY = "{acme}:gen"
KEYS = (TOKEN_KEY, CREDENTIAL_KEY, AGENT_KEY, TENANT_KEY)


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    """Where the token of `_accepts` is good."""
    made = await open_storage(StorageSettings.load())
    await made.upkeep.provision(ACME, NOW)
    agent = new_agent(agent_id=AGENT, token_generation=3)
    await put(made, ACME, agent, new_credential(AGENT, credential_id=CREDENTIAL))
    yield made
    await made.close()


@pytest.fixture
async def unreachable(place: Path) -> AsyncIterator[Storage]:
    url = f"postgresql://nobody@/nothing?host={place}"
    async with opened(StorageSettings.load(database_url=url)) as storage:
        yield storage


@pytest.fixture
def revocations(storage: Storage, cache: RevocationCache) -> Revocations:
    return Revocations(storage, cache)


@pytest.fixture
def acme() -> Tenant:
    return new_tenant("acme", token_generation=5)


async def _accepts(revocations: Revocations, acme: Tenant, jti: UUID = JTI) -> bool:
    return await revocations.accepts(acme, Token(jti, AGENT, CREDENTIAL))


async def _publish_everything(revocations: Revocations) -> None:
    await revocations.publish_token(ACME, JTI, FAR, FAR, FAR)
    await revocations.publish_credential(ACME, CREDENTIAL, FAR, FAR)
    await revocations.publish_generation(ACME, AGENT, 4, FAR, FAR)
    await revocations.publish_generation(ACME, None, 6, FAR, FAR)


async def _end_of(redis: Redis, key: str) -> int:
    """The second at which the key ends, by the server's clock."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.time()
        pipeline.pttl(key)
        (seconds, microseconds), left = await pipeline.execute()
    return int(seconds + (microseconds / 1000 + left + 500) // 1000)


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


async def test_the_keys_are_exactly_these(revocations: Revocations, redis: Redis) -> None:
    await _publish_everything(revocations)
    assert {key.decode() for key in await redis.keys()} == set(KEYS)
    assert await redis.mget(KEYS) == [b"1", b"1", b"4", b"6"]


@pytest.mark.parametrize(
    ("expires_at", "rounded_up"),
    [(FAR, 0), (FAR + MICROSECOND, 1), (FAR + timedelta(seconds=1) - MICROSECOND, 1)],
)
async def test_a_revoked_token_is_remembered_until_no_clock_accepts_it(
    revocations: Revocations, redis: Redis, expires_at: datetime, rounded_up: int
) -> None:
    await revocations.publish_token(ACME, JTI, expires_at, NOW, NOW)
    end = _seconds(FAR) + rounded_up + CLOCK_LEEWAY_SECONDS
    assert await _end_of(redis, TOKEN_KEY) == end


async def test_a_cut_is_remembered_for_the_life_of_the_last_token_before_it(
    revocations: Revocations, redis: Redis
) -> None:
    await revocations.publish_credential(ACME, CREDENTIAL, FAR + MICROSECOND, FAR)
    await revocations.publish_generation(ACME, AGENT, 4, FAR + MICROSECOND, FAR)
    await revocations.publish_generation(ACME, None, 6, FAR + MICROSECOND, FAR)
    for key in KEYS[1:]:
        assert await _end_of(redis, key) == _seconds(FAR) + 1 + LIFE + CLOCK_LEEWAY_SECONDS


async def test_what_has_ended_already_leaves_no_key(
    revocations: Revocations, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await revocations.publish_token(ACME, JTI, NOW.replace(year=1971), NOW, NOW)
    await revocations.publish_generation(ACME, AGENT, 4, NOW.replace(year=1971), NOW)
    assert await redis.keys() == []
    assert not caplog.records


async def test_a_generation_never_goes_down(revocations: Revocations, redis: Redis) -> None:
    generations = list(range(1, 40))
    random.Random(7).shuffle(generations)
    await asyncio.gather(
        *(revocations.publish_generation(ACME, AGENT, each, FAR, FAR) for each in generations)
    )
    assert await redis.get(AGENT_KEY) == b"39"
    await revocations.publish_generation(ACME, AGENT, 12, FAR + timedelta(days=1), FAR)
    assert await redis.get(AGENT_KEY) == b"39"
    assert await _end_of(redis, AGENT_KEY) == _seconds(FAR) + LIFE + CLOCK_LEEWAY_SECONDS


@pytest.mark.parametrize("held", [b"", b"x", b"-1", b"inf", b"0x40", b"1e9", b"99999999999"])
async def test_what_is_no_generation_is_replaced_by_one(
    revocations: Revocations, redis: Redis, held: bytes
) -> None:
    await redis.set(AGENT_KEY, held)
    await revocations.publish_generation(ACME, AGENT, 4, FAR, FAR)
    assert await redis.get(AGENT_KEY) == b"4"


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_of_a_wrong_type_is_replaced(
    revocations: Revocations, redis: Redis, key: str
) -> None:
    async with redis.pipeline() as pipeline:
        pipeline.rpush(key, "1")
        await pipeline.execute()
    await _publish_everything(revocations)
    assert await redis.type(key) == b"string"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "value", [b"", b"0", b"no", b"\xff\x00", b"-9", b"+9", b" 9", b"9.5", b"1e9", b"2147483648"]
)
async def test_garbage_in_the_cache_decides_nothing(
    revocations: Revocations, redis: Redis, acme: Tenant, key: str, value: bytes
) -> None:
    await redis.set(key, value)
    assert await _accepts(revocations, acme)


@pytest.mark.parametrize("key", KEYS)
async def test_a_wrong_type_in_the_cache_decides_nothing(
    revocations: Revocations, redis: Redis, acme: Tenant, key: str
) -> None:
    async with redis.pipeline() as pipeline:
        pipeline.hset(key, "1", "1")
        await pipeline.execute()
    assert await _accepts(revocations, acme)


async def test_one_check_is_one_question(
    revocations: Revocations, redis: Redis, acme: Tenant
) -> None:
    await _accepts(revocations, acme)
    before = await redis.info("commandstats")
    await _accepts(revocations, acme)
    after = await redis.info("commandstats")
    asked = {
        name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name not in ("cmdstat_info", "cmdstat_mget")  # within the script of the read
    }
    assert {name: calls for name, calls in asked.items() if calls} == {"cmdstat_evalsha": 1}


async def test_a_check_cancelled_at_any_moment_leaves_the_next_answer_right(
    unreachable: Storage, cache: RevocationCache, acme: Tenant
) -> None:
    """A connection whose answer nobody read would give it to the next question."""
    revocations = Revocations(unreachable, cache)
    await revocations.publish_token(ACME, JTI, FAR, FAR, FAR)
    for turns in range(60):
        checks = [asyncio.create_task(_accepts(revocations, acme)) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        with pytest.raises(Unavailable):
            await _accepts(revocations, acme, jti=uuid4())
        assert not await _accepts(revocations, acme)


async def test_without_the_server_storage_decides_and_one_line_is_logged(
    storage: Storage, acme: Tenant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_cache(f"unix://:hunter2@{tmp_path}/nothing.sock")
    revocations = Revocations(storage, cache)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert await _accepts(revocations, acme)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await _publish_everything(revocations)
        assert await revocations.cache_answers() is False
    await revocations.close()
    [line] = caplog.messages
    assert "does not answer" in line
    assert "hunter2" not in caplog.text


async def test_a_server_that_comes_back_is_used_again(
    unreachable: Storage, valkey: Valkey, acme: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    revocations = Revocations(unreachable, open_cache(valkey.url()))
    with caplog.at_level(logging.INFO):
        await _publish_everything(revocations)
        assert not await _accepts(revocations, acme)
        valkey.kill()
        with pytest.raises(Unavailable):
            await _accepts(revocations, acme)
        valkey.start()
        with pytest.raises(Unavailable):
            await _accepts(revocations, acme)
        await _publish_everything(revocations)
        assert not await _accepts(revocations, acme)
    await revocations.close()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "the revocation cache does not answer",
        "the revocation cache answers again",
    ]


async def test_a_server_without_room_is_like_one_that_is_not_there(
    storage: Storage, acme: Tenant
) -> None:
    with temporary_place() as room:
        full = Valkey(room / "valkey", options={"maxmemory": "1"})
        full.start()
        try:
            cache = open_cache(full.url())
            assert await cache.mark(TOKEN_KEY, _seconds(FAR)) is False
            assert await cache.raise_to(AGENT_KEY, 4, _seconds(FAR)) is False
            revocations = Revocations(storage, cache)
            await _publish_everything(revocations)
            assert await _accepts(revocations, acme)
            await revocations.close()
        finally:
            full.stop()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n$-1\r\n"])
async def test_something_that_is_no_redis_decides_nothing(
    storage: Storage,
    acme: Tenant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
) -> None:
    """One that says nothing at all is waited for, but not for long."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(4096):
                writer.write(said)
        writer.close()

    monkeypatch.setattr("db.cache._TIMEOUT", 0.05)
    listener = await asyncio.start_unix_server(answer, tmp_path / "socket")
    revocations = Revocations(storage, open_cache(f"unix://{tmp_path}/socket"))
    assert await _accepts(revocations, acme)
    assert not await revocations.is_warm()
    await revocations.close()
    listener.close()


@pytest.mark.parametrize("url", ["redis://h:1/2", "rediss://h:1", "unix:///s", "redis://u:p@h"])
async def test_every_kind_of_address_is_a_cache(url: str) -> None:
    cache = open_cache(url)
    assert isinstance(cache, RedisRevocations)
    await cache.close()


async def test_memory_is_no_cache() -> None:
    assert isinstance(open_cache(MEMORY), NoCache)


async def test_the_server_is_asked_whether_it_answers(revocations: Revocations) -> None:
    assert await revocations.cache_answers() is True
