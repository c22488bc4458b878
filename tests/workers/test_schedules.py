"""The next time of a job is always later, and where it should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.contract.cast import MICROSECOND
from workers.schedules import Daily, Every, Schedule

THREE = Daily(hour=3, minute=7)


def at(day: int, hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2028, 2, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (at(28, 3, 6, 59), at(28, 3, 7)),
        (at(28, 3, 7) - MICROSECOND, at(28, 3, 7)),
        (at(28, 3, 7), at(28, 3, 7, 10)),
        (at(28, 3, 7, 9), at(28, 3, 7, 10)),
    ],
)
def test_every_so_often_is_when_whoever_looks_for_it_looks(now: datetime, then: datetime) -> None:
    assert Every(10).after(now) == then


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (at(28, 3, 6, 59), at(28, 3, 7)),
        (at(28, 3, 7) - MICROSECOND, at(28, 3, 7)),
        (at(28, 3, 7), at(29, 3, 7)),
        (at(28, 3, 7) + MICROSECOND, at(29, 3, 7)),
        (at(28, 23, 59), at(29, 3, 7)),
        (at(29, 4, 0), datetime(2028, 3, 1, 3, 7, tzinfo=UTC)),
    ],
)
def test_daily_is_once_a_day_at_that_minute(now: datetime, then: datetime) -> None:
    assert THREE.after(now) == then


def test_a_day_is_one_of_utc_wherever_the_instant_was_read() -> None:
    there = timezone(timedelta(hours=14))

    assert THREE.after(at(28, 13, 0).astimezone(there)) == at(29, 3, 7)


@pytest.mark.parametrize("schedule", [Every(1), Every(86_400), THREE, Daily(hour=0, minute=0)])
def test_the_next_time_is_later_and_never_the_same_again(schedule: Schedule) -> None:
    now = at(27, 23, 59, 59)
    for _ in range(5):
        then = schedule.after(now)
        assert then > now
        now = then


def test_a_schedule_can_be_read() -> None:
    assert str(Every(300)) == "every 300 s"
    assert str(THREE) == "daily at 03:07 UTC"
