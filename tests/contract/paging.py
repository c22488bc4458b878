"""Any list, held to the rules of pages: order, ends, flags, cursors."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import product
from typing import TypeAlias, TypeVar

import pytest

from db.errors import InvalidCursor
from db.pages import DEFAULT_PAGE, Page, PageRequest

T = TypeVar("T")
Fetch: TypeAlias = Callable[[PageRequest], Awaitable[Page[T]]]

EVERYTHING = PageRequest(first=100)


async def items(fetch: Fetch[T]) -> list[T]:
    """The rows of a list that fits one page."""
    page = await fetch(EVERYTHING)
    assert not page.has_next_page
    return list(page.items)


async def assert_pages(fetch: Fetch[T], rows: Sequence[T]) -> None:
    """The list is exactly `rows`, cut at any cursors, from both ends, at any size."""
    whole = await fetch(EVERYTHING)
    assert list(whole.items) == list(rows)
    assert len(set(whole.cursors)) == len(rows), "each row has a cursor of its own"
    ends = [None, *whole.cursors]
    sizes: list[dict[str, int]] = [{}]
    sizes += [{end: size} for end in ("first", "last") for size in {1, 2, len(rows) or 1, 100}]
    for after, before, size in product(ends, ends, sizes):
        request = PageRequest(after=after, before=before, **size)
        page = await fetch(request)
        assert page == _expected(request, whole), request


def _expected(request: PageRequest, whole: Page[T]) -> Page[T]:
    start = whole.cursors.index(request.after) + 1 if request.after else 0
    end = whole.cursors.index(request.before) if request.before else len(whole.items)
    places = range(start, end)
    if request.last:
        kept = places[-request.last :]
        flags = (request.before is not None, len(places) > request.last)
    else:
        limit = request.first or DEFAULT_PAGE
        kept = places[:limit]
        flags = (len(places) > limit, request.after is not None)
    return Page(
        items=tuple(whole.items[place] for place in kept),
        cursors=tuple(whole.cursors[place] for place in kept),
        has_next_page=flags[0],
        has_previous_page=flags[1],
    )


async def assert_walks(fetch: Fetch[T], rows: Sequence[T], size: int = 3) -> None:
    """Following the cursors, forwards and backwards, meets every row once."""
    forwards: list[T] = []
    page = await fetch(PageRequest(first=size))
    forwards += page.items
    while page.has_next_page:
        page = await fetch(PageRequest(first=size, after=page.cursors[-1]))
        forwards += page.items
    assert forwards == list(rows)

    backwards: list[T] = []
    page = await fetch(PageRequest(last=size))
    backwards += reversed(page.items)
    while page.has_previous_page:
        page = await fetch(PageRequest(last=size, before=page.cursors[0]))
        backwards += reversed(page.items)
    assert backwards == list(reversed(rows))


async def assert_refuses(fetch: Fetch[T], foreign: Iterable[str]) -> None:
    """Cursors of other lists, and its own when changed, are refused on both sides."""
    cursor = (await fetch(EVERYTHING)).cursors[0]
    for bad in (*foreign, *_spoilt(cursor)):
        for side in ("after", "before"):
            with pytest.raises(InvalidCursor) as refusal:
                await fetch(PageRequest(after=bad) if side == "after" else PageRequest(before=bad))
            assert refusal.value.code == "INVALID_CURSOR"
            assert refusal.value.path == (side,)


def _spoilt(cursor: str) -> Iterable[str]:
    other = "A" if cursor[0] != "A" else "B"
    yield ""
    yield "nonsense"
    yield "\x00"
    yield cursor + "\x00"
    yield cursor + "="
    yield cursor + "\n"
    yield " " + cursor
    yield cursor + "é"
    yield cursor + "\ud800"
    yield cursor[:-1]
    yield cursor[: len(cursor) // 2]
    yield cursor + cursor
    yield other + cursor[1:]
    yield cursor[:-4] + "".join(reversed(cursor[-4:])) + "A"
    yield "A" * 100_000
    yield urlsafe_b64encode(b'["2026-01-01T00:00:00Z", "x"]').decode()
