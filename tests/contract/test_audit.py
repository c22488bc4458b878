"""The trail: it grows at one end, repeats nothing, and is read from the edge of its retention."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from db.clock import event_id
from db.contract import Storage
from db.filters import AuditEventFilter, Span
from db.pages import PageRequest
from db.records import NIL_AGENT, AuditAction, AuditEvent, AuditOutcome, Severity
from tests.contract.cast import (
    ACME,
    MICROSECOND,
    NOW,
    SECOND,
    after,
    new_event,
    put,
    put_and_interrupt,
    whole_event,
)
from tests.contract.paging import (
    EVERYTHING,
    Fetch,
    assert_pages,
    items,
)

ALWAYS = NOW - 3600 * SECOND


def listing(
    storage: Storage, filter: AuditEventFilter = AuditEventFilter(), since: datetime = ALWAYS
) -> Fetch[AuditEvent]:
    return lambda request: storage.read(ACME).audit.page(request, since, filter)


@pytest.mark.parametrize(
    "event", [new_event(), whole_event(), new_event(agent_id=NIL_AGENT, metadata={})]
)
async def test_an_appended_event_reads_back_as_it_was_written(
    storage: Storage, event: AuditEvent
) -> None:
    await put(storage, ACME, event)
    assert await storage.read(ACME).audit.get(event.event_id, ALWAYS) == event
    assert await items(listing(storage)) == [event]


async def test_every_word_of_the_vocabularies_can_be_kept(storage: Storage) -> None:
    events = [new_event(action=each) for each in AuditAction]
    events += [new_event(outcome=each) for each in AuditOutcome]
    events += [new_event(severity=each) for each in Severity]
    await put(storage, ACME, *events)
    assert await items(listing(storage)) == events[::-1]


async def test_an_unknown_event_is_none(storage: Storage) -> None:
    await put(storage, ACME, new_event())
    assert await storage.read(ACME).audit.get(event_id(NOW), ALWAYS) is None
    assert await storage.read(ACME).audit.get(uuid4(), ALWAYS) is None


async def test_several_events_are_appended_at_once_and_none_is_nothing(storage: Storage) -> None:
    events = [new_event() for _ in range(5)]
    async with storage.unit(ACME) as unit:
        await unit.audit.append(*events)
        await unit.audit.append()
    assert await items(listing(storage)) == events[::-1]


async def test_a_repeated_append_leaves_the_event_as_it_is(storage: Storage) -> None:
    event, other = new_event(), new_event()
    forged = replace(event, metadata={"forged": True}, agent_id=uuid4())
    await put(storage, ACME, event)
    async with storage.unit(ACME) as unit:
        await unit.audit.append(forged, other, replace(other, user_agent="forged"))
        await unit.audit.append(forged)
    assert await items(listing(storage)) == [other, event]
    assert await items(listing(storage, AuditEventFilter(agent_id=forged.agent_id))) == []


async def test_an_event_is_as_durable_as_the_change_beside_it(storage: Storage) -> None:
    event = new_event()
    await put_and_interrupt(storage, ACME, event)
    assert await items(listing(storage)) == []
    await put(storage, ACME, event)
    assert await items(listing(storage)) == [event]


async def test_what_is_read_or_was_written_cannot_rewrite_the_trail(storage: Storage) -> None:
    event = new_event(metadata={"list": [1], "deep": {"a": 1}})
    original = replace(event, metadata={"list": [1], "deep": {"a": 1}})
    await put(storage, ACME, event)
    event.metadata["list"] = "changed by the writer"
    read = await storage.read(ACME).audit.get(event.event_id, ALWAYS)
    assert read == original
    read.metadata["deep"] = "changed by a reader"
    page = await storage.read(ACME).audit.page(EVERYTHING, ALWAYS, wanted={"metadata"})
    page.items[0].metadata.clear()
    assert await items(listing(storage)) == [original]


async def test_what_is_older_than_the_retention_window_is_not_there(storage: Storage) -> None:
    agent_id = uuid4()
    older = [new_event(NOW - offset * MICROSECOND, agent_id=agent_id) for offset in (1, 2)]
    rows = [new_event(NOW + offset * MICROSECOND, agent_id=agent_id) for offset in (1, 0)]
    await put(storage, ACME, *older, *rows)
    audit = storage.read(ACME).audit
    mine = AuditEventFilter(agent_id=agent_id)
    for filter in (AuditEventFilter(), mine, AuditEventFilter(timestamp=Span(gte=ALWAYS))):
        await assert_pages(listing(storage, filter, since=NOW), rows)
        assert await audit.count(NOW, filter) == 2
    batch = await audit.pages([agent_id], EVERYTHING, NOW)
    assert list(batch[agent_id].items) == rows
    assert await audit.get(rows[1].event_id, NOW) == rows[1]
    assert await audit.get(older[0].event_id, NOW) is None
    assert await audit.get(older[0].event_id, NOW - MICROSECOND) == older[0]
    assert await audit.count(ALWAYS) == 4


async def test_a_window_may_reach_behind_1970_and_ahead_of_every_event(storage: Storage) -> None:
    event = new_event()
    await put(storage, ACME, event)
    audit = storage.read(ACME).audit
    for since, found in ((datetime(1900, 1, 1, tzinfo=UTC), [event]), (after(1), [])):
        assert await items(listing(storage, since=since)) == found
        assert await audit.get(event.event_id, since) == (event if found else None)
        assert await audit.count(since) == len(found)


async def test_a_page_can_be_continued_while_the_window_moves(storage: Storage) -> None:
    rows = [new_event(after(-place)) for place in range(6)]
    await put(storage, ACME, *rows)
    page = await storage.read(ACME).audit.page(PageRequest(first=2), ALWAYS)
    rest = await storage.read(ACME).audit.page(
        PageRequest(first=9, after=page.cursors[-1]), since=after(-4)
    )
    assert list(rest.items) == rows[2:5]
    gone = await storage.read(ACME).audit.page(
        PageRequest(first=9, after=rest.cursors[-1]), since=after(-1)
    )
    assert gone.items == ()
    assert not gone.has_next_page
