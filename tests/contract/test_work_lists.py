"""Work in lists: by key in pages, by how long it has been waiting, and summed up for each job."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from db.contract import Storage
from db.errors import InvalidInput
from db.filters import TenantFilter, WorkFilter
from db.work import JobName, JobSummary, Work, WorkState, summarised
from tests.contract.cast import MICROSECOND, NOW, after, new_row, put_rows, whole_row
from tests.contract.paging import (
    EVERYTHING,
    assert_pages,
    assert_refuses,
    assert_walks,
    items,
)

PROVISION, REMOVE = JobName.PROVISION_TENANT, JobName.REMOVE_TENANT
SLUGS = ["a_z", "aa", "a1", "ab_c", "abc", "zz"]


async def _many(storage: Storage) -> list[Work]:
    """In the order of their keys, whose slugs a language would sort otherwise than bytes do."""
    states = list(WorkState)
    rows = [
        *(new_row(PROVISION, slug, state=states[n % 5]) for n, slug in enumerate(SLUGS)),
        *(new_row(REMOVE, slug, state=states[n % 2]) for n, slug in enumerate(SLUGS[:2])),
        new_row(JobName.PURGE_AUDIT_EVENTS, state=WorkState.DONE),
        whole_row(JobName.WARM_REVOCATIONS, None),
    ]
    await put_rows(storage, *rows)
    return sorted(rows, key=lambda row: row.key.encode())


async def test_rows_are_listed_by_the_bytes_of_their_keys(storage: Storage) -> None:
    rows = await _many(storage)
    assert [row.tenant for row in rows[:6]] == ["a1", "a_z", "aa", "ab_c", "abc", "zz"]
    await assert_pages(storage.registry.work.page, rows)
    await assert_walks(storage.registry.work.page, rows)


@pytest.mark.parametrize(
    "filter",
    [
        WorkFilter(),
        WorkFilter(job=()),
        WorkFilter(state=()),
        WorkFilter(job=(PROVISION,)),
        WorkFilter(job=(REMOVE, JobName.WARM_REVOCATIONS, REMOVE)),
        WorkFilter(job=tuple(JobName), state=tuple(WorkState)),
        WorkFilter(state=(WorkState.QUEUED, WorkState.FAILED)),
        WorkFilter(tenant="aa"),
        WorkFilter(tenant="a"),
        WorkFilter(tenant=""),
        WorkFilter(tenant="A1 %_' nobody"),
        WorkFilter(job=(PROVISION,), state=(WorkState.RUNNING,), tenant="aa"),
        WorkFilter(job=(REMOVE,), state=(WorkState.CANCELLED,), tenant="aa"),
    ],
)
async def test_a_filter_leaves_what_matches_and_nothing_else(
    storage: Storage, filter: WorkFilter
) -> None:
    rows = [row for row in await _many(storage) if filter.matches(row)]
    work = storage.registry.work
    await assert_walks(lambda request: work.page(request, filter), rows, size=2)
    assert await work.count(filter) == len(rows)
    assert await work.count(filter, cap=1) == min(2, len(rows))


def test_filters_tell_rows_apart() -> None:
    assert WorkFilter(job=(PROVISION,), state=(WorkState.RUNNING,), tenant="aa").matches(
        new_row(PROVISION, "aa", state=WorkState.RUNNING)
    )
    for other in (
        new_row(REMOVE, "aa", state=WorkState.RUNNING),
        new_row(PROVISION, "aa"),
        new_row(PROVISION, "ab", state=WorkState.RUNNING),
    ):
        assert not WorkFilter(job=(PROVISION,), state=(WorkState.RUNNING,), tenant="aa").matches(
            other
        )
    assert not WorkFilter(tenant="aa").matches(new_row())


@pytest.mark.parametrize("text", ["a\x00", "a" * 129, "\ud800"])
def test_a_tenant_that_no_column_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        WorkFilter(tenant=text)
    assert refusal.value.path == ("tenant",)


async def test_a_count_stops_behind_its_cap(storage: Storage) -> None:
    await _many(storage)
    counts = [await storage.registry.work.count(cap=cap) for cap in (0, 8, 9, 10)]
    assert counts == [1, 9, 10, 10]


async def test_a_cursor_means_nothing_elsewhere(storage: Storage) -> None:
    await _many(storage)
    work, tenants = storage.registry.work, storage.registry.tenants
    filtered = await work.page(EVERYTHING, WorkFilter(job=(PROVISION,)))
    active = await tenants.page(EVERYTHING, TenantFilter())
    mine = await work.page(EVERYTHING)
    await assert_refuses(work.page, [filtered.cursors[0], active.cursors[0]])
    await assert_refuses(tenants.page, [mine.cursors[0]])


def running(tenant: str, lease_until: datetime | None) -> Work:
    return new_row(
        PROVISION, tenant, state=WorkState.RUNNING, run_after=after(-900), lease_until=lease_until
    )


async def test_what_is_due_comes_by_how_long_it_has_been_waiting(storage: Storage) -> None:
    """A row whose worker is gone has been waiting since the end of its lease."""
    expected = [
        running("dd", None),
        new_row(PROVISION, "ff", run_after=after(-60)),
        running("cc", after(-40)),
        new_row(PROVISION, "a_z", run_after=after(-30)),
        new_row(PROVISION, "aa", run_after=after(-30)),
        running("ab", after(-30)),
        new_row(REMOVE, "aa", run_after=after(-30)),
        new_row(run_after=NOW - MICROSECOND),
        new_row(JobName.PURGE_AUDIT_EVENTS),
        running("zz", NOW),
    ]
    expected[8:] = sorted(expected[8:], key=lambda row: row.key)
    await put_rows(
        storage,
        *reversed(expected),
        new_row(PROVISION, "bb", run_after=NOW + MICROSECOND),
        running("ee", NOW + MICROSECOND),
        *(
            new_row(JobName.MIGRATE_FLEET, f"t{state}", state=state, run_after=after(-99))
            for state in (WorkState.DONE, WorkState.FAILED, WorkState.CANCELLED)
        ),
    )
    work = storage.registry.work
    assert list(await work.due(NOW, 100)) == expected
    for limit in (1, 4, 10):
        assert list(await work.due(NOW, limit)) == expected[:limit]
    assert [row.key for row in await work.due(NOW + MICROSECOND, 100)][10:] == [
        "provision_tenant:bb",
        "provision_tenant:ee",
    ]
    assert all(row.due(NOW) for row in expected)


async def test_nothing_is_due_before_its_time(storage: Storage) -> None:
    assert list(await storage.registry.work.due(NOW, 10)) == []
    await put_rows(storage, new_row(), running("aa", after(9)))
    assert list(await storage.registry.work.due(NOW - MICROSECOND, 10)) == []


async def test_the_same_instant_elsewhere_in_the_world_is_the_same(storage: Storage) -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    await put_rows(storage, new_row(), new_row(REMOVE, "aa", run_after=NOW + MICROSECOND))
    assert list(await storage.registry.work.due(east, 10)) == [new_row()]
    [removal, warming] = await storage.registry.work.summary(east)
    assert (removal.due_since, warming.due_since) == (None, NOW)


INSTANTS = [after(-3600), after(-30), NOW - MICROSECOND, NOW, after(59), after(3600)]


async def _stories(storage: Storage) -> None:
    """Jobs with one row and with several: some that ended well, badly, at once, or never."""
    ended: dict[str, Any] = {
        "started_at": after(-9),
        "ms": 5,
        "report": {"seen": 1, "changed": 0, "failures": {}},
    }
    await put_rows(
        storage,
        new_row(),
        whole_row(JobName.MIGRATE_FLEET, None),
        new_row(
            PROVISION, "aa", state=WorkState.DONE,
            finished_at=after(-5), succeeded_at=after(-5), **ended,
        ),
        new_row(
            PROVISION, "a_z", state=WorkState.FAILED,
            finished_at=after(-5), last_error="blocked", **ended,
        ),
        new_row(PROVISION, "bb", state=WorkState.FAILED, finished_at=after(-6), **ended),
        new_row(PROVISION, "b1", run_after=after(-40)),
        new_row(PROVISION, "b2", run_after=after(40)),
        running("cc", after(-50)),
        running("dd", after(50)),
        new_row(REMOVE, "aa", state=WorkState.CANCELLED),
        new_row(REMOVE, "ab", state=WorkState.QUEUED, run_after=after(86_400)),
        new_row(
            JobName.TAIL_REVOCATIONS,
            finished_at=after(-1), succeeded_at=after(-20), last_error="", **ended,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("now", INSTANTS)
async def test_a_summary_says_what_the_rows_say(storage: Storage, now: datetime) -> None:
    await _stories(storage)
    rows = await items(storage.registry.work.page)
    assert list(await storage.registry.work.summary(now)) == list(summarised(rows, now))


async def test_a_summary_has_a_line_for_each_job_that_has_a_row(storage: Storage) -> None:
    assert list(await storage.registry.work.summary(NOW)) == []
    await _stories(storage)
    lines = {line.job: line for line in await storage.registry.work.summary(NOW)}
    assert list(lines) == [
        JobName.MIGRATE_FLEET,
        PROVISION,
        REMOVE,
        JobName.TAIL_REVOCATIONS,
        JobName.WARM_REVOCATIONS,
    ]
    last = lines[PROVISION].last
    # Two ended at one instant: the last by key is the last.
    assert last is not None
    assert last.key == "provision_tenant:aa"
    assert lines[PROVISION] == JobSummary(
        job=PROVISION,
        queued=2,
        running=2,
        failed=2,
        due_since=after(-50),
        succeeded_at=after(-5),
        last=last,
    )
    assert lines[REMOVE] == JobSummary(job=REMOVE, queued=1)
    assert lines[JobName.WARM_REVOCATIONS] == JobSummary(
        job=JobName.WARM_REVOCATIONS, queued=1, due_since=NOW
    )
    assert lines[JobName.MIGRATE_FLEET].last == whole_row(JobName.MIGRATE_FLEET, None)


async def test_some_rows_are_found_at_once_by_their_keys(storage: Storage) -> None:
    rows = await _many(storage)
    keys = [row.key for row in rows]
    many = storage.registry.work.get_many
    assert await many([*keys[:3], keys[0], "remove_tenant:nobody"]) == {
        row.key: row for row in rows[:3]
    }
    assert await many([]) == {}
    assert await many(["nothing", "a'b"]) == {}
