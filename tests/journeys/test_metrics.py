"""What Prometheus reads: every job, before it ran and after, and nothing about a tenant."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families

from db.records import JSONObject
from db.work import JobName, Work, WorkState, claimed, failed, finished, new_work
from tests.auth import forging
from tests.gateway import (
    RunningGateway,
    backend,
    gateway,
    memory_settings,
    postgres_settings,
    running,
)
from tests.servers.databases import Database
from tests.servers.postgres import Postgres

__all__ = ["backend", "gateway"]

CANARY = "canary-77ab"
NAMES = [
    "agentidp_job_last_run_timestamp_seconds",
    "agentidp_job_last_success_timestamp_seconds",
    "agentidp_job_last_duration_seconds",
    "agentidp_job_last_failed",
    "agentidp_job_last_seen",
    "agentidp_job_last_changed",
    "agentidp_job_last_failures",
    "agentidp_job_lag_seconds",
    "agentidp_work_rows",
]
REPORT: JSONObject = {"seen": 7, "changed": 2, "failures": {CANARY: CANARY, "b": "c"}}


async def scraped(started: RunningGateway) -> httpx.Response:
    answer = await started.client.get("/metrics")
    assert answer.status_code == 200
    return answer


async def families(started: RunningGateway) -> list[Metric]:
    return list(text_string_to_metric_families((await scraped(started)).text))


async def samples(started: RunningGateway) -> dict[tuple[str, ...], float]:
    """By name, job and state."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in await families(started)
        for sample in family.samples
    }


async def put(started: RunningGateway, *rows: Work) -> None:
    async with started.gateway.storage.registry_unit() as unit:
        for row in rows:
            await unit.work.add(row)
            await unit.work.save(row)


def run_of(started: RunningGateway, job: JobName, tenant: str | None = None) -> Work:
    """One that has just been claimed."""
    now = started.clock.now
    claim = claimed(new_work(job, now, tenant, after=now), CANARY, now)
    assert claim is not None
    return claim


async def test_every_job_has_its_lines_before_it_ever_ran(gateway: RunningGateway) -> None:
    found = await families(gateway)
    assert [family.name for family in found] == NAMES
    assert {family.type for family in found} == {"gauge"}
    assert all(family.documentation for family in found)
    nothing: dict[tuple[str, ...], float] = {
        (name, job.value): 0.0 for name in NAMES[:-1] for job in JobName
    }
    for job in JobName:
        for state in ("queued", "running", "failed"):
            nothing["agentidp_work_rows", job.value, state] = 0.0
    assert await samples(gateway) == nothing


async def test_a_run_that_ended_is_told_of(gateway: RunningGateway) -> None:
    job = JobName.PURGE_AUDIT_EVENTS
    begun = run_of(gateway, job)
    gateway.clock.advance(2.5)
    now = gateway.clock.now
    await put(gateway, finished(begun, now, REPORT, None))
    told = await samples(gateway)
    assert {name: told[name, job.value] for name in NAMES[:-1]} == {
        "agentidp_job_last_run_timestamp_seconds": now.timestamp(),
        "agentidp_job_last_success_timestamp_seconds": now.timestamp(),
        "agentidp_job_last_duration_seconds": 2.5,
        "agentidp_job_last_failed": 0.0,
        "agentidp_job_last_seen": 7.0,
        "agentidp_job_last_changed": 2.0,
        "agentidp_job_last_failures": 2.0,
        "agentidp_job_lag_seconds": 0.0,
    }
    gateway.clock.advance(60)
    bad = failed(
        replace(begun, succeeded_at=now), gateway.clock.now, CANARY, most_attempts=1, again_at=None
    )
    await put(gateway, bad)
    told = await samples(gateway)
    assert {name: told[name, job.value] for name in NAMES[:-1]} == {
        "agentidp_job_last_run_timestamp_seconds": gateway.clock.now.timestamp(),
        "agentidp_job_last_success_timestamp_seconds": now.timestamp(),
        "agentidp_job_last_duration_seconds": 62.5,
        "agentidp_job_last_failed": 1.0,
        "agentidp_job_last_seen": 0.0,
        "agentidp_job_last_changed": 0.0,
        "agentidp_job_last_failures": 0.0,
        "agentidp_job_lag_seconds": 0.0,
    }
    assert told["agentidp_work_rows", job.value, "failed"] == 1.0


async def test_what_waits_and_what_runs_is_counted(gateway: RunningGateway) -> None:
    now, job = gateway.clock.now, JobName.REMOVE_TENANT
    queued = [new_work(job, now, slug, after=now) for slug in ("ab", "cd", "ef")]
    await put(gateway, *queued, run_of(gateway, job, "gh"))
    await put(gateway, replace(queued[0], state=WorkState.CANCELLED))
    gateway.clock.advance(30)
    told = await samples(gateway)
    rows = {state: told["agentidp_work_rows", job.value, state] for state in ("queued", "running")}
    assert rows == {"queued": 2.0, "running": 1.0}
    assert told["agentidp_job_lag_seconds", job.value] == 30.0
    assert told["agentidp_job_last_run_timestamp_seconds", job.value] == 0.0


async def test_no_tenant_no_worker_and_no_error_is_named(gateway: RunningGateway) -> None:
    await gateway.onboard("initech")
    now = gateway.clock.now
    for job, tenant in ((JobName.REMOVE_TENANT, "initech"), (JobName.MIGRATE_FLEET, None)):
        claim = run_of(gateway, job, tenant)
        row = failed(claim, now, CANARY, most_attempts=1, again_at=None, report=REPORT)
        await put(gateway, row)
    text = (await scraped(gateway)).text
    assert 'agentidp_job_last_failed{job="remove_tenant"} 1.0' in text
    assert CANARY not in text
    assert "initech" not in text
    labels = {name for f in await families(gateway) for s in f.samples for name in s.labels}
    assert labels == {"job", "state"}


async def test_it_is_what_a_prometheus_reads_and_only_that(gateway: RunningGateway) -> None:
    for accept in ("*/*", "application/openmetrics-text;version=nonsense", "text/html"):
        answer = await gateway.client.get("/metrics", headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    head = await gateway.client.head("/metrics")
    assert (head.status_code, head.headers["content-type"]) == (200, answer.headers["content-type"])
    for method in ("POST", "PUT", "DELETE"):
        refused = await gateway.client.request(method, "/metrics")
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) >= {"GET", "HEAD"}


async def test_gateways_of_one_process_know_nothing_of_each_other() -> None:
    before = {family.name for family in REGISTRY.collect()}
    async with running(memory_settings()) as one, running(memory_settings()) as other:
        await put(one, new_work(JobName.MIGRATE_FLEET, one.clock.now, after=one.clock.now))
        key = ("agentidp_work_rows", "migrate_fleet", "queued")
        scrapes = await asyncio.gather(*(samples(each) for each in (one, other) * 3))
        assert [told[key] for told in scrapes] == [1.0, 0.0] * 3
    assert {family.name for family in REGISTRY.collect()} == before


async def test_without_storage_there_are_no_numbers(
    mortal_postgres: Postgres, mortal_database: Database, redis_url: str
) -> None:
    async with running(postgres_settings(mortal_database, redis_url)) as started:
        before = await samples(started)
        mortal_postgres.kill()
        try:
            down = await started.client.get("/metrics")
        finally:
            mortal_postgres.start()
        assert (down.status_code, down.text) == (503, "storage is not ready\n")
        assert down.headers["content-type"].startswith("text/plain")
        assert await samples(started) == before


async def test_before_its_tables_are_made_there_are_no_numbers(
    empty_database: Database, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = postgres_settings(
        empty_database,
        redis_url,
        auto_migrate=False,
        key_encryption_secret=None,
        signing_keys=forging.pem(forging.new_key()),
    )
    async with running(settings) as started:
        answer = await started.client.get("/metrics")
    assert (answer.status_code, answer.text) == (503, "storage is not ready\n")
    assert "Traceback" not in capsys.readouterr().out
