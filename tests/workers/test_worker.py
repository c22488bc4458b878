"""Real worker processes against real servers, which are killed, emptied and restarted."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from db.backends import open_storage
from db.clock import system_clock
from db.contract import Storage
from db.work import JobName, Work, WorkState, work_key
from tests.db.catalog import session
from tests.db.scene import settings as settings_of
from tests.servers.databases import Database
from tests.servers.valkey import Valkey
from tests.workers.harness import queue
from workers.bell import QUEUE, ArqQueue

ROOT = Path(__file__).parents[2]
PARTITIONS = JobName.ENSURE_AUDIT_PARTITIONS


def python(*arguments: str, module: str = "workers", **given: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(*arguments: str, **given: str) -> tuple[int, str, str]:
    """The status of one that ends by itself, and what it said."""
    process = python(*arguments, **given)
    try:
        said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, said, errors


def check(**given: str) -> int:
    status, _, _ = asked("check", **given)
    return status


def environment(database: Database, redis_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database.app_url,
        "DATABASE_OWNER_URL": database.owner_url,
        "REDIS_URL": redis_url,
    }


@contextmanager
def working(*arguments: str, module: str = "workers", **given: str) -> Iterator[Process]:
    process = Process(python(*arguments, module=module, **given))
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)


class Process:
    """A worker, and what it says."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen

    async def says(self, event: str, **fields: object) -> dict[str, object]:
        """The next line that does."""
        stdout = self.popen.stdout
        assert stdout is not None
        async with asyncio.timeout(60):
            while line := await asyncio.to_thread(stdout.readline):
                said: dict[str, object] = json.loads(line)
                if said["event"] == event and fields.items() <= said.items():
                    return said
        raise AssertionError(f"it ended without saying {event!r}")

    def end(self, how: signal.Signals, patience: float = 30) -> tuple[int, str]:
        """Its status, and what it said since it was last listened to."""
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        if self.popen.stdout is None or self.popen.stdout.closed:
            return self.popen.wait(patience), ""
        out, errors = self.popen.communicate(timeout=patience)
        return self.popen.returncode, out + errors


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Storage]:
    opened = await open_storage(settings_of(database))
    yield opened
    await opened.close()


async def until(store: Storage, key: str, true: Callable[[Work], bool]) -> Work:
    async with asyncio.timeout(60):
        while True:
            work = await store.registry.work.get(key)
            if work is not None and true(work):
                return work
            await asyncio.sleep(0.01)


def done_since(before: Work | None) -> Callable[[Work], bool]:
    fence = before.fence if before else 0
    return lambda work: work.fence > fence and work.finished_at is not None and work.worker is None


async def test_a_worker_does_its_jobs_at_start_and_ends_when_asked(
    database: Database, redis: Redis, redis_url: str
) -> None:
    given = environment(database, redis_url)
    assert check(**given) == 1

    with working(**given) as worker:
        done = await worker.says("job done", job=PARTITIONS.value)
        alive = check(**given)
        status, errors = worker.end(signal.SIGTERM)

    assert (done["tenant"], done["attempt"], done["seen"]) == (None, 1, 2)
    assert alive == 0
    assert status == 0, errors
    assert check(**given) == 1, "nobody is alive any more"
    assert "Traceback" not in errors


async def test_what_was_rung_for_is_done_by_a_worker(
    database: Database, redis: Redis, redis_url: str, store: Storage
) -> None:
    bell = ArqQueue(redis_url, system_clock)
    with working(**environment(database, redis_url)) as worker:
        await worker.says("job done", job=PARTITIONS.value)
        before = await store.registry.work.get(PARTITIONS)
        await queue(store, PARTITIONS, system_clock())

        await bell.ring(PARTITIONS)
        done = await until(store, PARTITIONS, done_since(before))
        worker.end(signal.SIGTERM)
    await bell.close()

    assert done.report == {"seen": 2, "changed": 0, "failures": {}}
    assert await redis.keys("arq:result:*") == []
    assert await redis.keys("arq:in-progress:work:*") == []


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_worker_refuses_stores_that_it_cannot_share(command: str) -> None:
    status, said, errors = asked(command)

    assert status == 1
    assert errors == "workers: a worker needs DATABASE_URL=postgresql://… and REDIS_URL=redis://…\n"
    assert said == ""


NOWHERE = {
    "DATABASE_URL": "postgresql://app:canary@127.0.0.1:1/id",
    "REDIS_URL": "redis://:canary@127.0.0.1:1/0",
}


def test_a_worker_says_which_of_its_stores_is_missing() -> None:
    status, _, errors = asked(DATABASE_URL="postgresql://serving@localhost/agentidp")

    assert (status, errors) == (1, "workers: a worker needs REDIS_URL=redis://…\n")


def test_the_check_says_that_no_worker_is_there(redis_url: str) -> None:
    status, _, errors = asked(
        "check", DATABASE_URL="postgresql://serving@localhost/agentidp", REDIS_URL=redis_url
    )

    assert (status, errors) == (1, "workers: no worker has been heard of lately\n")


@pytest.mark.parametrize("command", ["run", "check"])
def test_in_production_a_worker_needs_the_role_that_makes_tables(command: str) -> None:
    status, said, errors = asked(
        command,
        ENVIRONMENT="production",
        DATABASE_URL="postgresql://serving@localhost/agentidp",
        REDIS_URL="redis://localhost:1",
    )

    assert (status, said) == (1, "")
    assert errors.startswith("workers: ENVIRONMENT=production needs DATABASE_OWNER_URL")


def test_the_check_of_a_worker_without_redis_ends_with_one_sentence() -> None:
    status, said, errors = asked("check", **NOWHERE)

    assert status == 1
    assert errors.splitlines()[-1] == "workers: Redis does not answer (ConnectionError)"
    assert "Traceback" not in said + errors
    assert "canary" not in said + errors


@pytest.mark.parametrize("address", ["redis://:canary@host:port/0", "redis://:canary@[::1/0"])
def test_a_worker_refuses_an_address_that_is_none(address: str) -> None:
    status, said, errors = asked(**{**NOWHERE, "REDIS_URL": address})

    assert status == 1
    assert errors == "workers: REDIS_URL is not the address of a Redis server\n"
    assert said == ""


async def test_a_worker_without_any_server_says_so_once_and_waits() -> None:
    with working(**NOWHERE) as waiting:
        for what in ("Redis", "storage"):
            await waiting.says(f"{what} does not answer")
        status, said = waiting.end(signal.SIGTERM)

    assert status == 0
    assert said == ""


@pytest.mark.parametrize("password", ["", ":canary@"])
async def test_a_worker_refuses_a_redis_that_does_not_let_it_in(
    password: str, database: Database, valkey: Valkey
) -> None:
    async with Redis.from_url(valkey.url()) as client:
        await client.config_set("requirepass", "secret")

    url = valkey.url().replace("//", f"//{password}")
    status, said, errors = asked(**environment(database, url))

    assert status == 1
    assert "canary" not in said
    assert errors == "workers: Redis does not let the worker in: see REDIS_URL\n"


@asynccontextmanager
async def held(database: Database, table: str) -> AsyncIterator[None]:
    """Within the block, whoever would look into the table has to wait."""
    async with session(database.owner_url) as connection:
        await connection.exec_driver_sql("BEGIN")
        await connection.exec_driver_sql(f'LOCK TABLE "{table}"')
        yield


async def test_what_a_killed_worker_ran_is_run_by_another_once_its_lease_is_over(
    database: Database, redis: Redis, redis_url: str, store: Storage
) -> None:
    given = environment(database, redis_url)
    async with held(database, "tenants"):
        with working(module="tests.faults.worker", **given) as killed:
            left = await until(store, PARTITIONS, lambda work: work.state is WorkState.RUNNING)
            status, _ = killed.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert await store.registry.work.get(PARTITIONS) is not None

    with working(module="tests.faults.worker", **given) as other:
        done = await until(store, PARTITIONS, done_since(left))
        other.end(signal.SIGTERM)

    assert left.lease_until is not None
    assert done.started_at is not None
    assert done.started_at >= left.lease_until
    assert done.fence == left.fence + 1
    assert done.report == {"seen": 2, "changed": 0, "failures": {}}


async def test_what_a_worker_runs_when_it_is_told_to_stop_is_put_back(
    database: Database, redis: Redis, redis_url: str, store: Storage
) -> None:
    async with held(database, "tenants"):
        with working(**environment(database, redis_url)) as worker:
            running = await until(store, PARTITIONS, lambda work: work.state is WorkState.RUNNING)
            status, said = worker.end(signal.SIGTERM, patience=12)
        row = await store.registry.work.get(PARTITIONS)

    assert status == 0, said
    assert row is not None
    assert (row.state, row.worker, row.fence) == (WorkState.QUEUED, None, running.fence)
    assert (row.attempts, row.finished_at, row.last_error) == (0, None, None)


async def test_an_emptied_redis_loses_nothing(
    database: Database, redis: Redis, redis_url: str, store: Storage
) -> None:
    with working(**environment(database, redis_url)) as worker:
        await worker.says("job done", job=PARTITIONS.value)
        before = await store.registry.work.get(PARTITIONS)
        await queue(store, PARTITIONS, system_clock())
        await redis.flushall()

        await until(store, PARTITIONS, done_since(before))
        status, said = worker.end(signal.SIGTERM)

    assert status == 0, said
    assert "Traceback" not in said


async def test_without_redis_a_worker_does_what_is_due_and_hears_again_when_it_is_back(
    database: Database, valkey: Valkey, store: Storage
) -> None:
    bell = ArqQueue(valkey.url(), system_clock)
    with working(**environment(database, valkey.url())) as worker:
        await worker.says("job done", job=PARTITIONS.value)
        valkey.kill()
        await worker.says("Redis does not answer")
        before = await store.registry.work.get(PARTITIONS)
        await queue(store, PARTITIONS, system_clock())
        await bell.ring(PARTITIONS)
        alone = await until(store, PARTITIONS, done_since(before))

        valkey.start()
        await worker.says("Redis answers again")
        await worker.says("listening")
        # Every start begins with this one: the cache is empty.
        again = await until(store, PARTITIONS, done_since(alone))
        await queue(store, PARTITIONS, system_clock())
        await bell.ring(PARTITIONS)
        await until(store, PARTITIONS, done_since(again))
        alive = check(**environment(database, valkey.url()))
        status, said = worker.end(signal.SIGTERM)
    await bell.close()

    assert alive == 0
    assert status == 0, said


class Trap:
    """What unpickling it would run."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._file}",)


async def test_what_others_put_into_redis_is_never_run(
    database: Database, redis: Redis, redis_url: str, store: Storage, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    payloads = [
        pickle.dumps({"t": None, "f": "work", "a": (Trap(sprung),), "k": {}, "et": 1}),
        b'{"t": null, "f": ["work"], "a": [], "k": {}, "et": 1}',
        b'{"t": null, "f": "work", "a": {}, "k": {}, "et": 1}',
        b'{"t": null, "f": "os.system", "a": ["true"], "k": {}, "et": 1}',
        b'{"t": null, "f": "work", "a": ["provision_tenant:nobody"], "k": {}, "et": 1}',
        b'{"t": null, "f": "work", "a": ["' + b"x" * 9999 + b'"], "k": {}, "et": 1}',
        b'{"t": null, "f": "work", "a": ["a", "b"], "k": {}, "et": 1}',
    ]
    for n, payload in enumerate(payloads):
        await redis.set(f"arq:job:{n}", payload)
        await redis.zadd(QUEUE, {str(n): 1})
    bell = ArqQueue(redis_url, system_clock)

    with working(**environment(database, redis_url)) as worker:
        await worker.says("job done", job=PARTITIONS.value)
        before = await store.registry.work.get(PARTITIONS)
        await queue(store, PARTITIONS, system_clock())
        await bell.ring(PARTITIONS)
        await until(store, PARTITIONS, done_since(before))
        status, said = worker.end(signal.SIGTERM)
    await bell.close()

    assert not sprung.exists()
    assert await redis.keys("arq:job:[0-9]") == []
    assert await store.registry.work.get(work_key(JobName.PROVISION_TENANT, "nobody")) is None
    assert status == 0, said
    assert '"listening"' not in said, "it never had to begin anew"
