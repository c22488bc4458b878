"""Every tenant brought to head: a few at once, one that is blocked left behind, and a stop where
the trouble is the revision's and not a tenant's.

First one tenant alone, the canary: those that were named, each of which must come through; or else
the first that something is to be done for. Where none was named a failure may be the tenant's own
trouble, so a second one is asked before the others are kept from a revision that would fail them
too; one whose tables were merely in use has said nothing either way. Later the fleet stops when
more than half of those that were tried, and ten at least, have failed. What was not begun is told
by name, and a further run goes on with it: it looks first, and passes by what is done already.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.namespace import TenantPrefix
from db.postgres.chains import Chain
from db.postgres.driver import driver_of
from db.postgres.owner import Source, connect
from db.postgres.stamps import at_rest, to_head
from db.postgres.standing import Ground, Standing, survey
from db.postgres.steps import RevisionFailed, Run
from db.upkeep import Advance, Outcome, Report

CONCURRENCY = 4

_ENOUGH_TO_JUDGE = 10
_CANARIES = 2
# A lock was not to be had in time, or was waited for in a ring: lock_not_available and
# deadlock_detected.
_BUSY = ("55P03", "40P01")


@dataclass(frozen=True, slots=True)
class Fleet:
    """One run for many tenants. `canaries` are slugs."""

    source: Source
    ground: Ground
    role: str | None
    now: datetime
    report: Report
    advance: Advance
    scripts: Path
    canaries: Collection[str] = ()
    concurrency: int = CONCURRENCY


@dataclass(slots=True)
class _Course:
    """How the run goes so far."""

    waiting: deque[TenantPrefix]
    standings: dict[TenantPrefix, Standing]
    total: int
    done: int = 0
    tried: int = 0
    failed: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def hopeless(self) -> bool:
        return self.tried >= _ENOUGH_TO_JUDGE and self.failed * 2 > self.tried


async def all_to_head(
    fleet: Fleet, connection: AsyncConnection, tenants: Sequence[TenantPrefix]
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """What became of each revision, and the slugs of those that were not begun. `connection` is
    the first of those that are used."""
    standings = await survey(await driver_of(connection), tenants, fleet.ground)
    course = _Course(deque(), standings, total=len(tenants))
    for tenant in tenants:
        run, chain = _run(fleet, connection), Chain(tenant, fleet.scripts)
        if at_rest(run, chain, tenant, fleet.ground, standings[tenant]):
            run.skipped(chain, 0, chain.applied(standings[tenant].at))
            _tell(fleet, course, run)
        else:
            course.waiting.append(tenant)
    if await _canaries_live(fleet, connection, course):
        await _rest(fleet, connection, course)
    return tuple(course.outcomes), tuple(map(str, course.waiting))


async def _canaries_live(fleet: Fleet, connection: AsyncConnection, course: _Course) -> bool:
    named = [tenant for tenant in course.waiting if str(tenant) in fleet.canaries]
    for tenant in named:
        course.waiting.remove(tenant)
        if await _one(fleet, connection, course, tenant) is not None:
            return False
    dead = 0
    while course.waiting and not named and dead < _CANARIES and not course.hopeless:
        why = await _one(fleet, connection, course, course.waiting.popleft())
        if why is None:
            return True
        dead += not any(state in why for state in _BUSY)
    return bool(named)


async def _rest(fleet: Fleet, connection: AsyncConnection, course: _Course) -> None:
    async def work(mine: AsyncConnection) -> None:
        while course.waiting and not course.hopeless:
            await _one(fleet, mine, course, course.waiting.popleft())

    async with _connections(fleet, connection, len(course.waiting)) as connections:
        tasks = [asyncio.create_task(work(each)) for each in connections]
        try:
            await asyncio.gather(*tasks)
        finally:
            # One has lost its connection, or all are told to stop: what is not committed is undone.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _one(
    fleet: Fleet, connection: AsyncConnection, course: _Course, tenant: TenantPrefix
) -> str | None:
    """Why it failed; None when it did not."""
    run, chain = _run(fleet, connection), Chain(tenant, fleet.scripts)
    error = None
    try:
        await to_head(run, chain, tenant, fleet.ground, course.standings.pop(tenant))
    except RevisionFailed as failure:
        run.tell(failure.outcome)
        error = failure.outcome.error or "failed"
    course.tried += 1
    course.failed += error is not None
    _tell(fleet, course, run)
    return error


def _run(fleet: Fleet, connection: AsyncConnection) -> Run:
    """What it tells is told when the tenant is done, so that lines of two are never mixed."""
    return Run(connection, fleet.role, fleet.now, lambda outcome: None)


def _tell(fleet: Fleet, course: _Course, run: Run) -> None:
    course.outcomes += run.outcomes
    for outcome in run.outcomes:
        fleet.report(outcome)
    course.done += 1
    fleet.advance(course.done, course.total)


@asynccontextmanager
async def _connections(
    fleet: Fleet, first: AsyncConnection, tenants: int
) -> AsyncIterator[Sequence[AsyncConnection]]:
    # An engine that was handed over has a pool whose size is not ours to use up.
    most = 1 if isinstance(fleet.source, AsyncEngine) else fleet.concurrency
    async with AsyncExitStack() as stack:
        further = [
            await stack.enter_async_context(connect(fleet.source))
            for _ in range(min(most, tenants) - 1)
        ]
        yield [first, *further]
