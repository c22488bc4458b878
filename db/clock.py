"""Instants, and the event ids made from them.

Nothing in this project reads the time for itself: the composition root holds a `Clock`, an
operation reads it once, and everything that the operation does happens at that instant.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

Clock: TypeAlias = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MICROSECOND = timedelta(microseconds=1)

# Orders the events that one process writes at one instant. It starts anywhere, so that two
# processes at the same instant differ by more than the 30 random bits beside it.
_sequence = itertools.count(secrets.randbits(31))


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def event_id(instant: datetime) -> UUID:
    """A new UUIDv7 for something that happened at `instant`.

    Order by id is order by `instant`, to the microsecond, between processes too; ids of one
    process and one instant come out in the order in which they were asked for.

    Source: RFC 9562 §5.7, with the sub-millisecond fraction in `rand_a` (§6.2 method 3).
    """
    tail = (next(_sequence) & 0xFFFFFFFF) << 30 | secrets.randbits(30)
    return _compose(instant, tail)


def event_id_floor(instant: datetime) -> UUID:
    """The smallest id that an event at `instant` can have: `timestamp >= t` as a bound on ids.

    Ids begin with 1970, and a long retention or a caller's filter may reach behind it.
    """
    return _compose(max(instant, _EPOCH), 0)


def instant_of(identifier: UUID) -> datetime:
    """The instant, to the millisecond, that a UUIDv7 was made from."""
    return _EPOCH + (identifier.int >> 80) * _MILLISECOND


def _compose(instant: datetime, tail: int) -> UUID:
    since = instant - _EPOCH
    milliseconds, rest = divmod(since, _MILLISECOND)
    # 4096 steps over 1000 microseconds: distinct microseconds keep distinct fractions.
    fraction = (rest // _MICROSECOND) * 4096 // 1000
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | tail)
