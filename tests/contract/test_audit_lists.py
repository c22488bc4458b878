"""Lists of audit events: newest first, of one agent or of many at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from db.contract import Storage
from db.errors import InvalidCursor
from db.filters import AuditEventFilter, Span
from db.pages import Page, PageRequest
from db.records import AuditAction, AuditEvent, AuditOutcome
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    SECOND,
    after,
    new_event,
    put,
    whole_event,
)
from tests.contract.paging import (
    EVERYTHING,
    Fetch,
    assert_pages,
    assert_refuses,
    assert_walks,
    items,
)

ALWAYS = NOW - 3600 * SECOND


def listing(
    storage: Storage, filter: AuditEventFilter = AuditEventFilter(), since: datetime = ALWAYS
) -> Fetch[AuditEvent]:
    return lambda request: storage.read(ACME).audit.page(request, since, filter)


def _trail() -> list[AuditEvent]:
    """Newest first; several of one instant, in the reverse of the order in which they were made."""
    agents = [uuid4(), uuid4()]
    actions = [AuditAction.TOKEN_ISSUED, AuditAction.AUTH_FAILED, AuditAction.AGENT_UPDATED]
    return [
        new_event(
            after(place // 3),
            agent_id=agents[place % 2],
            action=actions[place % 3],
            outcome=AuditOutcome.FAILURE if place % 4 == 0 else AuditOutcome.SUCCESS,
        )
        for place in range(9)
    ][::-1]


async def test_pages_are_newest_first_by_id(storage: Storage) -> None:
    rows = _trail()
    await put(storage, ACME, *rows[1::2], *rows[0::2])
    await assert_walks(listing(storage), rows, size=2)
    await assert_pages(listing(storage), rows)


async def test_one_microsecond_decides_between_events_whatever_their_ids_hold(
    storage: Storage,
) -> None:
    rows = [new_event(NOW + offset * MICROSECOND) for offset in range(-3, 4)]
    await put(storage, ACME, *reversed(rows))
    assert await items(listing(storage)) == rows[::-1]


FILTERS = [
    {},
    {"action": (AuditAction.AUTH_FAILED,)},
    {"action": (AuditAction.AUTH_FAILED, AuditAction.AGENT_UPDATED)},
    {"action": tuple(AuditAction)},
    {"action": (AuditAction.CUSTOM,)},
    {"action": ()},
    {"outcome": (AuditOutcome.FAILURE,)},
    {"outcome": ()},
    {"timestamp": Span(gte=after(1))},
    {"timestamp": Span(lt=after(1))},
    {"timestamp": Span(gte=after(1), lt=after(2))},
    {"timestamp": Span(gte=after(2), lt=after(1))},
    {"timestamp": Span(gte=datetime(1, 1, 1, tzinfo=UTC), lt=datetime(9999, 12, 31, tzinfo=UTC))},
    {"timestamp": Span(lt=datetime(1969, 12, 31, tzinfo=UTC))},
    {"action": (AuditAction.TOKEN_ISSUED,), "outcome": (AuditOutcome.SUCCESS,)},
]


@pytest.mark.parametrize("filter", [AuditEventFilter(**each) for each in FILTERS])  # type: ignore[arg-type]  # a table of keywords
async def test_a_filter_leaves_what_matches_and_nothing_else(
    storage: Storage, filter: AuditEventFilter
) -> None:
    rows = _trail()
    await put(storage, ACME, *rows)
    for asked in (filter, replace(filter, agent_id=rows[0].agent_id)):
        matching = [row for row in rows if asked.matches(row)]
        await assert_walks(listing(storage, asked), matching, size=2)
        assert await storage.read(ACME).audit.count(ALWAYS, asked) == len(matching)
    assert await items(listing(storage, replace(filter, agent_id=uuid4()))) == []


async def test_a_span_holds_its_first_microsecond_and_not_its_last(storage: Storage) -> None:
    rows = [new_event(NOW + offset * MICROSECOND) for offset in (-1, 0, 1, 2)]
    await put(storage, ACME, *rows)

    async def within(span: Span) -> list[AuditEvent]:
        return (await items(listing(storage, AuditEventFilter(timestamp=span))))[::-1]

    assert await within(Span(gte=NOW)) == rows[1:]
    assert await within(Span(lt=NOW)) == rows[:1]
    assert await within(Span(gte=NOW, lt=NOW + MICROSECOND)) == rows[1:2]
    assert await within(Span(gte=NOW, lt=NOW + 2 * MICROSECOND)) == rows[1:3]


async def test_a_count_stops_behind_its_cap(storage: Storage) -> None:
    rows = _trail()
    await put(storage, ACME, *rows)
    audit = storage.read(ACME).audit
    assert [await audit.count(ALWAYS, cap=cap) for cap in (0, 7, 8, 9)] == [1, 8, 9, 9]
    mine = AuditEventFilter(agent_id=rows[0].agent_id)
    assert [await audit.count(ALWAYS, mine, cap=cap) for cap in (0, 3, 4, 5)] == [1, 4, 5, 5]
    failed = AuditEventFilter(outcome=(AuditOutcome.FAILURE,))
    assert [await audit.count(ALWAYS, failed, cap=cap) for cap in (0, 2, 3)] == [1, 3, 3]


async def test_pages_of_many_agents_are_the_page_of_each(storage: Storage) -> None:
    rows = _trail()
    await put(storage, ACME, *rows)
    audit = storage.read(ACME).audit
    known: list[UUID] = list({row.agent_id for row in rows})
    stranger = uuid4()
    asked = [*known, stranger, known[0]]
    for request in (PageRequest(), PageRequest(first=2), PageRequest(last=2)):
        for filter in (AuditEventFilter(), AuditEventFilter(action=(AuditAction.TOKEN_ISSUED,))):
            for since in (ALWAYS, after(1)):
                pages = await audit.pages(asked, request, since, filter)
                assert pages == {
                    agent_id: await audit.page(request, since, replace(filter, agent_id=agent_id))
                    for agent_id in asked
                }
                assert pages[stranger] == Page()
    assert await audit.pages([], EVERYTHING, ALWAYS) == {}
    for agent_id, page in (await audit.pages(known, EVERYTHING, ALWAYS)).items():
        assert list(page.items) == [row for row in rows if row.agent_id == agent_id]
    pages = await audit.pages(known[:1], EVERYTHING, ALWAYS, AuditEventFilter(agent_id=known[1]))
    assert {row.agent_id for row in pages[known[0]].items} == {known[0]}


async def test_a_batch_of_one_can_be_continued_and_others_refuse_its_cursor(
    storage: Storage,
) -> None:
    rows = _trail()
    await put(storage, ACME, *rows)
    one, other = {row.agent_id for row in rows}
    audit = storage.read(ACME).audit
    cursor = (await audit.pages([one], EVERYTHING, ALWAYS))[one].cursors[1]
    pages = await audit.pages([one], PageRequest(first=1, after=cursor), ALWAYS)
    assert list(pages[one].items) == [row for row in rows if row.agent_id == one][2:3]
    for agents in ([other], [one, other]):
        for request in (PageRequest(after=cursor), PageRequest(before=cursor)):
            with pytest.raises(InvalidCursor):
                await audit.pages(agents, request, ALWAYS)


async def test_a_cursor_means_nothing_elsewhere(storage: Storage) -> None:
    rows = _trail()[:2]
    await put(storage, ACME, *rows)
    await put(storage, GLOBEX, *rows)
    others = [
        AuditEventFilter(agent_id=rows[0].agent_id),
        AuditEventFilter(action=tuple(AuditAction)),
        AuditEventFilter(outcome=tuple(AuditOutcome)),
        AuditEventFilter(timestamp=Span(gte=ALWAYS)),
    ]
    pages = [await storage.read(ACME).audit.page(EVERYTHING, ALWAYS, each) for each in others]
    pages.append(await storage.read(GLOBEX).audit.page(EVERYTHING, ALWAYS))
    await assert_refuses(listing(storage), [page.cursors[0] for page in pages])
    await assert_pages(listing(storage), rows)


async def test_a_reader_told_what_is_wanted_fetches_that(storage: Storage) -> None:
    event = whole_event()
    await put(storage, ACME, event)
    audit = storage.read(ACME).audit
    wanted = {"action", "metadata", "timestamp"}
    single = await audit.page(EVERYTHING, ALWAYS, wanted=wanted)
    batch = await audit.pages([event.agent_id], EVERYTHING, ALWAYS, wanted=wanted)
    for read in (single.items[0], batch[event.agent_id].items[0]):
        assert (read.event_id, read.timestamp) == (event.event_id, event.timestamp)
        assert (read.action, read.metadata) == (event.action, event.metadata)
        for absent in ("outcome", "severity", "ip_address", "user_agent", "event_type"):
            with pytest.raises(AttributeError):
                getattr(read, absent)
    assert single.cursors == (await audit.page(EVERYTHING, ALWAYS)).cursors
    bare = (await audit.pages([event.agent_id], EVERYTHING, ALWAYS, wanted=()))[event.agent_id]
    assert [each.agent_id for each in bare.items] == [event.agent_id]
