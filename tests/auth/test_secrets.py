"""Client secrets: made well, kept as a hash, and compared whole."""

from __future__ import annotations

import re

import anyio
import pytest

from gateway.auth.secrets import MAX_SECRET_BYTES, SecretHasher, new_secret, tag_of
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
