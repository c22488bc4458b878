"""The revocation cache's server, as its clients see it: asked and told, and never an exception.

What cannot be read is a miss, what cannot be written is said to be so. What a miss is worth, and
when the news of a cut counts as told, is decided by others (`db.warmth`, `db.revocations`).

What the requests of a process ask at the same time goes in one question: most of what a question
costs is the client's own work. Each is asked after its request wanted to know, never before.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut

from db.batching import Batched
from db.errors import Unavailable
from db.settings import MEMORY
from db.warmth import CLAIM, EVICTED, MARKER, RAISE, Warmth

_TIMEOUT = 1  # seconds
_PAUSE = 1.0  # seconds
_CONNECTIONS = 32
_PER_QUESTION = 128
_ROOM = 10_000
REVOKED = b"1"
_RAISE_ONE = RAISE + "return raise(KEYS[1], tonumber(ARGV[1]), ARGV[2])"
# The last two keys are the marker and the count of evicted keys that it was set with.
_READ = """
local found, told = redis.call('MGET', unpack(KEYS)), redis.pcall('INFO', 'stats')
local evicted = type(told) == 'string' and string.match(told, '\\nevicted_keys:(%d+)')
if not evicted or found[#found] ~= evicted then found[#found - 1] = false end
return found
"""
_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)

# How a client tells that its server is gone. The last is uvloop's, for a connection that was closed
# between two writes, and redis-py lets it through.
GONE = (RedisError, OSError, RuntimeError)

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """`values` of the keys that were asked for, None for those that are not there. When `warm`, a
    key that is not there was never cut."""

    values: Sequence[object]
    warm: bool = False


class RevocationCache(Protocol):
    """Never raises, except for what `warmth` says."""

    async def read(self, keys: Sequence[str]) -> Found:
        """In one round trip."""
        ...

    async def mark(self, key: str, until: int) -> bool:
        """Puts `key` there until the second `until` of the Unix clock; whether it is there."""
        ...

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        """As `mark`, with `generation` as the value; a higher one that is there stays."""
        ...

    async def cool(self) -> bool:
        """Takes the marker away, and breaks off any warm-up; whether nobody has it any more."""
        ...

    async def answers(self) -> bool | None:
        """Whether the server answers; None when there is none."""
        ...

    @property
    def warmth(self) -> Warmth | None:
        """None when there is nothing to be filled."""
        ...

    async def close(self) -> None: ...


class NoCache:
    """REDIS_URL=memory://. Every read is a miss that proves nothing: storage always decides, so
    nobody has to be told of a cut."""

    warmth = None

    async def read(self, keys: Sequence[str]) -> Found:
        return Found([None] * len(keys))

    async def mark(self, key: str, until: int) -> bool:
        return True

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        return True

    async def cool(self) -> bool:
        return True

    async def answers(self) -> bool | None:
        return None

    async def close(self) -> None:
        return None


class RedisRevocations:
    """A Redis or Valkey server at a `redis://`, `rediss://` or `unix://` address.

    One that is silent is waited for once: then every read is a miss, but for one a second, until
    it says something. `monotonic` is in seconds.
    """

    def __init__(self, url: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = _Client(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                redis_connect_func=_learn_run_id,
            )
        )
        self._read = self._redis.register_script(_READ)
        self._answering = True
        self._monotonic = monotonic
        self._silent_until: float | None = None
        self._reads: Batched[Sequence[str], Found] = Batched(
            self._read_all, most=_PER_QUESTION, room=_ROOM
        )
        self.warmth = Warmth(self._ask)

    async def read(self, keys: Sequence[str]) -> Found:
        if self._may_read():
            try:
                return await self._reads.ask(keys)
            except Unavailable:
                pass  # More are waiting than can be helped; storage has bounds of its own.
        return _missed(keys)

    async def mark(self, key: str, until: int) -> bool:
        return await self._ask(lambda redis: redis.set(key, REVOKED, exat=until)) is not None

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        raised = await self._ask(lambda redis: redis.eval(_RAISE_ONE, 1, key, generation, until))
        return raised is not None

    async def cool(self) -> bool:
        return await self._ask(lambda redis: redis.delete(MARKER, CLAIM)) is not None

    async def answers(self) -> bool | None:
        return await self._ask(lambda redis: redis.ping()) is not None

    async def close(self) -> None:
        await self._reads.drain()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _read_all(self, asked: Sequence[Sequence[str]]) -> Sequence[Found]:
        names = list(dict.fromkeys(chain.from_iterable(asked)))
        answer = await self._ask(lambda _: self._read([*names, MARKER, EVICTED]))
        if (
            isinstance(answer, _Answer)
            and isinstance(answer.values, list)
            and len(answer.values) == len(names) + 2
        ):
            *values, marker, _ = answer.values
            held = dict(zip(names, values, strict=True))
            # The marker and the run id are of the very answer that the misses are in.
            warm = marker is not None and marker == answer.run_id
            return [Found([held[name] for name in keys], warm) for keys in asked]
        return [_missed(keys) for keys in asked]

    def _may_read(self) -> bool:
        if self._silent_until is None:
            return True
        now = self._monotonic()
        if now < self._silent_until:
            return False
        # One goes and sees; whoever comes behind it does not wait for what it finds.
        self._silent_until = now + _TIMEOUT + _PAUSE
        return True

    async def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T | None:
        try:
            answer = await question(self._redis)
        except GONE as error:
            # What happens while a connection is made is told as the cause of another error.
            silent = isinstance(error, TimedOut) or isinstance(error.__cause__, TimedOut)
            self._silent_until = self._monotonic() + _PAUSE if silent else None
            # The address may hold a password and a command holds ids: the kind says enough. Once,
            # and not again for each request of an outage.
            if self._answering:
                _log.warning("the revocation cache does not answer: %s", type(error).__name__)
            self._answering = False
            return None
        self._silent_until = None
        if not self._answering:
            _log.info("the revocation cache answers again")
        self._answering = True
        return answer


def _missed(keys: Sequence[str]) -> Found:
    return Found([None] * len(keys))


@dataclass(frozen=True, slots=True)
class _Answer:
    """To a read, with the run id of the server that gave it."""

    values: object
    run_id: bytes | None


class _Client(Redis):
    async def parse_response(
        self, connection: Any, command_name: str | bytes, **options: Any
    ) -> Any:
        response = await super().parse_response(connection, command_name, **options)
        if command_name == "EVALSHA":
            # Of this connection and of no other: a pool may hold some to a server that is gone.
            return _Answer(response, connection.run_id)
        return response


async def _learn_run_id(connection: Any) -> None:
    """What a new connection does first. Without a run id, as where INFO is forbidden, nothing that
    comes over the connection proves anything."""
    connection.run_id = None
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    try:
        told = await connection.read_response()
    except ResponseError:
        return
    if isinstance(told, bytes) and (found := _RUN_ID.search(told)):
        connection.run_id = found[1]


def open_cache(redis_url: str) -> RevocationCache:
    """The cache that REDIS_URL names."""
    return NoCache() if redis_url == MEMORY else RedisRevocations(redis_url)
