"""What is waiting to be done, in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from db import lists
from db.filters import WorkFilter
from db.memory.copies import fresh, fresh_value, stored, stored_value
from db.memory.drafts import Draft
from db.memory.rows import Rows, Selection
from db.memory.units import Life
from db.pages import Page, PageRequest
from db.records import JSON, JSONObject
from db.work import JobSummary, Work, due_since, summarised

_EVERY = WorkFilter()

Works = Rows[Work, lists.ByKey]
Payloads = dict[str, JSON]


class MemoryWork:
    def __init__(self, rows: Works) -> None:
        self._rows = rows

    async def get(self, key: str) -> Work | None:
        work = self._rows.get(key)
        return work and fresh(work)

    async def get_many(self, keys: Collection[str]) -> Mapping[str, Work]:
        found = {key: self._rows.get(key) for key in keys}
        return {key: fresh(work) for key, work in found.items() if work is not None}

    async def page(self, request: PageRequest, filter: WorkFilter = _EVERY) -> Page[Work]:
        return self._select(filter).page(lists.work(filter), request, descending=False, show=fresh)

    async def count(self, filter: WorkFilter = _EVERY, cap: int = 10_000) -> int:
        return self._select(filter).count(cap)

    async def due(self, now: datetime, limit: int) -> Sequence[Work]:
        due = [work for work in self._rows.every() if work.due(now)]
        return [fresh(work) for work in sorted(due, key=_by_waiting)[:limit]]

    async def summary(self, now: datetime) -> Sequence[JobSummary]:
        return summarised([fresh(work) for work in self._rows.every()], now)

    def _select(self, filter: WorkFilter) -> Selection[Work, lists.ByKey]:
        return self._rows.select(matches=None if filter == _EVERY else filter.matches)


class MemoryWorkStore:
    def __init__(self, rows: Works, payloads: Payloads, life: Life) -> None:
        self._life = life
        self._draft = Draft(rows, "work", life)
        self._payloads = payloads
        self._sealed: Payloads = {}

    async def add(self, work: Work) -> bool:
        if self._draft.get(work.key) is not None:
            return False
        self._draft.put(stored(work))
        return True

    async def get(self, key: str) -> Work | None:
        work = self._draft.get(key)
        return work and fresh(work)

    async def save(self, work: Work) -> None:
        first = self._draft.known(work.key)
        self._draft.put(
            replace(stored(work), job=first.job, tenant=first.tenant, created_at=first.created_at)
        )

    async def seal(self, key: str, payload: JSONObject | None) -> None:
        self._draft.known(key)
        self._sealed[key] = stored_value(payload)

    async def unseal(self, key: str) -> JSONObject | None:
        self._life.go_on()
        payload = self._sealed[key] if key in self._sealed else self._payloads.get(key)
        found = fresh_value(payload)
        return found if isinstance(found, dict) else None

    def keep(self) -> None:
        self._draft.keep()
        self._payloads.update(self._sealed)


def _by_waiting(work: Work) -> tuple[datetime, str]:
    return (due_since(work), work.key)
