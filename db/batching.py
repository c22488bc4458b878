"""Natural batching: what is asked for while a batch is on its way goes with the next one.

There is no timer. An idle process answers at once, and a busy one asks seldom and much at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from db.errors import Misused, Unavailable

_AT_ONCE = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batched(Generic[Item, Result]):
    """`run` takes up to `most` items and returns a result, or an exception, for each of them in
    the same order; what it raises, all of them raise. At most `room` wait. `rest`, which does not
    raise, is called whenever there is nothing more to do for now.

    What `run` does for an item begins after the item was asked for, and one batch is on its way at
    a time. A caller that is cancelled while it waits is left out; once its batch is on its way,
    that goes on without it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        most: int,
        room: int,
        rest: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run = run
        self._most = most
        self._room = room
        self._rest = rest
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, item: Item) -> Result:
        """Raises Unavailable when too many wait, and what `run` says or raises."""
        return await self.put(item)

    def put(self, item: Item) -> asyncio.Future[Result]:
        """`ask` for whoever waits later, or not at all. Raises Unavailable at once."""
        if self._closed:
            raise Unavailable("this process is ending", retry_after=1)
        if len(self._waiting) >= self._room:
            raise Unavailable("too much is waiting", retry_after=1)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            # In no request's context: what is logged in a batch belongs to all of them.
            self._running = asyncio.create_task(self._run_all(), context=Context())
            self._running.add_done_callback(self._over)
        return future

    @property
    def idle(self) -> bool:
        """Whether there is nobody whom the next batch would answer."""
        return all(future.done() for _, future in self._waiting)

    async def drain(self) -> None:
        """Returns when nothing is waiting or on its way."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """Answers all that was asked, and refuses what is asked from now on."""
        self._closed = True
        await self.drain()

    async def _run_all(self) -> None:
        while not self.idle:
            while batch := self._next():
                await self._answer(batch)
                # Whoever has just been answered may ask again at once.
                await asyncio.sleep(0)
            if self._rest is not None:
                await self._rest()
        self._running = None

    def _over(self, running: asyncio.Task[None]) -> None:
        """Only a loop that is ending cancels the task, maybe before its first step: nobody may go
        on waiting for what will not come."""
        if self._running is not running:
            return
        self._running = None
        while self._waiting:
            _abandon(self._waiting.popleft()[1])

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._most:
            asked = self._waiting.popleft()
            if not asked[1].done():
                batch.append(asked)
        return batch

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._results(batch)
            for number, ((_, future), result) in enumerate(zip(batch, results, strict=True), 1):
                if not future.done():
                    _tell(future, result)
                if number % _AT_ONCE == 0:
                    # Each of them goes on at once, and the loop has others to see to.
                    await asyncio.sleep(0)
        except BaseException:
            for _, future in batch:
                _abandon(future)
            raise

    async def _results(
        self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]
    ) -> Sequence[Result | Exception]:
        try:
            results = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise Misused("a batch was not answered item by item")
        except Exception as error:
            return [error] * len(batch)
        return results


def _tell(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _abandon(future: asyncio.Future[Result]) -> None:
    """An error, and no cancellation: whoever waits was not cancelled, or is done already."""
    if not future.done():
        future.set_exception(Unavailable("this process is ending", retry_after=1))
        # Seen, in the eyes of asyncio: there may be nobody left to see it.
        future.exception()
