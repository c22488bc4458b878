"""What time does: every row of it, how each job stands, and a run out of turn, by the operator."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast

import strawberry
from strawberry import UNSET

from db import filters, work
from gateway.graphql import enums
from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import InvalidInput, InvalidTransition, NotFound
from gateway.graphql.filters import WorkFilter
from gateway.graphql.pages import Connection, Count, Counter, Cursor, described, given, page_request
from gateway.services.work import JobStanding, counted, report_of

_MOST = 2**31 - 1  # of GraphQL's Int


@strawberry.type(description="How far a run is, or came.")
class WorkProgress:
    done: int
    total: int


@strawberry.type(description="What could not be done, and why.")
class WorkFailure:
    subject: str
    reason: str


@strawberry.type(description="What a run did.")
class WorkReport:
    seen: int = strawberry.field(description="How many things were looked at.")
    changed: int
    failures: list[WorkFailure]


@strawberry.type(
    description=(
        "A job, or a job of one tenant. There is one row for it, which is queued again and again."
    )
)
class Work:
    """A record stands for it: fields without a resolver are read from the record by name."""

    key: str = strawberry.field(description="`purge_audit_events`, `provision_tenant:acme`.")
    job: enums.JobName
    tenant: str | None
    state: enums.WorkState
    attempts: int = strawberry.field(
        description="How often it was begun since it last ended well or was asked for anew."
    )
    run_after: datetime = strawberry.field(description="When it is or was due.")
    started_at: datetime | None
    finished_at: datetime | None = strawberry.field(description="When the last run ended.")
    succeeded_at: datetime | None
    lease_until: datetime | None = strawberry.field(
        description="Until when its worker need not be heard of; then another begins it again."
    )
    worker: str | None = strawberry.field(description="Which worker is at it.")
    last_error: str | None = strawberry.field(
        description="Why the last run ended badly; null when it ended well."
    )
    created_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, work.Work)

    @described("Of the last run that ended.")
    def duration_ms(self) -> int | None:
        ms = _record(self).ms
        return None if ms is None else min(ms, _MOST)

    @described("Of the run that is on, or of the last one.")
    def progress(self) -> WorkProgress | None:
        said = _record(self).progress
        if said is None:
            return None
        done, total = (min(counted(said.get(name)), _MOST) for name in ("done", "total"))
        return WorkProgress(done=done, total=total)

    @described("Of the last run that ended, unless it was cut short.")
    def report(self) -> WorkReport | None:
        said = report_of(_record(self))
        if said is None:
            return None
        return WorkReport(
            seen=min(said.seen, _MOST),
            changed=min(said.changed, _MOST),
            failures=[
                WorkFailure(subject=subject, reason=reason)
                for subject, reason in said.failures.items()
            ],
        )


def _record(shown: Work) -> work.Work:
    return cast(work.Work, shown)


@strawberry.type
class WorkConnection(Connection[Work]):
    pass


@strawberry.type(description="A line of the list of jobs, and how all its rows stand.")
class Job:
    name: enums.JobName
    reason: str = strawberry.field(description="Why there is such a job.")
    schedule: str | None = strawberry.field(description="Null: it comes when something asks.")
    of_tenant: bool = strawberry.field(description="Whether each tenant has a row of its own.")
    queued: int
    running: int
    failed: int = strawberry.field(description="Rows that are left to the operator.")
    lag_seconds: float = strawberry.field(
        description="How long the longest waiting of the rows that are due has waited; 0: none."
    )
    last_success_at: datetime | None
    last_run: Work | None = strawberry.field(description="The row whose run ended last.")


def _shown(standing: JobStanding) -> Job:
    listed, summary = standing.listed, standing.summary
    return Job(
        name=listed.name,
        reason=listed.reason,
        schedule=listed.schedule,
        of_tenant=listed.of_tenant,
        queued=summary.queued,
        running=summary.running,
        failed=summary.failed,
        lag_seconds=standing.lag_seconds,
        last_success_at=summary.succeeded_at,
        last_run=cast("Work | None", summary.last),
    )


@strawberry.type
class WorkQueries:
    @guarded(OPERATOR, description="By key.")
    async def work(
        self,
        info: Info,
        filter: WorkFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> WorkConnection:
        service, filter = info.context.gateway.work, given(filter)
        request = page_request(first, after, last, before)
        meant = filters.WorkFilter() if filter is None else filter.meant()
        page = await service.page(request, meant)
        return WorkConnection(page=page, counter=Counter(lambda: service.count(meant)))

    @guarded(OPERATOR, description="Every job there is, whether it ever ran or not.")
    async def jobs(self, info: Info) -> list[Job]:
        context = info.context
        return [_shown(each) for each in await context.gateway.work.jobs(context.call.now)]


@strawberry.input
class RunJobInput:
    job: enums.JobName
    tenant: str | None = strawberry.field(
        default=UNSET, description="For a job of tenants, whose; for the others, left out."
    )


@strawberry.type(description="It is due now, or running already; `work` tells what becomes of it.")
class JobQueued:
    work: Work


RunJobPayload = Annotated[
    JobQueued | InvalidInput | NotFound | InvalidTransition, strawberry.union("RunJobPayload")
]


@strawberry.type
class WorkMutations:
    @guarded(
        OPERATOR,
        description=(
            "Runs a job now, out of its turn; a tenant's that has failed is tried anew. A run that "
            "is on is left alone, and no removal is run before its time."
        ),
    )
    async def run_job(self, info: Info, input: RunJobInput) -> RunJobPayload:
        context = info.context
        queued = await context.gateway.work.run(context.call, input.job, given(input.tenant))
        return JobQueued(work=cast(Work, queued))
