"""What a purge notes of the events that it takes: a digest that names them all and fits a line.

The ids of each day, 16 bytes each and in order, have a SHA-256; the digest of the month is that of
these, day after day, without the days that had no event. So the days can be read side by side, and
whoever has an export of the month can make the same of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from uuid import UUID

from db.clock import event_id_floor
from db.months import following

_DAY = timedelta(days=1)


def days_between(month: datetime) -> Sequence[UUID]:
    """Where each day of the month but the first begins, as a bound on ids. What is before the month
    counts to its first day: the first of all months has no lower end."""
    days = (following(month) - month) // _DAY
    return [event_id_floor(month + day * _DAY) for day in range(1, days)]


def month_digest(days: Iterable[bytes]) -> str:
    """In hexadecimal, of the SHA-256 of each day that had events."""
    return sha256(b"".join(days)).hexdigest()


def digest_of(month: datetime, ids: Iterable[UUID]) -> str:
    """Of the ids of all events that the month holds."""
    ends = [UUID(int=0), *days_between(month), UUID(int=(1 << 128) - 1)]
    every = sorted(ids)
    days = ([each.bytes for each in every if low <= each < high] for low, high in pairwise(ends))
    return month_digest(sha256(b"".join(day)).digest() for day in days if day)
