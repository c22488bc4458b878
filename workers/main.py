"""A worker process: it hears the bell over Redis, looks for what is due, and survives both.

arq hears and ticks, and nothing more. It ends whenever Redis goes away, so a new one is made until
the process is told to stop; what runs meanwhile belongs to the crew, and goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import UTC, timedelta
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.constants import health_check_key_suffix
from arq.cron import cron
from arq.worker import Worker, func
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from db.backends import open_storage
from db.clock import system_clock
from db.errors import AgentIdPError, Misconfigured
from db.log import log_fault
from db.revocations import open_cache
from db.settings import MEMORY, Environment, StorageSettings
from db.work import LEASE, Doorbell
from workers.bell import FUNCTION, QUEUE, ArqQueue, connect, decode, disconnect, encode
from workers.crew import Crew
from workers.outage import Outage
from workers.reconcile import SECONDS, reconcile
from workers.run import Runner, worker_name

_POLL_SECONDS = 0.2
_HEALTH_SECONDS = 10
# A call to arq's function only hands its row to the crew, so what a killed worker leaves in
# Redis is soon over.
_CALL_SECONDS = 20
_MOST_CALLS = 20
# Seconds that a row of a tenant waits for a place here, before others may hear it. While there is
# none, calls for all that is rung for have to end before it is rung for again, or they pile up.
_PATIENCE = 0.5
_GRACE = 4  # seconds that what runs has to end, when the process is told to stop
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 2.0

_log = structlog.get_logger(__name__)


def require_stores(settings: StorageSettings) -> None:
    """Raises Misconfigured: a worker shares nothing with a gateway whose stores are in memory, and
    where the serving role may not own the tables it needs the one that does."""
    missing = [
        name
        for name, url in (
            ("DATABASE_URL=postgresql://…", settings.database_url),
            ("REDIS_URL=redis://…", settings.redis_url),
        )
        if url == MEMORY
    ]
    if missing:
        raise Misconfigured(f"a worker needs {' and '.join(missing)}")
    if settings.environment is Environment.PRODUCTION and settings.database_owner_url is None:
        raise Misconfigured(
            "ENVIRONMENT=production needs DATABASE_OWNER_URL: a worker makes and drops tables"
        )


async def serve(settings: StorageSettings, *, lease: timedelta = LEASE) -> None:
    """Works until SIGTERM or SIGINT. Raises Misconfigured, and Unavailable at its start."""
    require_stores(settings)
    # Every call of every tick would be a line.
    logging.getLogger("arq").setLevel(logging.WARNING)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    bell = ArqQueue(settings.redis_url, system_clock)
    cache = open_cache(settings.redis_url)
    storage = await open_storage(settings)
    runner = Runner(settings, storage, cache, bell, system_clock, worker_name(), lease=lease)
    crew = Crew(runner)
    try:
        await _Listener(settings.redis_url, runner, crew).listen(stopping)
    finally:
        await crew.close(_GRACE)
        await bell.close()
        await cache.close()
        await storage.close()


async def is_healthy(settings: StorageSettings) -> bool:
    """Whether a worker has said lately that it is alive. Raises RedisError, OSError."""
    require_stores(settings)
    redis = connect(settings.redis_url)
    try:
        return await redis.get(QUEUE + health_check_key_suffix) is not None
    finally:
        await disconnect(redis)


class _Listener:
    def __init__(self, redis_url: str, runner: Runner, crew: Crew) -> None:
        self._redis_url = redis_url
        self._runner = runner
        self._crew = crew
        self._storage = Outage("storage")
        self._redis = Outage("Redis")

    async def ring(self, *keys: str) -> None:
        """What is due here, while there is no bell."""
        for key in keys:
            await self._crew.take(key, 0)

    async def listen(self, stopping: asyncio.Event) -> None:
        """Raises Misconfigured when Redis does not let us in from the start."""
        delay = _FIRST_DELAY
        welcome = False
        time = asyncio.get_running_loop().time
        while not stopping.is_set():
            began = time()
            redis = connect(self._redis_url)
            try:
                await redis.ping()
                welcome = True
                self._redis.over()
                _log.info("listening", worker=self._runner.name)
                await self._hear(redis, stopping)
            except (RedisError, OSError) as error:
                if not welcome and _refused(error):
                    raise Misconfigured("Redis does not let the worker in: see REDIS_URL") from None
                self._redis.met(type(error).__name__)
            except Exception as fault:
                log_fault(fault)
            finally:
                await disconnect(redis)
            if stopping.is_set():
                return
            await self._look(self, starting=False)
            lasted = time() - began > _LONGEST_DELAY
            delay = _FIRST_DELAY if lasted else min(2 * delay, _LONGEST_DELAY)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), delay)

    async def _hear(self, redis: ArqRedis, stopping: asyncio.Event) -> None:
        """Until it is told to stop, or Redis goes away."""
        worker = self._worker(redis)
        hearing = asyncio.create_task(worker.async_run())
        told = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({hearing, told}, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
        finally:
            calls = list(worker.tasks.values())
            for task in (hearing, told, *calls):
                task.cancel()
            await asyncio.gather(hearing, told, *calls, return_exceptions=True)
            with suppress(RedisError, OSError):
                await redis.delete(worker.health_check_key)

    async def _look(self, doorbell: Doorbell, *, starting: bool) -> bool:
        """Whether what is due was found."""
        runner = self._runner
        try:
            await reconcile(runner.storage, doorbell, runner.clock(), starting=starting)
        except AgentIdPError as error:
            self._storage.met(error.message)
        except Exception as fault:
            log_fault(fault)
        else:
            self._storage.over()
            return True
        return False

    def _worker(self, redis: ArqRedis) -> Worker:
        starting = True

        # arq names the argument, and its types hold us to the name.
        async def look(ctx: dict[Any, Any]) -> None:
            nonlocal starting
            if await self._look(self._runner.doorbell, starting=starting):
                starting = False

        async def work(ctx: dict[Any, Any], key: str) -> None:
            # One that finds no place is still due, and is rung for again.
            await self._crew.take(key, _PATIENCE)

        return Worker(
            functions=[func(work, name=FUNCTION, timeout=_CALL_SECONDS, keep_result=0)],
            cron_jobs=[
                cron(
                    look,
                    name="reconcile",
                    second=set(range(0, 60, SECONDS)),
                    unique=True,
                    timeout=_CALL_SECONDS,
                    keep_result=0,
                )
            ],
            # Not as the first tick, which some other worker may be given.
            on_startup=look,
            redis_pool=redis,
            queue_name=QUEUE,
            max_jobs=_MOST_CALLS,
            # Room for what killed workers left at the head of the queue.
            queue_read_limit=50 * _MOST_CALLS,
            poll_delay=_POLL_SECONDS,
            max_tries=1,
            # A kept result blocks its id.
            keep_result=0,
            job_timeout=_CALL_SECONDS,
            job_serializer=encode,
            job_deserializer=decode,
            health_check_interval=_HEALTH_SECONDS,
            handle_signals=False,
            timezone=UTC,
        )


def _refused(error: Exception) -> bool:
    # redis-py shows these as a connection that failed; the words are the server's.
    words = str(error)
    return isinstance(error, AuthenticationError | NoPermissionError) or any(
        each in words for each in ("Authentication required", "invalid username-password")
    )
