"""Event ids: they sort as their instants do, and a bound on instants is a bound on ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from db.clock import event_id, event_id_floor, instant_of, system_clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

since_1970 = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
any_instant = st.datetimes(timezones=st.just(UTC))
# Most pairs of instants are years apart; what can go wrong is closer together.
nearby = st.builds(
    lambda instant, step: (instant, instant + step * MICROSECOND),
    st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds the zone
    st.integers(0, 3_000),
)


@given(instant=since_1970)
@settings(deadline=None)
def test_an_id_is_a_uuid_of_version_7(instant: datetime) -> None:
    for identifier in (event_id(instant), event_id_floor(instant)):
        assert identifier.version == 7
        assert identifier.variant == RFC_4122
        milliseconds = (instant - EPOCH) // timedelta(milliseconds=1)
        assert identifier.int >> 80 == milliseconds
        assert instant_of(identifier) == EPOCH + milliseconds * timedelta(milliseconds=1)


@given(pair=nearby)
@settings(deadline=None)
def test_ids_sort_as_their_instants_do(pair: tuple[datetime, datetime]) -> None:
    earlier, later = pair
    if earlier < later:
        # Whichever was asked for first.
        second, first = event_id(later), event_id(earlier)
        assert first < second
        assert event_id_floor(earlier) < event_id_floor(later)
    else:
        assert event_id_floor(earlier) == event_id_floor(later)


@given(pair=nearby)
@settings(deadline=None)
def test_the_floor_of_an_instant_parts_what_is_older_from_what_is_not(
    pair: tuple[datetime, datetime],
) -> None:
    earlier, later = pair
    assert event_id(earlier) >= event_id_floor(earlier)
    assert (event_id(earlier) >= event_id_floor(later)) is (earlier >= later)
    assert event_id(later + MICROSECOND) > event_id_floor(later)


def test_every_microsecond_of_a_millisecond_is_told_apart() -> None:
    start = datetime(2026, 5, 17, 12, tzinfo=UTC)
    floors = [event_id_floor(start + step * MICROSECOND) for step in range(1_001)]
    assert floors == sorted(set(floors))
    for step, floor in enumerate(floors[1:]):
        assert floors[step] <= event_id(start + step * MICROSECOND) < floor


@given(instant=any_instant)
@settings(deadline=None)
def test_every_instant_has_a_floor_even_before_the_first_id(instant: datetime) -> None:
    assert event_id_floor(instant) == event_id_floor(max(instant, EPOCH))
    assert event_id_floor(instant) <= event_id(max(instant, EPOCH))


def test_the_floor_is_the_smallest_id_of_its_instant() -> None:
    assert event_id_floor(EPOCH) == UUID("00000000-0000-7000-8000-000000000000")
    assert event_id_floor(datetime(2026, 5, 17, 12, 0, 0, 1, tzinfo=UTC)) == UUID(
        "019e35ce-b600-7004-8000-000000000000"
    )


def test_the_instant_of_the_example_in_rfc_9562_is_read() -> None:
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert instant_of(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_ids_of_one_instant_come_out_in_the_order_in_which_they_were_asked_for() -> None:
    instant = datetime(2026, 5, 17, 12, tzinfo=UTC)
    identifiers = [event_id(instant) for _ in range(10_000)]
    assert identifiers == sorted(set(identifiers))


def test_the_systems_clock_tells_utc() -> None:
    assert system_clock().utcoffset() == timedelta(0)
    assert system_clock() > datetime(2025, 1, 1, tzinfo=UTC)
