"""Idempotency keys: the first request with one has it for a day; others hear what it got."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage
from db.errors import UnitOver
from db.records import IDEMPOTENCY_SPAN, IdempotencyKey
from tests.contract.cast import AWKWARD, MICROSECOND, NOW, Interrupted, new_idempotency_key

FIRST = new_idempotency_key(
    scope=AWKWARD[:64], result={AWKWARD: [1, 2.5, None, {"a": AWKWARD}], "b": {}}
)
OVER = NOW + IDEMPOTENCY_SPAN


async def claim(storage: Storage, record: IdempotencyKey) -> IdempotencyKey | None:
    async with storage.registry_unit() as unit:
        return await unit.idempotency.claim(record)


async def sweep(storage: Storage, now: datetime) -> int:
    async with storage.registry_unit() as unit:
        return await unit.idempotency.sweep(now)


async def kept(
    storage: Storage, now: datetime = NOW, record: IdempotencyKey = FIRST
) -> IdempotencyKey | None:
    return await storage.registry.idempotency.get(record.scope, record.key, now)


def again(created_at: datetime = NOW) -> IdempotencyKey:
    """The same key, with all else different."""
    return replace(FIRST, fingerprint="0a" * 32, result={"slug": "other"}, created_at=created_at)


async def test_a_new_key_is_kept_and_a_known_one_answers_what_is_there(storage: Storage) -> None:
    assert await kept(storage) is None
    assert await claim(storage, FIRST) is None
    assert await kept(storage) == FIRST
    assert await claim(storage, again()) == FIRST
    assert await kept(storage) == FIRST


async def test_a_key_belongs_to_its_scope(storage: Storage) -> None:
    elsewhere = replace(FIRST, scope="acme", result={})
    other = replace(FIRST, key=uuid4(), result={"other": True})
    for record in (FIRST, elsewhere, other):
        assert await claim(storage, record) is None
    for record in (FIRST, elsewhere, other):
        assert await kept(storage, record=record) == record
    assert await kept(storage, record=replace(elsewhere, key=other.key)) is None


async def test_a_key_is_over_after_a_day_to_the_microsecond(storage: Storage) -> None:
    await claim(storage, FIRST)
    assert await kept(storage, OVER - MICROSECOND) == FIRST
    assert await claim(storage, again(OVER - MICROSECOND)) == FIRST
    assert await kept(storage, OVER) is None
    assert await kept(storage, NOW) == FIRST

    assert await claim(storage, again(OVER)) is None
    assert await kept(storage, OVER) == again(OVER)
    assert await claim(storage, FIRST) == again(OVER)
    assert await kept(storage, NOW) == again(OVER)


async def test_a_unit_knows_the_keys_that_it_has_claimed(storage: Storage) -> None:
    async with storage.registry_unit() as unit:
        assert await unit.idempotency.claim(FIRST) is None
        assert await unit.idempotency.claim(again()) == FIRST
        assert await unit.idempotency.claim(again(OVER)) is None
        assert await unit.idempotency.claim(FIRST) == again(OVER)
        assert await kept(storage) is None
    assert await kept(storage) == again(OVER)


async def test_a_unit_that_fails_has_claimed_and_swept_nothing(storage: Storage) -> None:
    old = new_idempotency_key(created_at=NOW - IDEMPOTENCY_SPAN)
    await claim(storage, old)

    async def fail() -> None:
        async with storage.registry_unit() as unit:
            assert await unit.idempotency.claim(FIRST) is None
            assert await unit.idempotency.sweep(NOW) == 1
            raise Interrupted

    with pytest.raises(Interrupted):
        await fail()
    assert await kept(storage) is None
    assert await kept(storage, NOW - MICROSECOND, old) == old
    assert await claim(storage, again()) is None


async def test_what_is_over_is_swept_and_nothing_else(storage: Storage) -> None:
    over = [
        new_idempotency_key(created_at=NOW - IDEMPOTENCY_SPAN - age)
        for age in (0 * MICROSECOND, MICROSECOND, IDEMPOTENCY_SPAN)
    ]
    live = [
        new_idempotency_key(created_at=NOW - IDEMPOTENCY_SPAN + MICROSECOND),
        new_idempotency_key(),
        new_idempotency_key(created_at=OVER),
    ]
    for record in (*over, *live):
        await claim(storage, record)
    long_ago = NOW - 9 * IDEMPOTENCY_SPAN
    assert await sweep(storage, long_ago) == 0
    assert await sweep(storage, NOW) == 3
    assert await sweep(storage, NOW) == 0
    assert [await kept(storage, long_ago, record) for record in (*over, *live)] == [
        None, None, None, *live,
    ]  # fmt: skip
    assert await claim(storage, over[0]) is None


async def test_a_unit_that_sweeps_knows_what_it_has_done(storage: Storage) -> None:
    old = new_idempotency_key(created_at=NOW - IDEMPOTENCY_SPAN)
    fresh = replace(old, created_at=NOW, result={"fresh": True})
    other = new_idempotency_key(created_at=NOW - IDEMPOTENCY_SPAN)
    await claim(storage, old)
    async with storage.registry_unit() as unit:
        assert await unit.idempotency.claim(fresh) is None
        assert await unit.idempotency.claim(other) is None
        assert await unit.idempotency.sweep(NOW) == 1
        assert await unit.idempotency.sweep(NOW) == 0
        assert await unit.idempotency.claim(other) is None
        assert await unit.idempotency.sweep(OVER) == 2
        assert await unit.idempotency.claim(old) is None
    assert await kept(storage, old.created_at, old) == old
    assert await kept(storage, other.created_at, other) is None


async def test_a_result_is_nobody_elses_to_change(storage: Storage) -> None:
    mine = new_idempotency_key(result={"a": ["b"]})
    await claim(storage, mine)
    mine.result["a"] = "changed"
    for _ in range(2):
        for found in (await kept(storage, record=mine), await claim(storage, mine)):
            assert found is not None
            assert found.result == {"a": ["b"]}
            found.result["a"] = "changed"


@pytest.mark.parametrize("before", [None, again(NOW - IDEMPOTENCY_SPAN)])
async def test_of_units_that_claim_one_key_exactly_one_has_it(
    storage: Storage, before: IdempotencyKey | None
) -> None:
    """The others wait for it, and hear what it got."""
    if before is not None:
        await claim(storage, before)
    rivals = [replace(FIRST, result={"rival": place}) for place in range(5)]

    async def rival(record: IdempotencyKey) -> IdempotencyKey | None:
        async with storage.registry_unit() as unit:
            found = await unit.idempotency.claim(record)
            for _ in range(5):
                await checkpoint()  # lets the others run
            return found

    found = await asyncio.gather(*(rival(record) for record in rivals))
    winner = rivals[found.index(None)]
    assert [each for each in found if each is not None] == [winner] * 4
    assert await kept(storage) == winner


async def test_a_claim_whose_unit_fails_is_the_next_ones(storage: Storage) -> None:
    claiming = asyncio.Event()

    async def fail() -> None:
        async with storage.registry_unit() as unit:
            assert await unit.idempotency.claim(FIRST) is None
            claiming.set()
            for _ in range(5):
                await checkpoint()  # lets the other reach the key
            raise Interrupted

    async def follow() -> IdempotencyKey | None:
        await claiming.wait()
        return await claim(storage, again())

    failed, found = await asyncio.gather(fail(), follow(), return_exceptions=True)
    assert isinstance(failed, Interrupted)
    assert found is None
    assert await kept(storage) == again()


async def test_nothing_can_be_claimed_or_swept_after_the_end_of_a_unit(storage: Storage) -> None:
    async with storage.registry_unit() as unit:
        pass
    with pytest.raises(UnitOver):
        await unit.idempotency.claim(FIRST)
    with pytest.raises(UnitOver):
        await unit.idempotency.sweep(NOW)
    assert await kept(storage) is None
