"""Connections: keyset pages as GraphQL shows them.

Source: GraphQL Cursor Connections Specification §2–5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import strawberry

from db.pages import COUNT_CAP, Page, PageRequest

T = TypeVar("T")
Resolver = TypeVar("Resolver", bound=Callable[..., object])

# The four arguments of every connection; one that is left out is UNSET, so that the SDL shows no
# default of null.
Count = int | None
Cursor = str | None


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[T]):
    cursor: str
    node: T


class Counter:
    """A count that is asked for when a field needs it, and once."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, int]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[int] | None = None

    async def value(self) -> int:
        if self._task is None:
            self._task = asyncio.ensure_future(self._ask())
        return await self._task


def described(text: str) -> Callable[[Resolver], Resolver]:
    """Makes a field of a resolver that anybody may ask for who was given its parent."""
    made: Callable[[Resolver], Resolver] = strawberry.field(description=text)
    return made


@strawberry.type
class Connection(Generic[T]):
    page: strawberry.Private[Page[Any]]
    counter: strawberry.Private[Counter]

    @strawberry.field
    def edges(self) -> list[Edge[T]]:
        return [
            Edge(cursor=cursor, node=row)
            for cursor, row in zip(self.page.cursors, self.page.items, strict=True)
        ]

    @described("The rows alone, when their cursors are of no interest.")
    def nodes(self) -> list[T]:
        return list(self.page.items)

    @strawberry.field
    def page_info(self) -> PageInfo:
        cursors = self.page.cursors
        return PageInfo(
            has_next_page=self.page.has_next_page,
            has_previous_page=self.page.has_previous_page,
            start_cursor=cursors[0] if cursors else None,
            end_cursor=cursors[-1] if cursors else None,
        )

    @described(f"How many rows the whole list has, up to {COUNT_CAP}.")
    async def total_count(self) -> int:
        return min(await self.counter.value(), COUNT_CAP)

    @described(f"Whether there are more than {COUNT_CAP}.")
    async def total_count_capped(self) -> bool:
        return await self.counter.value() > COUNT_CAP


def page_request(first: Count, after: Cursor, last: Count, before: Cursor) -> PageRequest:
    """Raises InvalidInput."""
    return PageRequest(given(first), given(after), given(last), given(before))


def given(value: T | None) -> T | None:
    """An argument's value; left out is the same as null."""
    return None if value is strawberry.UNSET else value
