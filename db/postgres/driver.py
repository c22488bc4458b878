"""The driver's own connection, beneath SQLAlchemy's.

SQLAlchemy prepares every statement by itself, and each is a message or three. The driver takes a
script of any number of statements as one: that is how tables are made for many tenants. While a
transaction is open here none is begun there, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class Driver(Protocol):
    """What is used of asyncpg's `Connection`."""

    async def execute(self, query: str, *args: object) -> str:
        """Without arguments a script. Answers with the tag of its last statement: `UPDATE 1`."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """The rows, each of which can be unpacked."""
        ...

    def is_in_transaction(self) -> bool: ...

    def is_closed(self) -> bool: ...


async def driver_of(connection: AsyncConnection) -> Driver:
    found: Driver | None = (await connection.get_raw_connection()).driver_connection
    assert found is not None, "the connection is open"
    return found
