"""Client secrets: made once, shown once, kept as a bcrypt hash.

Hashing is slow by design, so it runs in a thread (bcrypt lets go of the GIL) and only a few at a
time; the event loop never waits for one. What cannot be hashed soon is refused rather than kept
waiting: a crowd with wrong secrets must not become a queue that outlives its own requests. And who
sends a crowd queues behind it himself: of one address no more stand in line than can be hashed at
once, so that the first login of somebody else comes after these and not after all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from time import perf_counter
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import bcrypt

from db.errors import Unavailable

SECRET_PREFIX = "sk_live_"
# bcrypt reads 72 bytes: a longer secret would match by its beginning alone.
MAX_SECRET_BYTES = 72

# How long a hash may wait for its turn. An operation has ten seconds for all that it does.
_PATIENCE = 8.0
_MAX_ROOM = 1024
_MEMORY = 8  # hashes
_TAG_DOMAIN = b"agentidp client secret tag\0"
_COST = re.compile(r"\$2[aby]\$([0-9]{2})\$")

T = TypeVar("T")


def new_secret() -> str:
    """`sk_live_` and 64 hex digits: 256 random bits."""
    return SECRET_PREFIX + secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class HashedSecret:
    """What is kept of a secret: its hash, and the tag that says which hash is worth comparing."""

    hash: str = field(repr=False)
    tag: str = field(repr=False)


def tag_of(secret: str) -> str:
    """16 bits of a digest, as four hex digits: of the 256 bits of a secret, 240 are left to guess,
    and of the credentials of a client seldom more than one is worth comparing."""
    digest = hashlib.sha256(_TAG_DOMAIN + secret.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:4]


def may_be_secret(presented: str) -> bool:
    """Whether bcrypt would read all of it. What is longer than 72 bytes, or has a NUL, is refused
    before hashing, whoever's it is."""
    # Characters first: a megabyte need not be encoded to be too long.
    return (
        len(presented) <= MAX_SECRET_BYTES
        and "\0" not in presented
        and len(presented.encode("utf-8", "surrogatepass")) <= MAX_SECRET_BYTES
    )


class _Lane:
    """Those who wait at one address, and those of them who are in the line of everybody."""

    def __init__(self, threads: int) -> None:
        self.turns = asyncio.Semaphore(threads)
        self.waiting = 0


class SecretHasher:
    """`cost` is bcrypt's work factor; at most `threads` hashes run at once, one for each CPU that
    this process may use unless told otherwise, and at most `room` wait. Without `room`, as many
    wait as are hashed within the patience of a request, by what hashes have taken of late.

    Raises Unavailable when there is no room.
    """

    def __init__(self, cost: int, threads: int | None = None, room: int | None = None) -> None:
        self.cost = cost
        threads = threads or _usable_cpus()
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, "secrets")
        # Of what has not ended, whoever may have gone away meanwhile.
        self._aboard = 0
        self._counting = Lock()
        # For as long as anybody from there waits.
        self._lanes: WeakValueDictionary[str, _Lane] = WeakValueDictionary()
        started = perf_counter()
        # What an unknown client's secret is compared with, so that it takes as long as a known one.
        self._decoy = bcrypt.hashpw(secrets.token_bytes(32), bcrypt.gensalt(cost)).decode()
        self._seconds = perf_counter() - started
        self._room = room

    async def hash(self, secret: str, whence: str = "") -> HashedSecret:
        """`whence` as of `matches`: whoever asks for many secrets queues behind them, too."""
        salt = bcrypt.gensalt(self.cost)
        async with self._in_lane(whence):
            hashed = await self._in_turn(lambda: bcrypt.hashpw(secret.encode(), salt))
        return HashedSecret(hashed.decode(), tag_of(secret))

    async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
        """Whether the secret is the hashed one; None stands for no such client, and never matches.
        `whence` is the address that it came from.

        What `may_be_secret` refuses is refused here without hashing.
        """
        if not may_be_secret(secret):
            return False
        presented = secret.encode("utf-8", "surrogatepass")
        compared = (secret_hash or self._decoy).encode()
        async with self._in_lane(whence):
            same = await self._in_turn(lambda: bcrypt.checkpw(presented, compared))
        return same and secret_hash is not None

    def is_outdated(self, secret_hash: str) -> bool:
        """Whether the hash is cheaper than a new one would be."""
        found = _COST.match(secret_hash)
        return found is not None and int(found[1]) < self.cost

    @property
    def room(self) -> int:
        """How many may wait."""
        if self._room is not None:
            return self._room
        return min(_MAX_ROOM, ceil(_PATIENCE * self._threads / self._seconds))

    @asynccontextmanager
    async def _in_lane(self, whence: str) -> AsyncIterator[None]:
        lane = self._lanes.get(whence)
        if lane is None:
            lane = self._lanes[whence] = _Lane(self._threads)
        if lane.waiting >= self.room:
            raise Unavailable("too many secrets from one address are being hashed", ceil(_PATIENCE))
        lane.waiting += 1
        try:
            await lane.turns.acquire()
        finally:
            lane.waiting -= 1
        try:
            yield
        finally:
            lane.turns.release()

    async def _in_turn(self, work: Callable[[], T]) -> T:
        """Whoever is cancelled while it waits gives its place up; a hash that has begun keeps its
        own until it has ended, so that no more than `threads` ever run."""
        with self._counting:
            if self._aboard - self._threads >= self.room:
                seconds = self._aboard * self._seconds / self._threads
                raise Unavailable("too many secrets are being hashed", max(1, ceil(seconds)))
            self._aboard += 1
        running = self._executor.submit(self._timed, work)
        running.add_done_callback(self._ended)
        return await asyncio.wrap_future(running)

    def _timed(self, work: Callable[[], T]) -> T:
        started = perf_counter()
        try:
            return work()
        finally:
            with self._counting:
                self._seconds += (perf_counter() - started - self._seconds) / _MEMORY

    def _ended(self, _: Future[Any]) -> None:
        with self._counting:
            self._aboard -= 1


def _usable_cpus() -> int:
    # Not on every platform.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
