"""What many ask the cache at once is one question; and a server that is silent is not waited for by
each of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from db.cache import Found, RedisRevocations
from tests.servers.valkey import Valkey

# By the server's own clock, which no test can set, it lies ahead.
FAR = 7_226_582_400


class Seconds:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def own(
    valkey: Valkey, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisRevocations]:
    """A warm cache on a server that can be made to stand still."""
    monkeypatch.setattr("db.cache._TIMEOUT", 0.3)
    made = RedisRevocations(valkey.url(), seconds)
    opening = await made.warmth.claim()
    await made.warmth.complete(opening, await made.warmth.hold(opening))
    yield made
    await made.close()


@contextmanager
def standing_still(valkey: Valkey) -> Iterator[None]:
    os.kill(valkey.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.process.pid, signal.SIGCONT)


@asynccontextmanager
async def silence(path: Path) -> AsyncIterator[list[str]]:
    """A server that takes every connection and says nothing; one entry for each of them."""
    asked: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("a connection")
        await reader.read()
        writer.close()

    listener = await asyncio.start_unix_server(listen, path)
    yield asked
    listener.close()
    await listener.wait_closed()


async def is_warm(cache: RedisRevocations) -> bool:
    return (await cache.read([])).warm


async def questions(client: Redis) -> int:
    stats = await client.info("commandstats")
    return int(stats["cmdstat_mget"]["calls"]) if "cmdstat_mget" in stats else 0


async def test_what_is_asked_at_once_is_one_question_and_each_has_its_own_answer(
    cache: RedisRevocations, redis: Redis
) -> None:
    for number in range(0, 40, 2):
        assert await cache.mark(f"key:{number}", FAR)
    opening = await cache.warmth.claim()
    await cache.warmth.complete(opening, await cache.warmth.hold(opening))
    await cache.read([])
    before = await questions(redis)

    found = await asyncio.gather(
        *(cache.read([f"key:{number}", "key:0", "key:1"]) for number in range(40))
    )

    assert await questions(redis) == before + 1
    assert found == [
        Found([None if number % 2 else b"1", b"1", None], warm=True) for number in range(40)
    ]


async def test_what_is_asked_while_a_question_is_under_way_is_asked_after_it(
    own: RedisRevocations, valkey: Valkey
) -> None:
    """Its answer may be older than the request that asks."""
    async with Redis.from_url(valkey.url()) as client:
        await own.read([])
        before = await questions(client)
        with standing_still(valkey):
            first = asyncio.create_task(own.read(["key:1"]))
            for _ in range(10):
                await asyncio.sleep(0)
            others = [asyncio.create_task(own.read(["key:1"])) for _ in range(5)]
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(each.done() for each in (first, *others))
        await asyncio.gather(first, *others)
        assert await questions(client) == before + 2


async def test_more_than_one_question_holds_are_all_answered(
    cache: RedisRevocations, redis: Redis
) -> None:
    assert await cache.mark("key:299", FAR)
    await cache.read([])
    before = await questions(redis)
    found = await asyncio.gather(*(cache.read([f"key:{number}"]) for number in range(300)))
    assert await questions(redis) == before + 3
    assert [each.values for each in found] == [[None]] * 299 + [[b"1"]]


async def test_a_question_that_fails_is_a_miss_for_all_who_asked(
    own: RedisRevocations, valkey: Valkey
) -> None:
    assert await own.mark("key:1", FAR)
    valkey.kill()
    found = await asyncio.gather(*(own.read(["key:1", "key:2"]) for _ in range(20)))
    assert found == [Found([None, None], warm=False)] * 20


async def test_a_request_that_is_given_up_takes_no_answer_from_the_others(
    own: RedisRevocations,
) -> None:
    assert await own.mark("key:1", FAR)
    reads = [asyncio.create_task(own.read(["key:1"])) for _ in range(6)]
    await asyncio.sleep(0)
    for given_up in reads[::2]:
        given_up.cancel()
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert found[1::2] == [Found([b"1"], warm=True)] * 3
    assert all(isinstance(each, asyncio.CancelledError) for each in found[::2])


async def test_a_silent_server_is_asked_once_a_second_and_nobody_waits_meanwhile(
    tmp_path: Path, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.cache._TIMEOUT", 0.05)
    async with silence(tmp_path / "socket") as asked:
        cache = RedisRevocations(f"unix://{tmp_path}/socket", seconds)

        async def five() -> int:
            """How many connections were made for five reads at once."""
            before = len(asked)
            found = await asyncio.gather(*(cache.read(["key"]) for _ in range(5)))
            assert found == [Found([None])] * 5
            return len(asked) - before

        assert await five() == 1
        assert await five() == 0
        seconds.now += 0.99
        assert await five() == 0
        seconds.now += 0.01
        # One of them waits; the others are told at once.
        waiting = asyncio.create_task(cache.read(["key"]))
        await asyncio.sleep(0)
        assert await five() == 0
        assert not waiting.done()
        assert await waiting == Found([None])
        assert len(asked) == 2
        assert await five() == 0
        await cache.close()


async def test_a_server_that_stood_still_is_believed_again_after_a_second(
    own: RedisRevocations, valkey: Valkey, seconds: Seconds
) -> None:
    assert await is_warm(own)
    with standing_still(valkey):
        assert not await is_warm(own)
    assert not await is_warm(own)
    seconds.now += 1
    assert await is_warm(own)
    assert await is_warm(own)


async def test_a_cut_is_told_to_a_server_that_stood_still_whatever_the_reads_do(
    own: RedisRevocations, valkey: Valkey
) -> None:
    with standing_still(valkey):
        assert not await is_warm(own)
        assert not await own.mark("key:1", FAR)
    assert await own.mark("key:2", FAR)
    # It has said something, so it is no longer silent.
    assert (await own.read(["key:2"])).values == [b"1"]


async def test_one_that_is_gone_is_asked_by_everybody_because_that_takes_no_time(
    own: RedisRevocations, valkey: Valkey
) -> None:
    valkey.kill()
    assert not await is_warm(own)
    valkey.start()
    async with Redis.from_url(valkey.url()) as client:
        assert await own.mark("key:1", FAR)
        assert (await own.read(["key:1"])).values == [b"1"]
        assert await questions(client) >= 1
