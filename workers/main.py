"""arq around the list of jobs: it rings the bell at the right time, on one worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from arq.connections import RedisSettings
from arq.cron import CronJob, cron
from arq.worker import Worker, async_check_health

from db.backends import open_storage
from db.clock import system_clock
from db.errors import Misconfigured
from db.settings import MEMORY, StorageSettings
from workers.jobs import JOBS, Job
from workers.state import State

_HEALTH_SECONDS = 15
_log = structlog.get_logger(__name__)


def require_shared_stores(settings: StorageSettings) -> None:
    """Raises Misconfigured: a worker shares nothing with a gateway whose stores are in memory."""
    if settings.in_memory or settings.redis_url == MEMORY:
        raise Misconfigured("a worker needs DATABASE_URL=postgresql://… and a real REDIS_URL")


def worker(settings: StorageSettings) -> Worker:
    """A worker for all jobs. Raises Misconfigured."""
    require_shared_stores(settings)

    # arq names the argument, and its types hold us to the name.
    async def open_state(ctx: dict[Any, Any]) -> None:
        ctx["state"] = State(settings, await open_storage(settings))

    async def close_state(ctx: dict[Any, Any]) -> None:
        # arq closes after a start that was refused as well; what is heard must be the refusal.
        if "state" in ctx:
            await ctx["state"].storage.close()

    return Worker(
        functions=[],
        cron_jobs=[_cron(job) for job in JOBS],
        redis_settings=RedisSettings.from_dsn(settings.redis_url),
        on_startup=open_state,
        on_shutdown=close_state,
        health_check_interval=_HEALTH_SECONDS,
        # A kept result blocks its id, and arq's default serializer runs whatever Redis holds.
        keep_result=0,
        max_tries=1,
        job_serializer=msgspec.json.encode,
        job_deserializer=msgspec.json.decode,
        timezone=UTC,
        handle_signals=True,
    )


async def is_healthy(settings: StorageSettings) -> bool:
    """Whether a worker has said lately that it is alive."""
    require_shared_stores(settings)
    return await async_check_health(RedisSettings.from_dsn(settings.redis_url)) == 0


def _cron(job: Job) -> CronJob:
    async def ring(ctx: dict[Any, Any], *args: object, **kwargs: object) -> None:
        await _run(job, ctx["state"], system_clock())

    return cron(
        ring,
        name=job.name,
        hour=job.hour,
        minute=job.minute,
        run_at_startup=True,
        unique=True,
        timeout=job.timeout_seconds,
        keep_result=0,
    )


async def _run(job: Job, state: State, now: datetime) -> None:
    report = await job.run(state, now)
    _log.info(
        "job done",
        job=job.name,
        seen=report.seen,
        changed=report.changed,
        failures=list(report.failures),
    )
