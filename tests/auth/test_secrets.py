"""Client secrets: made well, kept as a hash, and compared whole."""

from __future__ import annotations

import asyncio
import re
import threading

import anyio
import anyio.lowlevel
import pytest

from db.errors import Unavailable
from gateway.auth.secrets import (
    MAX_SECRET_BYTES,
    SecretHasher,
    may_be_secret,
    new_secret,
    tag_of,
)
from tests.gateway import CHEAPEST_BCRYPT


@pytest.fixture
def hasher() -> SecretHasher:
    return SecretHasher(CHEAPEST_BCRYPT)


def test_a_secret_is_256_random_bits_behind_its_prefix() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert re.fullmatch(r"sk_live_[0-9a-f]{64}", secret)
        # Not one byte of it lies beyond what bcrypt reads.
        assert len(secret.encode()) <= MAX_SECRET_BYTES


async def test_a_secret_matches_its_own_hash_alone(hasher: SecretHasher) -> None:
    secret, other = new_secret(), new_secret()
    kept = (await hasher.hash(secret)).hash
    assert await hasher.matches(secret, kept)
    assert not await hasher.matches(other, kept)
    assert not await hasher.matches("", kept)


async def test_a_hash_has_the_cost_that_was_set_and_a_salt_of_its_own(
    hasher: SecretHasher,
) -> None:
    secret = new_secret()
    first, second = await hasher.hash(secret), await hasher.hash(secret)
    assert first.hash != second.hash
    assert first.hash.startswith(f"$2b$0{CHEAPEST_BCRYPT}$")
    assert secret not in first.hash


async def test_the_tag_is_the_secret_s_own_and_tells_next_to_nothing(hasher: SecretHasher) -> None:
    secret = new_secret()
    first, second = await hasher.hash(secret), await hasher.hash(secret)
    assert first.tag == second.tag == tag_of(secret)
    assert re.fullmatch(r"[0-9a-f]{4}", first.tag)
    assert first.tag not in repr(first)
    assert len({tag_of(new_secret()) for _ in range(1000)}) > 950
    assert tag_of("\ud800") != tag_of("")


async def test_the_stored_hash_is_no_secret(hasher: SecretHasher) -> None:
    kept = (await hasher.hash(new_secret())).hash
    assert not await hasher.matches(kept, kept)


async def test_nothing_matches_a_client_that_nobody_knows(hasher: SecretHasher) -> None:
    for secret in ("", "x", new_secret()):
        assert not await hasher.matches(secret, None)


async def test_all_of_a_secret_counts(hasher: SecretHasher) -> None:
    """bcrypt reads 72 bytes: a longer text must not match by its beginning, nor match one."""
    longest = "x" * MAX_SECRET_BYTES
    kept = (await hasher.hash(longest)).hash
    assert await hasher.matches(longest, kept)
    assert not await hasher.matches(longest[:-1], kept)
    assert not await hasher.matches(longest + "x", kept)
    assert not await hasher.matches(longest + "y" * 1_000_000, kept)


async def test_bytes_are_counted_and_not_characters(hasher: SecretHasher) -> None:
    kept = (await hasher.hash("é" * 36)).hash
    assert await hasher.matches("é" * 36, kept)
    assert not await hasher.matches("é" * 37, kept)


@pytest.mark.parametrize("text", ["\x00", "a\x00", "\ud800", "a" * 71 + "\udfff", "é", "\n"])
async def test_any_text_is_compared_and_none_is_a_fault(hasher: SecretHasher, text: str) -> None:
    kept = (await hasher.hash(new_secret())).hash
    assert not await hasher.matches(text, kept)
    assert not await hasher.matches(text, None)


def test_what_bcrypt_would_not_read_whole_is_no_secret() -> None:
    longest = "x" * MAX_SECRET_BYTES
    for presented in ("", longest, "é" * 36, new_secret(), "\ud800"):
        assert may_be_secret(presented)
    for presented in (longest + "x", "é" * 37, "a\0", "x" * 1_000_000, "\ud800" * 25):
        assert not may_be_secret(presented)


@pytest.mark.parametrize(
    ("kept", "outdated"),
    [
        ("$2b$11$" + "x" * 53, True),
        ("$2a$04$" + "x" * 53, True),
        ("$2b$12$" + "x" * 53, False),
        ("$2b$13$" + "x" * 53, False),
        ("!", False),
        ("", False),
    ],
)
def test_a_cheaper_hash_is_outdated_and_a_dearer_one_is_not(kept: str, outdated: bool) -> None:
    hasher = SecretHasher(CHEAPEST_BCRYPT)
    hasher.cost = 12
    assert hasher.is_outdated(kept) is outdated


class Held(SecretHasher):
    """Runs what it is told to only when the test lets it."""

    def __init__(self, threads: int, room: int) -> None:
        super().__init__(CHEAPEST_BCRYPT, threads, room)
        self.let = threading.Event()
        self.begun = 0
        self.most = 0
        self._running = 0
        self._counting = threading.Lock()

    async def one(self) -> None:
        await self._in_turn(self._wait)

    def _wait(self) -> None:
        with self._counting:
            self._running += 1
            self.begun += 1
            self.most = max(self.most, self._running)
        assert self.let.wait(20)
        with self._counting:
            self._running -= 1


async def waiting(hasher: Held, size: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(hasher.one()) for _ in range(size)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_no_secret_is_refused_without_a_hash() -> None:
    """Were one made, it would wait for a turn, and there is none to be had."""
    full = Held(threads=1, room=0)
    tasks = await waiting(full, 1)
    for kept in (None, "$2b$04$" + "x" * 53):
        assert not await full.matches("x" * (MAX_SECRET_BYTES + 1), kept)
        with pytest.raises(Unavailable):
            await full.matches("x" * MAX_SECRET_BYTES, kept)
    full.let.set()
    await asyncio.gather(*tasks)


async def test_few_run_at_once_some_wait_and_the_rest_is_told_when_to_come_again() -> None:
    hasher = Held(threads=2, room=3)
    tasks = await waiting(hasher, 9)
    refused = [task.exception() for task in tasks if task.done()]
    assert [type(error) for error in refused] == [Unavailable] * 4
    for error in refused:
        assert isinstance(error, Unavailable)
        assert error.retry_after >= 1
    hasher.let.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (hasher.begun, hasher.most) == (5, 2)
    # There is room again.
    await hasher.one()


async def test_who_gives_up_while_it_waits_makes_room_and_costs_nothing() -> None:
    hasher = Held(threads=1, room=2)
    running, *queued = await waiting(hasher, 3)
    for task in queued:
        task.cancel()
    await asyncio.wait(queued)
    again = await waiting(hasher, 3)
    assert [task.done() for task in again] == [False, False, True]
    hasher.let.set()
    await asyncio.gather(running, *again, return_exceptions=True)
    assert hasher.begun == 3


async def test_who_gives_up_what_has_begun_keeps_its_place_until_it_has_ended() -> None:
    hasher = Held(threads=1, room=1)
    [running] = await waiting(hasher, 1)
    running.cancel()
    queued, refused = await waiting(hasher, 2)
    assert running.cancelled()
    assert isinstance(refused.exception(), Unavailable)
    hasher.let.set()
    await queued
    assert (hasher.begun, hasher.most) == (2, 1)


def test_a_dear_hash_is_waited_for_by_few_and_a_cheap_one_by_many() -> None:
    """As many as are hashed within the patience of a request."""
    dear, cheap = (SecretHasher(cost, threads=1).room for cost in (11, 4))
    assert 8 < dear < 400 < cheap <= 1024


async def test_what_hashes_take_by_now_decides_who_may_wait() -> None:
    """The machine may be slower than it was, or others may want it too."""
    hasher = SecretHasher(CHEAPEST_BCRYPT, threads=1)
    before = hasher.room
    hasher.cost = 8
    for _ in range(16):
        await hasher.hash("x")
    slower = hasher.room
    assert slower < before
    hasher.cost = CHEAPEST_BCRYPT
    for _ in range(64):
        await hasher.hash("x")
    assert hasher.room > slower


async def test_the_event_loop_runs_on_while_a_hash_is_made() -> None:
    ticks = 0
    done = False

    async def hash_one() -> None:
        nonlocal done
        await SecretHasher(10).hash(new_secret())
        done = True

    async with anyio.create_task_group() as group:
        group.start_soon(hash_one)
        while not done:
            ticks += 1
            await anyio.lowlevel.checkpoint()
    assert ticks > 10


async def test_a_crowd_from_one_address_stands_behind_the_first_of_another() -> None:
    """Of the crowd no more are before it than can be hashed at once."""
    one_by_one = SecretHasher(CHEAPEST_BCRYPT, threads=1, room=100)
    ended: list[str] = []

    async def log_in(whence: str) -> None:
        assert not await one_by_one.matches(new_secret(), None, whence)
        ended.append(whence)

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(log_in, "192.0.2.1")
        await anyio.lowlevel.checkpoint()
        group.start_soon(log_in, "198.51.100.7")
    assert len(ended) == 31
    assert ended.index("198.51.100.7") <= 2


async def test_who_gives_up_in_a_crowd_leaves_its_place() -> None:
    small = SecretHasher(CHEAPEST_BCRYPT, threads=1, room=3)
    for _ in range(5):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(small.matches, new_secret(), None, "192.0.2.1")
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    # What had begun is not called back; it ends, and its place is free again.
    for _ in range(4):
        assert not await small.matches(new_secret(), None, "192.0.2.1")
