"""Natural batching: what is asked for while a batch is on its way goes with the next one.

There is no timer. An idle process answers at once, and a busy one asks seldom and much at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from db.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batched(Generic[Item, Result]):
    """`run` takes up to `most` items and returns a result, or an exception, for each of them in
    the same order; what it raises, all of them raise. At most `room` wait.

    What `run` does for an item begins after the item was asked for. A caller that is cancelled
    while it waits is left out; once its batch is on its way, that goes on without it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        most: int,
        room: int,
    ) -> None:
        self._run = run
        self._most = most
        self._room = room
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """Raises Unavailable when too many wait, and what `run` says or raises."""
        if len(self._waiting) >= self._room:
            raise Unavailable("too much is waiting", retry_after=1)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            # In no request's context: what is logged in a batch belongs to all of them.
            self._running = asyncio.create_task(self._run_all(), context=Context())
        return await future

    async def drain(self) -> None:
        """Returns when nothing is waiting or on its way."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run_all(self) -> None:
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            self._running = None
            # Only when the loop is ending: nobody may go on waiting for what will not come.
            while self._waiting:
                self._waiting.popleft()[1].cancel()

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
