"""What is waiting to be done by time, and how one row of it moves from state to state.

There is one row for each job, or for each job and tenant, and it is the truth: whatever rings the
bell for it may be lost. A worker that runs it holds a lease and renews it; when that is over, any
other may claim the row. Every change below starts from a row that the unit holds, so two workers
never claim one row, and one that was taken for dead finds its `fence` passed and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from db.records import JSONObject

LEASE = timedelta(seconds=60)

_FIRST_DELAY = timedelta(seconds=2)
_LONGEST_DELAY = timedelta(minutes=5)
_DOUBLINGS = 10  # are more than the longest delay has; more of them no timedelta could hold


class JobName(StrEnum):
    """The list of them, with schedules and reasons, is the workers'."""

    PROVISION_TENANT = "provision_tenant"
    REMOVE_TENANT = "remove_tenant"
    MIGRATE_FLEET = "migrate_fleet"
    WARM_REVOCATIONS = "warm_revocations"
    TAIL_REVOCATIONS = "tail_revocations"
    SWEEP_REVOCATIONS = "sweep_revocations"
    EXPIRE_CREDENTIALS = "expire_credentials"
    ENSURE_AUDIT_PARTITIONS = "ensure_audit_partitions"
    PURGE_AUDIT_EVENTS = "purge_audit_events"


class WorkState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


def work_key(job: JobName, tenant: str | None = None) -> str:
    """`warm_revocations`, `provision_tenant:acme`."""
    return job.value if tenant is None else f"{job.value}:{tenant}"


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to be done. `fence` counts every claim ever made; `attempts` those since it last
    ended well or was asked for anew. `finished_at`, `ms`, `report` (`seen`, `changed`, `failures`)
    and `last_error` are of the last run that ended, `progress` (`done`, `total`) of the one that
    runs or ran last."""

    key: str
    job: JobName
    state: WorkState
    run_after: datetime
    created_at: datetime
    tenant: str | None = None
    attempts: int = 0
    fence: int = 0
    worker: str | None = None
    lease_until: datetime | None = None
    progress: JSONObject | None = None
    report: JSONObject | None = None
    last_error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    succeeded_at: datetime | None = None
    ms: int | None = None

    def due(self, now: datetime) -> bool:
        """Whether a worker may claim it: its time has come, or its worker's lease is over."""
        if self.state is WorkState.QUEUED:
            return self.run_after <= now
        return self.state is WorkState.RUNNING and (
            self.lease_until is None or self.lease_until <= now
        )

    def held_by(self, claimed: Work) -> bool:
        """Whether the claim that gave `claimed` is still the last one."""
        return self.state is WorkState.RUNNING and self.fence == claimed.fence


@dataclass(frozen=True, slots=True)
class JobSummary:
    """How one job stands, over all its rows: how many are in which state, since when the longest
    waiting of those that are due has been, and the row that ended last."""

    job: JobName
    queued: int = 0
    running: int = 0
    failed: int = 0
    due_since: datetime | None = None
    succeeded_at: datetime | None = None
    last: Work | None = None


class Doorbell(Protocol):
    """A nudge that some rows are due. Losing one means late, never lost, so it never raises."""

    async def ring(self, *keys: str) -> None: ...


def new_work(job: JobName, now: datetime, tenant: str | None = None, *, after: datetime) -> Work:
    """A row that has never run, due at `after`."""
    return Work(
        key=work_key(job, tenant),
        job=job,
        state=WorkState.QUEUED,
        run_after=after,
        created_at=now,
        tenant=tenant,
    )


def requeued(work: Work, after: datetime) -> Work:
    """Asked for anew, whatever became of it before; one that runs goes on undisturbed."""
    if work.state is WorkState.RUNNING:
        return work
    return replace(work, state=WorkState.QUEUED, run_after=after, attempts=0)


def cancelled(work: Work) -> Work | None:
    """Not to be done any more; None when it runs, for then it is too late."""
    return None if work.state is WorkState.RUNNING else replace(work, state=WorkState.CANCELLED)


def claimed(work: Work, worker: str, now: datetime, lease: timedelta = LEASE) -> Work | None:
    """Running under a lease from `now`; None when it is not due."""
    if not work.due(now):
        return None
    return replace(
        work,
        state=WorkState.RUNNING,
        worker=worker,
        lease_until=now + lease,
        attempts=work.attempts + 1,
        fence=work.fence + 1,
        progress=None,
        started_at=now,
    )


def renewed(
    work: Work, now: datetime, progress: JSONObject | None, lease: timedelta = LEASE
) -> Work:
    """Still at it."""
    return replace(work, lease_until=now + lease, progress=progress)


def released(work: Work, now: datetime) -> Work:
    """Put back by a worker that has to stop: due at once, and no attempt of its own."""
    return replace(
        _let_go(work), state=WorkState.QUEUED, run_after=now, attempts=max(0, work.attempts - 1)
    )


def finished(work: Work, now: datetime, report: JSONObject, again_at: datetime | None) -> Work:
    """Ended well; queued for `again_at` when the job has a schedule."""
    return replace(
        _ended(work, now),
        state=WorkState.DONE if again_at is None else WorkState.QUEUED,
        run_after=work.run_after if again_at is None else again_at,
        attempts=0,
        report=report,
        last_error=None,
        succeeded_at=now,
    )


def failed(
    work: Work,
    now: datetime,
    error: str,
    *,
    most_attempts: int,
    again_at: datetime | None,
    report: JSONObject | None = None,
) -> Work:
    """Ended badly: tried again after a while, twice as long each time. After `most_attempts` it is
    left for the operator, or waits for `again_at` when the job has a schedule."""
    ended = replace(_ended(work, now), last_error=error, report=report)
    if work.attempts < most_attempts:
        delay = min(_FIRST_DELAY * 2 ** min(work.attempts - 1, _DOUBLINGS), _LONGEST_DELAY)
        return replace(ended, state=WorkState.QUEUED, run_after=now + delay)
    if again_at is not None:
        return replace(ended, state=WorkState.QUEUED, run_after=again_at, attempts=0)
    return replace(ended, state=WorkState.FAILED)


def _ended(work: Work, now: datetime) -> Work:
    started = work.started_at or now
    ms = max(0, round((now - started) / timedelta(milliseconds=1)))
    return replace(_let_go(work), finished_at=now, ms=ms)


def _let_go(work: Work) -> Work:
    return replace(work, worker=None, lease_until=None)


def summarised(works: Sequence[Work], now: datetime) -> Sequence[JobSummary]:
    """The meaning of `WorkReader.summary`: a line for each job that has a row, by its name."""
    lines = []
    for job in sorted({work.job for work in works}):
        rows = [work for work in works if work.job is job]
        ended = [work for work in rows if work.finished_at is not None]
        lines.append(
            JobSummary(
                job=job,
                queued=sum(work.state is WorkState.QUEUED for work in rows),
                running=sum(work.state is WorkState.RUNNING for work in rows),
                failed=sum(work.state is WorkState.FAILED for work in rows),
                due_since=min((due_since(work) for work in rows if work.due(now)), default=None),
                succeeded_at=max(
                    (work.succeeded_at for work in rows if work.succeeded_at), default=None
                ),
                last=max(ended, key=lambda work: (work.finished_at or now, work.key), default=None),
            )
        )
    return lines


def due_since(work: Work) -> datetime:
    """When one that is open came to be due, or will."""
    if work.state is WorkState.RUNNING and work.lease_until is not None:
        return work.lease_until
    return work.run_after
