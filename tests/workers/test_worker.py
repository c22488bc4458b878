"""A real worker process against real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.servers.databases import Database

ROOT = Path(__file__).parents[2]


def python(*arguments: str, **given: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workers", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(**given: str) -> int:
    with python("check", **given) as asked:
        return asked.wait(30)


def environment(database: Database, redis_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database.app_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "REDIS_URL": redis_url,
    }


async def test_a_worker_does_its_jobs_at_start_and_ends_when_asked(
    database: Database, redis: Redis, redis_url: str
) -> None:
    given = environment(database, redis_url)
    assert check(**given) == 1

    with python(**given) as worker:
        assert worker.stdout
        done = next((line for line in worker.stdout if '"event": "job done"' in line), "")
        alive = check(**given)
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=30)

    assert '"job": "ensure_audit_partitions"' in done, errors
    assert '"seen": 2' in done
    assert alive == 0
    assert worker.returncode == 0, errors


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_worker_refuses_stores_that_it_cannot_share(command: str) -> None:
    with python(command) as refused:
        said, errors = refused.communicate(timeout=30)

    assert refused.returncode == 1
    assert errors == "workers: a worker needs DATABASE_URL=postgresql://… and a real REDIS_URL\n"
    assert said == ""


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_worker_without_redis_ends_with_one_sentence(command: str) -> None:
    given = {
        "DATABASE_URL": "postgresql://app@127.0.0.1:1/id",
        "REDIS_URL": "redis://:canary@127.0.0.1:1/0",
    }

    with python(command, **given) as lost:
        said, errors = lost.communicate(timeout=30)

    assert lost.returncode == 1
    assert errors.splitlines()[-1] == "workers: Redis does not answer (ConnectionError)"
    assert "Traceback" not in said + errors
    assert "canary" not in said + errors
