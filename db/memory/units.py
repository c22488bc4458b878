"""Units take turns: one at a time for each tenant, and one for the registry.

Holding the turn stands for the row locks of a database. It is coarser, and no caller can tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from db.errors import AgentIdPError, Misused, UnitOver

E = TypeVar("E", bound=AgentIdPError)


class Life:
    """Whether a unit may still be used."""

    def __init__(self) -> None:
        self._over = False
        self._error: AgentIdPError | None = None

    def go_on(self) -> None:
        """Raises UnitOver."""
        if self._over:
            raise UnitOver(
                "the unit of work is over: it has ended, or an error has ended it"
            ) from self._error

    def fail(self, error: E) -> E:
        """Ends the unit; returns the error for raising."""
        self._over, self._error = True, error
        return error

    def leave(self) -> None:
        self._over = True


class Turns:
    """Whose turn it is among the units of one tenant, or of the registry."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Life]:
        task = asyncio.current_task()
        if self._holder is not None and self._holder is task:
            # It would wait for itself for ever.
            raise Misused("a unit of work was begun inside another of the same tenant")
        async with self._lock:
            self._holder = task
            life = Life()
            try:
                yield life
            finally:
                life.leave()
                self._holder = None
