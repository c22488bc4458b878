"""What is due is found in storage and rung for, whatever became of the bells before.

This is what makes losing a bell, a worker or the whole of Redis mean late: a schedule is the
`run_after` of a row, so a time that was missed is simply due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from db.contract import Storage
from db.errors import AgentIdPError
from db.work import Doorbell, JobName, Work, WorkState, new_work, requeued, work_key
from workers.jobs import JOBS, Job

SECONDS = 5
"""How often."""

_BATCH = 100
_log = structlog.get_logger(__name__)


async def reconcile(
    storage: Storage,
    doorbell: Doorbell,
    now: datetime,
    *,
    starting: bool = False,
    jobs: Mapping[JobName, Job] = JOBS,
) -> Sequence[str]:
    """Sees to it that every job which comes by itself has its row, and rings for what is due: of
    the tenants' rows the longest waiting, and of the others all. `starting` queues for now what
    every worker begins with. The keys that it rang for. Raises Unavailable."""
    alone: list[str] = []
    single = [job for job in jobs.values() if not job.of_tenant]
    found = await storage.registry.work.get_many([work_key(job.name) for job in single])
    for job in single:
        try:
            work = await _settled(storage, job, found.get(work_key(job.name)), now, starting)
        except AgentIdPError as error:
            # The others are no worse for it, and this one is looked at again soon.
            _log.warning("job not settled", job=job.name, reason=error.message)
            continue
        if work is not None and work.due(now):
            alone.append(work.key)
    due = [work.key for work in await storage.registry.work.due(now, _BATCH)]
    # However many tenants wait, the rows that all depend on are rung for first.
    keys = [*alone, *(key for key in due if key not in alone)]
    if keys:
        await doorbell.ring(*keys)
    return keys


async def _settled(
    storage: Storage, job: Job, work: Work | None, now: datetime, starting: bool
) -> Work | None:
    """The job's row `work` as it ought to stand; None for a job that only comes when it is asked
    for."""
    if _settle(job, work, now, starting) is work:
        return work
    async with storage.registry_unit() as unit:
        held = await unit.work.get(work_key(job.name))
        settled = _settle(job, held, now, starting)
        if settled is None or settled is held:
            return held
        if held is not None:
            await unit.work.save(settled)
        elif not await unit.work.add(settled):
            # Another worker was faster, and is ringing for it.
            return None
        return settled


def _settle(job: Job, work: Work | None, now: datetime, starting: bool) -> Work | None:
    """`work` itself when there is nothing to be done about it."""
    at_once = job.at_start and (starting or work is None)
    if at_once:
        again_at = now
    elif job.schedule is not None:
        again_at = job.schedule.after(now)
    else:
        return work
    if work is None:
        return new_work(job.name, now, after=again_at)
    if work.state is WorkState.RUNNING:
        return work
    if work.state is WorkState.QUEUED:
        # Later than its schedule would say: the schedule was another one when it was queued.
        return work if work.run_after <= again_at else replace(work, run_after=again_at)
    if work.state is WorkState.CANCELLED and not at_once:
        return work
    return requeued(work, again_at)
