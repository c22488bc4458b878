"""A loop in a thread of its own: what goes on there is not held up by servers that are started and
stopped, which only the main thread may do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

_PATIENCE = 240  # seconds: never reached, but a test that hangs says nothing

T = TypeVar("T")


class Aside:
    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.do(_nothing_is_left())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def begin(self, what: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    def do(self, what: Coroutine[Any, Any, T], patience: float = _PATIENCE) -> T:
        """What it returns or raises, once it has ended."""
        return self.begin(what).result(patience)


async def _nothing_is_left() -> None:
    """Whatever a failed test left running is ended with the loop, and says nothing more."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
