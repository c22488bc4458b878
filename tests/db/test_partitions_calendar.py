"""Which months there should be, which are over: for every instant, retention and leap year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.clock import event_id, event_id_floor
from db.months import MONTHS_AHEAD, following, is_over, missing, month_of
from tests.contract.cast import MICROSECOND

_EDGES = [
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2023, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2100, 3, 1, tzinfo=UTC),
]
_ANY = st.integers(315_532_800, 7_289_568_000).map(
    lambda second: datetime.fromtimestamp(second, UTC)
)


def _near_edge(month: datetime, shift: int) -> datetime:
    return month_of(month) + shift * MICROSECOND


# Where a mistake would be: within a second of the beginning of a month.
instants = st.one_of(
    st.builds(_near_edge, _ANY, st.sampled_from([-1_000_000, -1, 0, 1, 1_000_000])),
    st.sampled_from(_EDGES),
    _ANY,
)
days = st.integers(1, 400)


@given(now=instants, retention=days, age=st.timedeltas(timedelta(0), timedelta(days=800)))
@example(now=_EDGES[1] + timedelta(days=1), retention=1, age=timedelta(days=1))
@example(now=_EDGES[1] + timedelta(days=1), retention=1, age=timedelta(days=1) + MICROSECOND)
@example(now=_EDGES[0], retention=366, age=timedelta(days=366))
def test_a_month_that_is_over_holds_nothing_younger_than_the_retention(
    now: datetime, retention: int, age: timedelta
) -> None:
    before = now - timedelta(days=retention)
    happened = now - age
    month = month_of(happened)

    # By its id, as the bounds of a partition have it.
    assert event_id_floor(month) <= event_id(happened) < event_id_floor(following(month))
    if is_over(month, before):
        assert happened < before


@given(month=instants.map(month_of), retention=days)
def test_a_month_is_over_from_the_instant_at_which_its_last_microsecond_is_too_old(
    month: datetime, retention: int
) -> None:
    due = following(month) + timedelta(days=retention)

    assert is_over(month, due - timedelta(days=retention))
    assert not is_over(month, due - MICROSECOND - timedelta(days=retention))


@given(until=st.none() | instants.map(month_of), now=instants)
@example(until=None, now=datetime(2023, 12, 31, tzinfo=UTC))
def test_months_are_made_without_a_gap_and_up_to_two_ahead(
    until: datetime | None, now: datetime
) -> None:
    made = list(missing(until, now))

    assert made == sorted(set(made))
    for one, next_one in pairwise(made):
        assert following(one) == next_one
    if made:
        assert made[0] == (until or month_of(now))
        ahead = following(following(month_of(now)))
        assert made[-1] == ahead
    else:
        assert until is not None
        assert until > following(following(month_of(now)))
    assert MONTHS_AHEAD == 2


@given(instant=instants)
def test_every_instant_is_in_its_month_and_in_no_other(instant: datetime) -> None:
    month = month_of(instant)

    assert month <= instant < following(month)
    assert month_of(following(month) - MICROSECOND) == month


@pytest.mark.parametrize("hours", [-11, 14])
def test_a_month_is_that_of_utc(hours: int) -> None:
    there = timezone(timedelta(hours=hours))

    assert month_of(_EDGES[1].astimezone(there)) == datetime(2024, 3, 1, tzinfo=UTC)
    assert month_of((_EDGES[1] - MICROSECOND).astimezone(there)) == datetime(2024, 2, 1, tzinfo=UTC)
