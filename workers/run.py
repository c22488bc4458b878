"""One row is run: claimed, kept alive by a heartbeat, and let go of with what came of it.

Whatever rang the bell for it is forgotten by then: the row says what there is to do, and nothing is
saved for a claim that another worker's claim has passed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from db.clock import Clock
from db.contract import Storage
from db.errors import AgentIdPError, Misused
from db.log import log_fault
from db.records import JSONObject
from db.revocations import RevocationCache
from db.settings import StorageSettings
from db.work import (
    LEASE,
    Doorbell,
    JobName,
    Work,
    WorkState,
    claimed,
    failed,
    finished,
    released,
)
from workers.heartbeat import Heartbeat, Progress
from workers.jobs import JOBS, Job, job_name
from workers.state import LeaseLost, Report, State, shortened

_PATIENCE = 3  # seconds for a job that was told to stop, and for putting its row back
_KILLED = 2  # times as often as it may fail, a job may end without a word

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs rows in the name of one worker. `pause` is how it waits between heartbeats, `lease` how
    long others wait for it when it is gone."""

    settings: StorageSettings
    storage: Storage
    cache: RevocationCache
    doorbell: Doorbell
    clock: Clock
    name: str
    lease: timedelta = LEASE
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    jobs: Mapping[JobName, Job] = field(default_factory=lambda: JOBS)

    async def run(self, key: str) -> Work | None:
        """The row as it was left; None when there was nothing to be done, or another worker has
        it by now. Cancelled, it puts the row back first. Raises Unavailable when the row cannot
        be read, or what came of it cannot be kept: it is run again when its lease is over."""
        name = job_name(key)
        job = self.jobs.get(name) if name else None
        claim = await self._claim(key) if job else None
        if job is None or claim is None:
            return None
        log = _log.bind(job=claim.job, tenant=claim.tenant, attempt=claim.attempts)
        progress = Progress()
        try:
            outcome = await self._outcome(job, claim, progress)
        except LeaseLost:
            log.warning("job lost to another worker")
            return None
        except asyncio.CancelledError:
            await _undisturbed(self._release(claim))
            log.info("job put back")
            raise
        ended = await _undisturbed(self._end(job, claim, outcome, progress.said))
        if ended is None:
            log.warning("job lost to another worker")
        elif isinstance(outcome, str):
            log.warning("job failed", ms=ended.ms, error=outcome, gave_up=_gave_up(ended))
        else:
            counts = {"seen": outcome.seen, "changed": outcome.changed}
            if outcome.failures:
                log.warning("job failed", ms=ended.ms, error=ended.last_error, **counts)
            else:
                log.info("job done", ms=ended.ms, **counts)
        return ended

    async def _claim(self, key: str) -> Work | None:
        async def claim() -> Work | None:
            async with self.storage.registry_unit() as unit:
                work = await unit.work.get(key)
                claim = work and claimed(work, self.name, self.clock(), self.lease)
                if claim is not None:
                    await unit.work.save(claim)
                return claim

        claiming = asyncio.ensure_future(claim())
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Claimed all the same, it would wait for its lease to end.
            await asyncio.wait({claiming}, timeout=_PATIENCE)
            if claiming.done() and not claiming.exception() and (work := claiming.result()):
                await _undisturbed(self._release(work))
            raise

    async def _outcome(self, job: Job, claim: Work, progress: Progress) -> Report | str:
        """What the job reports, or why it does not. Raises LeaseLost."""
        if claim.attempts > _KILLED * job.most_attempts:
            # It may be what ends them, and would go on doing so.
            return f"its worker was gone before it ended, {claim.attempts - 1} times"
        try:
            return await self._attempt(job, claim, progress)
        except LeaseLost:
            raise
        except AgentIdPError as error:
            if isinstance(error, Misused):
                log_fault(error)
            return shortened(error.message)
        except Exception as fault:
            # Its message may hold what a row holds: only its kind is told, and where it came from.
            log_fault(fault)
            return type(fault).__qualname__

    async def _attempt(self, job: Job, claim: Work, progress: Progress) -> Report | str:
        state = State(
            settings=self.settings,
            storage=self.storage,
            cache=self.cache,
            doorbell=self.doorbell,
            work=claim,
            advance=progress.advance,
        )
        heartbeat = Heartbeat(self.storage, self.clock, self.pause, self.lease)
        running = asyncio.ensure_future(job.run(state, claim.started_at or self.clock()))
        beating = asyncio.ensure_future(heartbeat.beat(claim, progress))
        try:
            await asyncio.wait(
                {running, beating},
                timeout=job.timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if running.done():
                return _result(running)
            if beating.done():
                beating.result()
            return f"it did not end within {job.timeout_seconds} s"
        finally:
            await _stopped(running, beating)

    async def _end(
        self, job: Job, claim: Work, outcome: Report | str, progress: JSONObject | None
    ) -> Work | None:
        now = self.clock()
        again_at = job.schedule.after(now) if job.schedule else None
        async with self.storage.registry_unit() as unit:
            held = await unit.work.get(claim.key)
            if held is None or not held.held_by(claim):
                return None
            held = replace(held, progress=progress)
            report = None if isinstance(outcome, str) else outcome
            error = outcome if isinstance(outcome, str) else outcome.error
            if report is not None and error is None:
                ended = finished(held, now, report.to_json(), again_at)
            else:
                ended = failed(
                    held,
                    now,
                    error or "",
                    most_attempts=job.most_attempts,
                    again_at=again_at,
                    report=report.to_json() if report else None,
                )
            await unit.work.save(ended)
            if _gave_up(ended) and job.gave_up is not None:
                await job.gave_up(unit, ended, error or "", now)
        return ended

    async def _release(self, claim: Work) -> None:
        try:
            async with self.storage.registry_unit() as unit:
                held = await unit.work.get(claim.key)
                if held is not None and held.held_by(claim):
                    await unit.work.save(released(held, self.clock()))
        except AgentIdPError as error:
            _log.warning("job not put back", job=claim.job, reason=error.message)


def worker_name() -> str:
    """Of this process, and of no other that ever was."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(4)}"


def _gave_up(ended: Work) -> bool:
    return ended.state is WorkState.FAILED


def _result(running: asyncio.Future[Report]) -> Report:
    try:
        return running.result()
    except asyncio.CancelledError:
        # Nobody asked it to stop: it is a fault like any other.
        raise RuntimeError("the job cancelled itself") from None


async def _stopped(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    ended, _ = await asyncio.wait(tasks, timeout=_PATIENCE)
    for task in ended:
        # Whatever else it raised comes too late, and asyncio would complain that nobody heard.
        if not task.cancelled():
            task.exception()


async def _undisturbed(doing: Coroutine[Any, Any, T]) -> T:
    """Lets it end even where the caller is told to stop meanwhile."""
    task = asyncio.ensure_future(doing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_PATIENCE)
        raise
