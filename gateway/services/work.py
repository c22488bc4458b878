"""What time does, as the operator sees it: its rows, how each job stands, a run out of turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from db.contract import Storage
from db.errors import InvalidInput, InvalidTransition, NotFound
from db.filters import WorkFilter
from db.namespace import prefix_problem
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import JSON
from db.registry import RegistryUnit
from db.work import (
    Doorbell,
    JobName,
    JobSummary,
    Work,
    WorkState,
    new_work,
    requeued,
    work_key,
)
from gateway.services.call import Call


class Listed(Protocol):
    """A line of the list of jobs, which is the workers' own."""

    @property
    def name(self) -> JobName: ...
    @property
    def schedule(self) -> str | None: ...
    @property
    def of_tenant(self) -> bool: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class JobStanding:
    """A job and all that is known of its rows at an instant. `lag_seconds` is how long the longest
    waiting of those that are due has waited."""

    listed: Listed
    summary: JobSummary
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did; `failures` is what it could not do, by name, with why."""

    seen: int
    changed: int
    failures: Mapping[str, str]


class WorkService:
    def __init__(self, storage: Storage, doorbell: Doorbell, catalogue: Sequence[Listed]) -> None:
        self._storage = storage
        self._doorbell = doorbell
        self._catalogue = {each.name: each for each in catalogue}

    async def page(self, request: PageRequest, filter: WorkFilter) -> Page[Work]:
        """Raises InvalidCursor."""
        return await self._storage.registry.work.page(request, filter)

    async def count(self, filter: WorkFilter) -> int:
        """As for agents."""
        return await self._storage.registry.work.count(filter, COUNT_CAP)

    async def jobs(self, now: datetime) -> Sequence[JobStanding]:
        """Every job there is, in the order of the list, those included that never had a row."""
        lines = {line.job: line for line in await self._storage.registry.work.summary(now)}
        return [
            _standing(listed, lines.get(name, JobSummary(job=name)), now)
            for name, listed in self._catalogue.items()
        ]

    async def run(self, call: Call, job: JobName, slug: str | None = None) -> Work:
        """The row, due now; one that runs already goes on, and is answered as it is.

        A row of a tenant is made where the tenant is made or removed, with what belongs to it, so
        one that is not there is not made here, and one that is over is not begun again. A removal
        is not run before its time of grace is over. Raises InvalidInput, NotFound,
        InvalidTransition.
        """
        key = self._key(job, slug)
        async with self._storage.registry_unit() as unit:
            work = await self._asked(unit, job, slug, key, call.now)
            if work.state is not WorkState.RUNNING:
                await unit.work.save(work)
                await unit.operator_events.append(
                    call.operator_event("job.requested", slug, {"job": job.value})
                )
        if work.due(call.now):
            await self._doorbell.ring(key)
        return work

    def _key(self, job: JobName, slug: str | None) -> str:
        """Raises InvalidInput, NotFound."""
        listed = self._catalogue.get(job)
        if listed is None:
            raise NotFound("there is no such job", ("job",))
        if listed.of_tenant is (slug is None):
            message = (
                f"{job.value} is done for one tenant: name it"
                if listed.of_tenant
                else f"{job.value} is done for all tenants at once: name none"
            )
            raise InvalidInput(message, ("tenant",))
        if slug is not None and prefix_problem(slug) is not None:
            raise _no_work()
        return work_key(job, slug)

    async def _asked(
        self, unit: RegistryUnit, job: JobName, slug: str | None, key: str, now: datetime
    ) -> Work:
        """Raises NotFound, InvalidTransition."""
        work = await unit.work.get(key)
        if slug is not None:
            if work is None:
                raise _no_work()
            _require_open(work, now)
        elif work is None:
            work = new_work(job, now, after=now)
            # A worker that starts just now may have been faster.
            if not await unit.work.add(work):
                work = await unit.work.get(key) or work
        # What has been waiting goes on waiting from when it was due, not from now.
        waiting = work.state is WorkState.QUEUED
        return requeued(work, min(work.run_after, now) if waiting else now)


def report_of(work: Work) -> RunReport | None:
    """Of the last run that ended; None when it was cut short before it could tell."""
    said = work.report
    if said is None:
        return None
    failures = said.get("failures")
    named = failures.items() if isinstance(failures, dict) else ()
    return RunReport(
        counted(said.get("seen")),
        counted(said.get("changed")),
        {name: str(reason) for name, reason in named},
    )


def counted(value: JSON) -> int:
    """A number out of a row, where whatever the job has told was kept."""
    return value if isinstance(value, int) else 0


def _require_open(work: Work, now: datetime) -> None:
    """Raises InvalidTransition."""
    if work.state is WorkState.DONE:
        raise InvalidTransition("it is done for this tenant: nothing is left to do", ("tenant",))
    if work.state is WorkState.CANCELLED:
        raise InvalidTransition("it was called off for this tenant", ("tenant",))
    if (
        work.job is JobName.REMOVE_TENANT
        and work.state is WorkState.QUEUED
        and work.run_after > now
    ):
        raise InvalidTransition(
            f"the tenant is removed at {work.run_after.isoformat()}, and not before", ("tenant",)
        )


def _no_work() -> NotFound:
    return NotFound("there is no such work for this tenant", ("tenant",))


def _standing(listed: Listed, summary: JobSummary, now: datetime) -> JobStanding:
    since = summary.due_since
    lag = 0.0 if since is None else max(0.0, (now - since).total_seconds())
    return JobStanding(listed, summary, lag)
