"""The months by which a trail is kept: which there should be at an instant, and which are over.

A month is named by its first instant, in UTC; its events are those from then on and before the
first instant of the next. Both backends ask here, so the same months come and go on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

MONTHS_AHEAD = 2


def month_of(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def following(month: datetime) -> datetime:
    years, index = divmod(month.month, 12)
    return month.replace(year=month.year + years, month=index + 1)


def missing(until: datetime | None, now: datetime) -> Iterator[datetime]:
    """The months to be made at `now`, when there are, or have been, all those before `until`.

    None is skipped, so what a pause left out is made up for, and none comes twice.
    """
    last = month_of(now)
    for _ in range(MONTHS_AHEAD):
        last = following(last)
    month = month_of(now) if until is None else until
    while month <= last:
        yield month
        month = following(month)


def is_over(month: datetime, before: datetime) -> bool:
    """Whether every event that the month can hold is older than `before`."""
    return following(month) <= before
