"""The list: every job, when it runs, and why there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from db.registry import RegistryUnit
from db.work import JobName, Work
from workers import (
    expiry,
    fleet,
    partitions,
    provisioning,
    purging,
    removal,
    sweeping,
    tailing,
    warming,
)
from workers.schedules import Daily, Every, Schedule
from workers.state import Report, State


@dataclass(frozen=True, slots=True)
class Job:
    """`of_tenant`: each tenant has a row of its own, queued when somebody asks for it. Otherwise
    there is one row, which comes by its `schedule`, `at_start` of every worker, or when the
    operator asks. `gave_up` is told, in the unit that says so, that the row is left to the
    operator."""

    name: JobName
    run: Callable[[State, datetime], Awaitable[Report]]
    timeout_seconds: int
    reason: str
    schedule: Schedule | None = None
    at_start: bool = False
    of_tenant: bool = False
    most_attempts: int = 5
    gave_up: Callable[[RegistryUnit, Work, str, datetime], Awaitable[None]] | None = None


_LIST = (
    Job(
        name=JobName.PROVISION_TENANT,
        run=provisioning.run,
        gave_up=provisioning.gave_up,
        of_tenant=True,
        timeout_seconds=120,
        reason="a tenant is served once its tables and its first administrator stand",
    ),
    Job(
        name=JobName.REMOVE_TENANT,
        run=removal.run,
        of_tenant=True,
        timeout_seconds=3600,
        # Some hours of them: a backup that is reading the tables is waited for.
        most_attempts=60,
        reason="a removed tenant's data is exported and dropped when its grace is over",
    ),
    Job(
        name=JobName.MIGRATE_FLEET,
        run=fleet.run,
        timeout_seconds=3600,
        reason="every tenant's tables follow the program, one blocked tenant or not",
    ),
    Job(
        name=JobName.WARM_REVOCATIONS,
        run=warming.run,
        at_start=True,
        timeout_seconds=600,
        reason="a cache that holds every live revocation lets a miss be believed",
    ),
    Job(
        name=JobName.TAIL_REVOCATIONS,
        run=tailing.run,
        schedule=Every(seconds=10),
        at_start=True,
        timeout_seconds=30,
        reason="a revocation that a crash kept from the cache is put there, and its lease renewed",
    ),
    Job(
        name=JobName.SWEEP_REVOCATIONS,
        run=sweeping.run,
        schedule=Every(seconds=3600),
        timeout_seconds=600,
        reason="the revocation of a token that has ended by itself is of no use any more",
    ),
    Job(
        name=JobName.EXPIRE_CREDENTIALS,
        run=expiry.run,
        schedule=Every(seconds=300),
        timeout_seconds=300,
        reason="a rotated secret whose overlap is over is shown as what it is",
    ),
    Job(
        name=JobName.ENSURE_AUDIT_PARTITIONS,
        run=partitions.run,
        schedule=Daily(hour=2, minute=17),
        at_start=True,
        timeout_seconds=600,
        reason="an event whose month has no partition cannot be written, so months come early",
    ),
    Job(
        name=JobName.PURGE_AUDIT_EVENTS,
        run=purging.run,
        schedule=Daily(hour=3, minute=7),
        timeout_seconds=3600,
        reason="what is older than its tenant's retention goes, whole months at a time",
    ),
)

JOBS = {job.name: job for job in _LIST}


def job_name(key: str) -> JobName | None:
    """Of the row `key`; None for a job that only a newer program knows."""
    try:
        return JobName(key.partition(":")[0])
    except ValueError:
        return None


def of_tenant(key: str) -> bool:
    name = job_name(key)
    return name in JOBS and JOBS[name].of_tenant
