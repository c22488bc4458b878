"""Signing keys: one is read by its kid, changes its status, and is known when it is retired."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from db.contract import Storage
from db.errors import InvalidTransition, NotFound
from db.records import SigningKey, SigningKeyStatus
from tests.contract.cast import MICROSECOND, NOW, after, new_key

PUBLISHED, SIGNING = SigningKeyStatus.PUBLISHED, SigningKeyStatus.SIGNING
RETIRED = SigningKeyStatus.RETIRED


async def put_keys(storage: Storage, *keys: SigningKey) -> None:
    async with storage.registry_unit() as unit:
        for key in keys:
            assert await unit.signing_keys.add(key)


async def save(storage: Storage, *keys: SigningKey) -> None:
    async with storage.registry_unit() as unit:
        for key in keys:
            await unit.signing_keys.save(key)


async def test_a_key_is_found_by_its_kid_whatever_its_status(storage: Storage) -> None:
    keys = [new_key(status=status, changed_at=after(1)) for status in SigningKeyStatus]
    await put_keys(storage, *keys)
    for key in keys:
        assert await storage.registry.signing_keys.get(key.kid) == key
        async with storage.registry_unit() as unit:
            assert await unit.signing_keys.get(key.kid) == key
    for unknown in (keys[0].kid.upper() + "x", ""):
        assert await storage.registry.signing_keys.get(unknown) is None
        async with storage.registry_unit() as unit:
            assert await unit.signing_keys.get(unknown) is None


async def test_a_key_s_status_and_private_half_change_and_nothing_else(storage: Storage) -> None:
    key, other = new_key(), new_key(status=SIGNING)
    await put_keys(storage, key, other)
    changed = replace(
        new_key(),
        kid=key.kid,
        algorithm="RS256",
        private_key=b"another",
        created_at=after(9),
        status=RETIRED,
        changed_at=after(5),
    )
    async with storage.registry_unit() as unit:
        await unit.signing_keys.save(changed)
        expected = replace(key, private_key=b"another", status=RETIRED, changed_at=after(5))
        assert await unit.signing_keys.get(key.kid) == expected
        assert await storage.registry.signing_keys.get(key.kid) == key
    assert await storage.registry.signing_keys.get(key.kid) == expected
    assert await storage.registry.signing_keys.get(other.kid) == other


async def test_a_private_half_can_be_forgotten(storage: Storage) -> None:
    key = new_key(private_key=b"\x00sealed")
    await put_keys(storage, key)
    gone = replace(key, private_key=b"", status=RETIRED, changed_at=after(1))
    await save(storage, gone)
    assert await storage.registry.signing_keys.get(key.kid) == gone
    assert list(await storage.registry.signing_keys.retired(NOW)) == [gone]


async def test_an_unknown_key_is_not_saved(storage: Storage) -> None:
    with pytest.raises(NotFound):
        await save(storage, new_key())
    assert list(await storage.registry.signing_keys.all()) == []


async def test_no_second_key_comes_to_sign(storage: Storage) -> None:
    signing, next_one = new_key(status=SIGNING), new_key(created_at=after(1))
    await put_keys(storage, signing, next_one)
    with pytest.raises(InvalidTransition) as refused:
        await save(storage, replace(next_one, status=SIGNING, changed_at=after(2)))
    assert refused.value.path == ("kid",)
    assert list(await storage.registry.signing_keys.all()) == [signing, next_one]

    again = replace(signing, changed_at=after(3))
    await save(storage, again)
    assert list(await storage.registry.signing_keys.all()) == [again, next_one]


async def test_one_key_signs_in_the_place_of_another(storage: Storage) -> None:
    signing, next_one = new_key(status=SIGNING), new_key(created_at=after(1))
    await put_keys(storage, signing, next_one)
    after_it = (
        replace(signing, status=PUBLISHED, changed_at=after(2)),
        replace(next_one, status=SIGNING, changed_at=after(2)),
    )
    await save(storage, *after_it)
    assert tuple(await storage.registry.signing_keys.all()) == after_it


async def test_of_units_that_rotate_one_key_exactly_one_does(storage: Storage) -> None:
    signing = new_key(status=SIGNING)
    rivals = [new_key(created_at=after(1 + place)) for place in range(4)]
    await put_keys(storage, signing, *rivals)

    async def rotate(rival: SigningKey) -> bool:
        async with storage.registry_unit() as unit:
            held = await unit.signing_keys.get(signing.kid)
            assert held is not None
            if held.status is not SIGNING:
                return False
            await unit.signing_keys.save(replace(held, status=PUBLISHED, changed_at=after(9)))
            await unit.signing_keys.save(replace(rival, status=SIGNING, changed_at=after(9)))
            return True

    won = await asyncio.gather(*(rotate(rival) for rival in rivals))
    assert sorted(won) == [False] * 3 + [True]
    keys = await storage.registry.signing_keys.all()
    assert [key.kid for key in keys if key.status is SIGNING] == [rivals[won.index(True)].kid]


async def test_the_retired_are_those_since_an_instant_by_kid(storage: Storage) -> None:
    retired = [
        new_key(kid=kid, status=RETIRED, changed_at=changed)
        for kid, changed in (("k-2", NOW), ("K3", after(9)), ("k1", after(1)), ("a", after(-1)))
    ]
    live = [new_key(changed_at=after(5)), new_key(status=SIGNING, changed_at=after(5))]
    await put_keys(storage, *retired, *live)
    keys = storage.registry.signing_keys
    two, three, one, oldest = retired
    assert list(await keys.retired(NOW)) == [three, two, one]
    assert list(await keys.retired(NOW + MICROSECOND)) == [three, one]
    assert list(await keys.retired(after(-1))) == [three, oldest, two, one]
    assert list(await keys.retired(after(10))) == []
