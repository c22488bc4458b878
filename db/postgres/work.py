"""What is waiting to be done, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, bindparam, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, distinct_on, insert

from db import lists
from db.filters import WorkFilter
from db.lists import ByKey
from db.pages import Page, PageRequest
from db.postgres.connections import Changing, Reading
from db.postgres.listing import Listing, Parameters, among, given
from db.postgres.rows import WORK, parameters
from db.records import JSONObject
from db.tables import work
from db.work import JobName, JobSummary, Work, WorkState

_WORK: Listing[Work, ByKey] = Listing(
    (work.c.key,),
    {
        "job": among(work.c.job, "job"),
        "state": among(work.c.state, "state"),
        "tenant": work.c.tenant == bindparam("tenant"),
        "known": among(work.c.job, "known"),
    },
    descending=False,
)
_COLUMNS = WORK.columns(WORK.names)
_GET = select(*_COLUMNS).where(work.c.key == bindparam("key"))
_GET_MANY = select(*_COLUMNS).where(among(work.c.key, "keys"))
_HOLD = _GET.with_for_update()
_ADD = insert(work).on_conflict_do_nothing(index_elements=["key"]).returning(work.c.key)
_SAVE = update(work).where(work.c.key == bindparam("row")).returning(work.c.key)
_SEAL = _SAVE.values(payload=bindparam("payload", type_=JSONB(none_as_null=True)))
_UNSEAL = select(work.c.payload).where(work.c.key == bindparam("key"))
_NEVER_CHANGES = ("key", "job", "tenant", "created_at")

_NOW = bindparam("now", type_=TIMESTAMP(timezone=True))


def _in(state: WorkState) -> ColumnElement[bool]:
    # Literal, so that the partial index on what is open can be seen to serve.
    return work.c.state == literal(state.value, literal_execute=True)


_LEASE_OVER = or_(work.c.lease_until.is_(None), work.c.lease_until <= _NOW)
_DUE = or_(
    and_(_in(WorkState.QUEUED), work.c.run_after <= _NOW),
    and_(_in(WorkState.RUNNING), _LEASE_OVER),
)
_DUE_SINCE = case(
    (and_(_in(WorkState.RUNNING), work.c.lease_until.is_not(None)), work.c.lease_until),
    else_=work.c.run_after,
)
# While a newer program is rolled out its jobs are queued here too, and they are left to it: here
# they have no name, so no list has them.
_JOBS = tuple(job.value for job in JobName)
_KNOWN = work.c.job.in_(_JOBS)
_LIST_DUE = (
    select(*_COLUMNS).where(_KNOWN, _DUE).order_by(_DUE_SINCE, work.c.key).limit(bindparam("limit"))
)
_COUNTS = (
    select(
        work.c.job,
        func.count().filter(_in(WorkState.QUEUED)).label("queued"),
        func.count().filter(_in(WorkState.RUNNING)).label("running"),
        func.count().filter(_in(WorkState.FAILED)).label("failed"),
        func.min(_DUE_SINCE).filter(_DUE).label("due_since"),
        func.max(work.c.succeeded_at).label("succeeded_at"),
    )
    .where(_KNOWN)
    .group_by(work.c.job)
)
_LAST = (
    select(*_COLUMNS)
    .where(_KNOWN, work.c.finished_at.is_not(None))
    .ext(distinct_on(work.c.job))
    .order_by(work.c.job, work.c.finished_at.desc(), work.c.key.desc())
)


class PostgresWorkReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def get(self, key: str) -> Work | None:
        rows = await self._reading.rows(_GET, {"key": key})
        return WORK.record(rows[0]) if rows else None

    async def get_many(self, keys: Collection[str]) -> Mapping[str, Work]:
        rows = await self._reading.rows(_GET_MANY, {"keys": list(keys)}) if keys else ()
        found = [WORK.record(row) for row in rows]
        return {work.key: work for work in found}

    async def page(self, request: PageRequest, filter: WorkFilter = WorkFilter()) -> Page[Work]:
        return await _WORK.page(
            self._reading, lists.work(filter), request, _given(filter), WORK.names, WORK.record
        )

    async def count(self, filter: WorkFilter = WorkFilter(), cap: int = 10_000) -> int:
        return await _WORK.count(self._reading, _given(filter), cap)

    async def due(self, now: datetime, limit: int) -> Sequence[Work]:
        rows = await self._reading.rows(_LIST_DUE, {"now": now, "limit": limit})
        return [WORK.record(row) for row in rows]

    async def summary(self, now: datetime) -> Sequence[JobSummary]:
        last = {row.job: WORK.record(row) for row in await self._reading.rows(_LAST, {})}
        counted = await self._reading.rows(_COUNTS, {"now": now})
        lines = [
            JobSummary(
                job=JobName(row.job),
                queued=row.queued,
                running=row.running,
                failed=row.failed,
                due_since=row.due_since,
                succeeded_at=row.succeeded_at,
                last=last.get(row.job),
            )
            for row in counted
        ]
        # By the bytes of the name, whatever the database's collation.
        return sorted(lines, key=lambda line: line.job)


class PostgresWorkStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, work: Work) -> bool:
        return bool(await self._changing.rows(_ADD, parameters(work)))

    async def get(self, key: str) -> Work | None:
        rows = await self._changing.rows(_HOLD, {"key": key})
        return WORK.record(rows[0]) if rows else None

    async def save(self, work: Work) -> None:
        changed = parameters(work)
        for name in _NEVER_CHANGES:
            del changed[name]
        await self._changing.change(_SAVE, {**changed, "row": work.key}, missing=_MISSING)

    async def seal(self, key: str, payload: JSONObject | None) -> None:
        await self._changing.change(_SEAL, {"row": key, "payload": payload}, missing=_MISSING)

    async def unseal(self, key: str) -> JSONObject | None:
        rows = await self._changing.rows(_UNSEAL, {"key": key})
        payload: JSONObject | None = rows[0][0] if rows else None
        return payload


_MISSING = "there is no such work"


def _given(filter: WorkFilter) -> Parameters:
    return given(job=filter.job, state=filter.state, tenant=filter.tenant, known=_JOBS)
