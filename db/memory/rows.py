"""A committed table: rows by id, and in the order of their positions.

The order is kept as rows arrive, so that a page of a large tenant costs a search and its own rows.
A position ends with the row's id, and neither ever changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar
from uuid import UUID

from db.pages import Keyset, Page, PageRequest

R = TypeVar("R")
P = TypeVar("P", bound=tuple[object, ...])


class Rows(Generic[R, P]):
    """What is committed. `group` names the id by which rows are also kept apart, in order."""

    def __init__(
        self, position: Callable[[R], P], group: Callable[[R], UUID] | None = None
    ) -> None:
        self.position = position
        self._group = group
        self._rows: dict[object, R] = {}
        self._order: list[P] = []
        self._groups: defaultdict[UUID, list[P]] = defaultdict(list)

    def get(self, identifier: object) -> R | None:
        return self._rows.get(identifier)

    def group_of(self, row: R) -> UUID | None:
        return None if self._group is None else self._group(row)

    def of_group(self, group: UUID) -> Sequence[R]:
        """In ascending order."""
        return [self._rows[position[-1]] for position in self._groups.get(group, ())]

    def every(self) -> Sequence[R]:
        return list(self._rows.values())

    def put(self, row: R) -> None:
        position = self.position(row)
        if position[-1] not in self._rows:
            _insert(self._order, position)
            if self._group is not None:
                _insert(self._groups[self._group(row)], position)
        self._rows[position[-1]] = row

    def take_before(self, end: P) -> Sequence[R]:
        """Takes away the rows with `position < end`; they are returned in ascending order."""
        high = bisect_left(self._order, end)
        taken = [self._rows.pop(position[-1]) for position in self._order[:high]]
        del self._order[:high]
        for group in {self._group(row) for row in taken} if self._group is not None else ():
            left = self._groups[group]
            del left[: bisect_left(left, end)]
            if not left:
                del self._groups[group]
        return taken

    def select(
        self,
        *,
        group: UUID | None = None,
        start: P | None = None,
        end: P | None = None,
        matches: Callable[[R], bool] | None = None,
    ) -> Selection[R, P]:
        """The rows with `start <= position < end`, of one group or of all."""
        order = self._order if group is None else self._groups.get(group, [])
        low = 0 if start is None else bisect_left(order, start)
        high = len(order) if end is None else bisect_left(order, end)
        return Selection(self._rows, order, low, high, matches)


class Selection(Generic[R, P]):
    """A stretch of a sorted list, less the rows that do not match. Used at once, never kept."""

    def __init__(
        self,
        rows: Mapping[object, R],
        order: list[P],
        low: int,
        high: int,
        matches: Callable[[R], bool] | None,
    ) -> None:
        self._rows = rows
        self._order = order
        self._low = low
        self._high = high
        self._matches = matches

    def page(
        self,
        keyset: Keyset[R, P],
        request: PageRequest,
        *,
        descending: bool,
        show: Callable[[R], R] | None = None,
    ) -> Page[R]:
        """Raises InvalidCursor."""
        bounds = keyset.open(request)
        lower, upper = (
            (bounds.before, bounds.after) if descending else (bounds.after, bounds.before)
        )
        low, high = self._low, self._high
        if lower is not None:
            low = max(low, bisect_right(self._order, lower))
        if upper is not None:
            high = min(high, bisect_left(self._order, upper))
        found = self._read(low, high, falling=descending is not bounds.backward)
        page = keyset.page(bounds, list(islice(found, bounds.limit + 1)))
        if show is None:
            return page
        return Page(
            items=tuple(show(row) for row in page.items),
            cursors=page.cursors,
            has_next_page=page.has_next_page,
            has_previous_page=page.has_previous_page,
        )

    def count(self, cap: int) -> int:
        if self._matches is None:
            return max(0, min(self._high - self._low, cap + 1))
        found = self._read(self._low, self._high, falling=False)
        return sum(1 for _ in islice(found, cap + 1))

    def _read(self, low: int, high: int, *, falling: bool) -> Iterator[R]:
        places = range(high - 1, low - 1, -1) if falling else range(low, high)
        rows = (self._rows[self._order[place][-1]] for place in places)
        return rows if self._matches is None else filter(self._matches, rows)


def _insert(order: list[P], position: P) -> None:
    # Most rows are the newest so far, and then nothing is searched for.
    if not order or order[-1] < position:
        order.append(position)
    else:
        insort(order, position)
