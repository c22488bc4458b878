"""Work that waits: a row for each key, held by one unit at a time, its payload seen by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from db.contract import Storage
from db.errors import NotFound, UnitOver
from db.work import JobName, Work, WorkState, claimed, requeued
from tests.contract.cast import (
    NOW,
    Interrupted,
    after,
    new_row,
    put_rows,
    seal,
    unsealed,
    whole_row,
)
from tests.contract.paging import items

KEY = "provision_tenant:acme"


async def every(storage: Storage) -> list[Work]:
    return await items(storage.registry.work.page)


@pytest.mark.parametrize(
    "row",
    [
        whole_row(),
        new_row(),
        whole_row(JobName.ENSURE_AUDIT_PARTITIONS, None, ms=0, attempts=0, last_error=""),
        whole_row(JobName.REMOVE_TENANT, "a" * 24, progress={}, report={}),
        *(new_row(job) for job in JobName),
        *(new_row(state=state) for state in WorkState),
    ],
)
async def test_an_added_row_reads_back_as_it_was_written(storage: Storage, row: Work) -> None:
    await put_rows(storage, row)
    assert await storage.registry.work.get(row.key) == row
    assert await every(storage) == [row]
    async with storage.registry_unit() as unit:
        assert await unit.work.get(row.key) == row


async def test_an_unknown_row_is_none(storage: Storage) -> None:
    await put_rows(storage, whole_row())
    assert await storage.registry.work.get("provision_tenant:globex") is None
    async with storage.registry_unit() as unit:
        assert await unit.work.get("provision_tenant:globex") is None
        assert await unit.work.unseal("provision_tenant:globex") is None


async def test_rows_are_got_by_their_keys_and_those_that_are_not_there_are_left_out(
    storage: Storage,
) -> None:
    rows = {row.key: row for row in (whole_row(), new_row(), new_row(JobName.MIGRATE_FLEET))}
    await put_rows(storage, *rows.values())
    get_many = storage.registry.work.get_many
    assert await get_many([]) == {}
    assert await get_many(["provision_tenant:globex", ""]) == {}
    assert await get_many(rows) == rows
    assert await get_many([KEY, "unknown", KEY]) == {KEY: whole_row()}


async def test_a_row_is_added_once_and_left_as_it_is(storage: Storage) -> None:
    first, second = whole_row(), new_row(JobName.PROVISION_TENANT, "acme")
    await put_rows(storage, first)
    await seal(storage, KEY, {"kept": True})
    async with storage.registry_unit() as unit:
        assert await unit.work.add(second) is False
        assert await unit.work.get(KEY) == first
        assert await unit.work.add(replace(second, key="provision_tenant:ab", tenant="ab")) is True
        assert await unit.work.add(replace(first, key="provision_tenant:ab", tenant="ab")) is False
    assert await storage.registry.work.get(KEY) == first
    assert await unsealed(storage, KEY) == {"kept": True}
    assert [row.state for row in await every(storage)] == [WorkState.QUEUED, WorkState.RUNNING]


async def test_saving_replaces_every_field_but_what_the_row_is_for(storage: Storage) -> None:
    first = new_row(JobName.PROVISION_TENANT, "acme")
    whole = whole_row()
    elsewhere = replace(whole, job=JobName.REMOVE_TENANT, tenant="globex", created_at=after(99))
    await put_rows(storage, first)
    async with storage.registry_unit() as unit:
        await unit.work.save(elsewhere)
        assert await unit.work.get(KEY) == replace(whole, created_at=NOW)
    assert await every(storage) == [replace(whole, created_at=NOW)]
    async with storage.registry_unit() as unit:
        await unit.work.save(first)
    assert await every(storage) == [first]


async def test_what_is_not_there_is_neither_saved_nor_sealed(storage: Storage) -> None:
    await put_rows(storage, whole_row(tenant="globex"))
    before = await every(storage)
    with pytest.raises(NotFound) as refusal:
        async with storage.registry_unit() as unit:
            await unit.work.save(whole_row())
    assert refusal.value.message == "there is no such work"
    with pytest.raises(NotFound) as refusal:
        await seal(storage, KEY, {"a": True})
    assert refusal.value.message == "there is no such work"
    assert await every(storage) == before
    assert await unsealed(storage, KEY) is None


async def test_a_unit_that_fails_leaves_neither_row_nor_payload(storage: Storage) -> None:
    known = whole_row()
    await put_rows(storage, known)
    await seal(storage, KEY, {"kept": True})

    async def fail() -> None:
        async with storage.registry_unit() as unit:
            await unit.work.add(new_row())
            await unit.work.seal("warm_revocations", {"new": True})
            await unit.work.save(replace(known, state=WorkState.DONE))
            await unit.work.seal(KEY, None)
            assert await unit.work.unseal(KEY) is None
            raise Interrupted

    with pytest.raises(Interrupted):
        await fail()
    assert await every(storage) == [known]
    assert await unsealed(storage, KEY) == {"kept": True}
    assert await unsealed(storage, "warm_revocations") is None


async def test_a_unit_that_is_over_has_no_work(storage: Storage) -> None:
    await put_rows(storage, whole_row())
    async with storage.registry_unit() as unit:
        pass
    acts: list[Callable[[], Any]] = [
        lambda: unit.work.get(KEY),
        lambda: unit.work.add(new_row()),
        lambda: unit.work.save(new_row()),
        lambda: unit.work.seal(KEY, {}),
        lambda: unit.work.unseal(KEY),
    ]
    for act in acts:
        with pytest.raises(UnitOver):
            await act()
    assert await every(storage) == [whole_row()]


async def test_what_a_row_reports_is_nobody_elses_to_change(storage: Storage) -> None:
    await put_rows(storage, whole_row())
    async with storage.registry_unit() as unit:
        held = await unit.work.get(KEY)
        assert held is not None
        assert held.report is not None
        held.report["failures"] = "changed"
    [summary] = await storage.registry.work.summary(NOW)
    for read in (
        await storage.registry.work.get(KEY),
        *await every(storage),
        *await storage.registry.work.due(after(3600), 5),
        summary.last,
    ):
        assert read == whole_row()
        assert read.report is not None
        read.report["seen"] = "changed"


async def test_of_units_that_add_one_row_exactly_one_does(storage: Storage) -> None:
    async def add(place: int) -> bool:
        async with storage.registry_unit() as unit:
            added = await unit.work.add(new_row(attempts=place))
            await checkpoint()  # lets the others run
            return added

    added = await asyncio.gather(*(add(place) for place in range(4)))
    assert sorted(added) == [False, False, False, True]
    assert await every(storage) == [new_row(attempts=added.index(True))]


async def test_a_row_whose_unit_fails_is_new_to_the_unit_that_waited(storage: Storage) -> None:
    adding = asyncio.Event()

    async def fail() -> None:
        async with storage.registry_unit() as unit:
            assert await unit.work.add(whole_row()) is True
            adding.set()
            await checkpoint()
            raise Interrupted

    async def follow() -> bool:
        await adding.wait()
        async with storage.registry_unit() as unit:
            return await unit.work.add(new_row(JobName.PROVISION_TENANT, "acme"))

    failed, added = await asyncio.gather(fail(), follow(), return_exceptions=True)
    assert isinstance(failed, Interrupted)
    assert added is True
    assert await every(storage) == [new_row(JobName.PROVISION_TENANT, "acme")]


async def test_of_workers_that_claim_one_row_exactly_one_has_it(storage: Storage) -> None:
    await put_rows(storage, new_row())

    async def claim(worker: str) -> Work | None:
        async with storage.registry_unit() as unit:
            held = await unit.work.get("warm_revocations")
            assert held is not None
            await checkpoint()  # lets the others run
            taken = claimed(held, worker, NOW)
            if taken is not None:
                await unit.work.save(taken)
            return taken

    claims = await asyncio.gather(*(claim(f"w{place}") for place in range(5)))
    [taken] = [each for each in claims if each is not None]
    assert await every(storage) == [taken]
    assert (taken.fence, taken.attempts) == (1, 1)


async def test_a_row_that_a_unit_holds_is_waited_for(storage: Storage) -> None:
    await put_rows(storage, new_row())
    holding, order = asyncio.Event(), list[str]()

    async def slow() -> None:
        async with storage.registry_unit() as unit:
            held = await unit.work.get("warm_revocations")
            assert held is not None
            holding.set()
            for _ in range(20):
                await checkpoint()  # lets the other reach the row
            await storage.registry.work.get("warm_revocations")
            order.append("slow")
            await unit.work.save(replace(held, fence=held.fence + 1))

    async def quick() -> None:
        await holding.wait()
        async with storage.registry_unit() as unit:
            held = await unit.work.get("warm_revocations")
            assert held is not None
            order.append(f"quick after {held.fence}")
            await unit.work.save(requeued(held, after(1)))

    await asyncio.gather(slow(), quick())
    assert order == ["slow", "quick after 1"]
    assert await every(storage) == [new_row(fence=1, run_after=after(1))]
