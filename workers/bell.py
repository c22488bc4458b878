"""The bell over Redis. What goes through it is the key of a row, and it may be lost at any time."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool

from db.cache import GONE
from db.clock import Clock
from db.errors import Misconfigured
from workers.jobs import of_tenant
from workers.outage import Outage

QUEUE = "agentidp:work"
FUNCTION = "work"

_TIMEOUT = 2  # seconds
_CONNECTIONS = 8
# Rung twice within so many seconds, a row is looked at once. An id that a killed worker has left
# behind blocks none for longer.
_BUCKET_SECONDS = 5
# The rows that all tenants depend on go before however many of single tenants.
_AHEAD = timedelta(hours=1)


class Rung(msgspec.Struct, rename={"name": "f", "arguments": "a", "tries": "t", "at": "et"}):
    """What arq keeps of a call: text and numbers alone, and nothing that could run."""

    name: str
    arguments: list[str]
    at: int
    tries: int | None = None
    k: dict[str, str] = {}


def connect(redis_url: str) -> ArqRedis:
    """Connects when it is first used. Raises Misconfigured for an address that is none."""
    try:
        pool = BlockingConnectionPool.from_url(
            redis_url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
        )
    except ValueError:
        raise Misconfigured("REDIS_URL is not the address of a Redis server") from None
    # arq would pickle, and whoever writes to Redis would run code in a worker.
    return ArqRedis(
        pool,
        job_serializer=encode,
        job_deserializer=decode,
        default_queue_name=QUEUE,
    )


async def disconnect(redis: ArqRedis) -> None:
    await redis.aclose()
    await redis.connection_pool.disconnect()


def encode(call: dict[str, object]) -> bytes:
    # The end of a call that failed holds its error; nobody reads it, and its kind is enough.
    return msgspec.json.encode(call, enc_hook=lambda value: type(value).__name__)


def decode(call: bytes) -> dict[str, object]:
    return msgspec.to_builtins(msgspec.json.decode(call, type=Rung))  # type: ignore[no-any-return]


class ArqQueue:
    """Rings over Redis, where worker processes listen."""

    def __init__(self, redis_url: str, clock: Clock) -> None:
        self._redis = connect(redis_url)
        self._clock = clock
        self._outage = Outage("the queue's Redis")

    async def start(self) -> None:
        """The workers look at rows by themselves."""

    async def ring(self, *keys: str) -> None:
        now = self._clock()
        bucket = int(now.timestamp()) // _BUCKET_SECONDS
        try:
            for key in keys:
                await self._redis.enqueue_job(
                    FUNCTION,
                    key,
                    _job_id=f"{FUNCTION}:{key}:{bucket}",
                    _defer_until=now if of_tenant(key) else now - _AHEAD,
                    _expires=timedelta(days=1),
                )
        except GONE as error:
            self._outage.met(type(error).__name__)
        else:
            self._outage.over()

    async def close(self) -> None:
        await disconnect(self._redis)
