"""A secret that was verified is not hashed again, for as long as the same hash is stored.

What is remembered is one HMAC over whose secret it was, which hash it matched, and the secret
itself, under a key that this process drew when it started: of the secret nothing stays in memory,
and nothing here means anything to another process. Each part has its length before it, so that no
two questions are written alike. Only successes are remembered. The credential's row is read before
every question, so what was revoked, has expired or was given another hash is never asked about.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeAlias
from uuid import UUID

Key: TypeAlias = bytes

_ROOM = 10_000
_AT_ONCE = 16


class Verifications:
    """At most `room` are remembered; the one not asked about for longest goes first."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._drawn = secrets.token_bytes(32)
        self._known: OrderedDict[Key, None] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}

    def key(self, tenant: str, credential_id: UUID, secret_hash: str, secret: str) -> Key:
        parts = (
            tenant.encode(),
            credential_id.bytes,
            secret_hash.encode(),
            secret.encode("utf-8", "surrogatepass"),
        )
        said = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._drawn, said, "sha256")

    def knows(self, key: Key) -> bool:
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    def remember(self, key: Key) -> None:
        self._known[key] = None
        if len(self._known) > self._room:
            self._known.popitem(last=False)

    def under_way(self, key: Key) -> bool:
        """Whether `verify` would wait for somebody else's comparison instead of making one."""
        return key in self._flights

    async def verify(self, key: Key, compare: Callable[[], Awaitable[bool]]) -> bool:
        """What `compare` says, asked once for all that ask while it is on its way; what it raises,
        all of them raise. Whoever is cancelled leaves the others to it; when nobody is left it is
        cancelled too."""
        if self.knows(key):
            return True
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(compare)
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        try:
            return await flight.join()
        finally:
            if flight.is_empty:
                # Before it has ended: whoever comes now begins anew.
                self._forget(key, flight)
                flight.task.cancel()

    async def close(self) -> None:
        flights = [flight.task for flight in self._flights.values()]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: Key, flight: _Flight) -> None:
        self._forget(key, flight)
        if flight.land():
            self.remember(key)

    def _forget(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Flight:
    """One comparison, and those who wait for it."""

    def __init__(self, compare: Callable[[], Awaitable[bool]]) -> None:
        self._compare = compare
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._aboard = 0
        # In no request's context: it is made for all of them.
        self.task = asyncio.create_task(self._run(), context=Context())

    @property
    def is_empty(self) -> bool:
        return not self._aboard

    async def join(self) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._aboard += 1
        try:
            return await future
        finally:
            self._aboard -= 1

    def land(self) -> bool:
        """Tells those who wait, and whether the secret is known to be right now."""
        self._tell()
        return not self.task.cancelled() and not self.task.exception() and self.task.result()

    def _tell(self) -> None:
        # A few at a time: each of them goes on at once, and the loop has others to see to.
        for future in [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]:
            if future.done():
                continue
            if self.task.cancelled():
                future.cancel()
            elif error := self.task.exception():
                future.set_exception(error)
            else:
                future.set_result(self.task.result())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._tell)

    async def _run(self) -> bool:
        return await self._compare()
