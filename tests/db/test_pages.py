"""Pages and the cursor codec: what comes back is what went in, and nothing else is a cursor."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from db import lists
from db.errors import InvalidCursor, InvalidInput
from db.fields import partial
from db.filters import AgentFilter, AgentOrder, AuditEventFilter, Span, TenantFilter
from db.namespace import TenantPrefix
from db.pages import Bounds, Keyset, Page, PageRequest
from db.records import Agent, AgentStatus, AuditEvent, Tenant

ACME = TenantPrefix("acme")
AT = datetime(2026, 5, 17, 12, 0, 0, 123457, tzinfo=UTC)
WEST = timezone(timedelta(hours=-1))
AGENTS = lists.agents(ACME, AgentFilter(), AgentOrder.CREATED_AT_DESC)
TENANTS = lists.tenants(TenantFilter())

instants = st.datetimes(timezones=st.just(UTC))


def agent_at(instant: datetime, agent_id: UUID) -> Agent:
    return partial(Agent, ("created_at", "agent_id"), (instant, agent_id))


def tenant_of(slug: str) -> Tenant:
    return partial(Tenant, ("slug",), (slug,))


def forged(
    keyset: Keyset[Agent, lists.ByInstant] | Keyset[Tenant, lists.BySlug], position: object
) -> str:
    """A cursor of `position` with the right digest: the digest is no secret."""
    name, filter, owner = {
        id(AGENTS): (f"agents by {AgentOrder.CREATED_AT_DESC}", AgentFilter(), "acme"),
        id(TENANTS): ("tenants", TenantFilter(), None),
    }[id(keyset)]
    label = msgspec.msgpack.encode((1, owner, name, filter), order="deterministic")
    packed = position if isinstance(position, bytes) else msgspec.msgpack.encode(position)
    digest = hashlib.blake2b(label + packed, digest_size=8).digest()
    return urlsafe_b64encode(digest + packed).rstrip(b"=").decode()


def refuse(
    keyset: Keyset[Agent, lists.ByInstant] | Keyset[Tenant, lists.BySlug], cursor: str
) -> None:
    for request, path in (
        (PageRequest(after=cursor), "after"),
        (PageRequest(before=cursor), "before"),
    ):
        with pytest.raises(InvalidCursor) as refusal:
            keyset.open(request)
        assert refusal.value.path == (path,)


@given(instant=instants, agent_id=st.uuids())
@settings(deadline=None)
def test_a_cursor_opens_to_the_position_of_its_row(instant: datetime, agent_id: UUID) -> None:
    cursor = AGENTS.cursor(agent_at(instant, agent_id))
    assert AGENTS.open(PageRequest(first=3, after=cursor)) == Bounds(
        limit=3, backward=False, after=(instant, agent_id), before=None
    )
    assert AGENTS.open(PageRequest(last=4, before=cursor)) == Bounds(
        limit=4, backward=True, after=None, before=(instant, agent_id)
    )


@given(slug=st.from_regex(r"\A[a-z][a-z0-9]{0,22}[a-z0-9]\Z"))
@settings(deadline=None)
def test_a_cursor_of_a_slug_opens_to_it(slug: str) -> None:
    cursor = TENANTS.cursor(tenant_of(slug))
    assert TENANTS.open(PageRequest(after=cursor)).after == (slug,)


@given(instant=instants, agent_id=st.uuids())
@settings(deadline=None)
def test_a_cursor_is_plain_text_that_needs_no_escaping(instant: datetime, agent_id: UUID) -> None:
    cursor = AGENTS.cursor(agent_at(instant, agent_id))
    assert cursor.isascii()
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert "acme" not in cursor


@given(data=st.data(), instant=instants, agent_id=st.uuids())
@settings(deadline=None)
def test_a_cursor_with_any_character_changed_is_refused(
    data: st.DataObject, instant: datetime, agent_id: UUID
) -> None:
    cursor = AGENTS.cursor(agent_at(instant, agent_id))
    place = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters())
    assume(other != cursor[place])
    refuse(AGENTS, cursor[:place] + other + cursor[place + 1 :])


@given(data=st.data(), instant=instants, agent_id=st.uuids())
@settings(deadline=None)
def test_a_cursor_with_any_bit_changed_is_refused(
    data: st.DataObject, instant: datetime, agent_id: UUID
) -> None:
    cursor = AGENTS.cursor(agent_at(instant, agent_id))
    packed = bytearray(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    place = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[place // 8] ^= 1 << place % 8
    refuse(AGENTS, urlsafe_b64encode(packed).rstrip(b"=").decode())


@given(data=st.data(), instant=instants, agent_id=st.uuids(), extra=st.text(min_size=1))
@settings(deadline=None)
def test_a_cursor_that_is_cut_or_lengthened_is_refused(
    data: st.DataObject, instant: datetime, agent_id: UUID, extra: str
) -> None:
    cursor = AGENTS.cursor(agent_at(instant, agent_id))
    refuse(AGENTS, cursor[: data.draw(st.integers(0, len(cursor) - 1))])
    place = data.draw(st.integers(0, len(cursor)))
    refuse(AGENTS, cursor[:place] + extra + cursor[place:])


@given(text=st.text())
@settings(deadline=None)
def test_no_text_at_random_is_a_cursor(text: str) -> None:
    refuse(AGENTS, text)
    refuse(TENANTS, text)


@given(body=st.binary(max_size=64))
@settings(deadline=None)
def test_no_position_at_random_is_one(body: bytes) -> None:
    refuse(AGENTS, forged(AGENTS, body))


def test_a_very_long_text_is_refused_before_it_is_decoded() -> None:
    refuse(AGENTS, "A" * 10_000_000)


def test_a_forged_cursor_of_a_good_position_is_only_a_cursor() -> None:
    # What makes the next test mean something: the forgery itself is right.
    agent = agent_at(AT, UUID(int=7))
    assert forged(AGENTS, (AT, UUID(int=7))) == AGENTS.cursor(agent)
    assert forged(TENANTS, ("acme",)) == TENANTS.cursor(tenant_of("acme"))


@pytest.mark.parametrize(
    "position",
    [
        (AT.replace(tzinfo=None), UUID(int=7)),
        (AT.isoformat(), str(UUID(int=7))),
        (AT.timestamp(), UUID(int=7)),
        (AT, UUID(int=7).bytes),
        (AT, UUID(int=7).hex),
        (AT, str(UUID(int=0xABCDEF)).upper()),
        (AT, "x"),
        (AT, None),
        (AT,),
        (AT, UUID(int=7), 1),
        [],
        None,
        {"created_at": AT, "agent_id": UUID(int=7)},
        b"",
        b"\xc1",
        msgspec.msgpack.encode((AT, UUID(int=7))) + b"\x00",
        msgspec.msgpack.encode((msgspec.msgpack.Ext(-1, b"\xff" * 12), UUID(int=7))),
        msgspec.msgpack.encode((msgspec.msgpack.Ext(9, b"x"), UUID(int=7))),
    ],
)
def test_a_forged_position_that_no_row_can_have_is_refused(position: object) -> None:
    refuse(AGENTS, forged(AGENTS, position))


@pytest.mark.parametrize(
    "slug", ["", "a", "acme\x00", "acme\n", "\x00", "Acme", "a" * 25, "é", "acme'--", 7, None]
)
def test_a_forged_slug_that_no_tenant_can_have_is_refused(slug: object) -> None:
    refuse(TENANTS, forged(TENANTS, (slug,)))


FILTERS: Sequence[AgentFilter] = [
    AgentFilter(),
    AgentFilter(status=()),
    AgentFilter(status=(AgentStatus.ACTIVE,)),
    AgentFilter(agent_type=()),
    AgentFilter(owner=()),
    AgentFilter(owner=("a",)),
    AgentFilter(owner=("a", "b")),
    AgentFilter(created_at=Span(gte=AT)),
    AgentFilter(created_at=Span(lt=AT)),
    AgentFilter(created_at=Span(gte=AT + timedelta(microseconds=1))),
]


def test_a_cursor_is_of_one_tenant_one_order_and_one_filter() -> None:
    agent = agent_at(AT, UUID(int=7))
    keysets = [
        lists.agents(TenantPrefix(tenant), filter, order)
        for tenant in ("acme", "acme_2", "globex")
        for filter in FILTERS
        for order in AgentOrder
    ]
    cursors = [keyset.cursor(agent) for keyset in keysets]
    assert len(set(cursors)) == len(keysets)
    for keyset, own in zip(keysets, cursors, strict=True):
        for cursor in cursors:
            if cursor == own:
                assert keyset.open(PageRequest(after=cursor)).after == (AT, UUID(int=7))
            else:
                refuse(keyset, cursor)


def test_a_cursor_of_one_list_is_none_of_another() -> None:
    event_id = UUID(int=7)
    audit = lists.audit_events(ACME, AuditEventFilter())
    operators = lists.operator_events()
    (cursor,) = audit.page(
        Bounds(limit=1, backward=False, after=None, before=None),
        [partial(AuditEvent, ("event_id",), (event_id,))],
    ).cursors
    assert audit.open(PageRequest(after=cursor)).after == (event_id,)
    with pytest.raises(InvalidCursor):
        operators.open(PageRequest(after=cursor))


def test_one_instant_is_one_filter_whatever_its_offset() -> None:
    agent = agent_at(AT, UUID(int=7))
    east = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    here, there = (
        lists.agents(ACME, AgentFilter(created_at=Span(gte=each)), AgentOrder.CREATED_AT_ASC)
        for each in (AT, east)
    )
    assert here.cursor(agent) == there.cursor(agent)


@pytest.mark.parametrize("instant", [AT.replace(tzinfo=None), datetime.max.replace(tzinfo=WEST)])
def test_a_span_of_instants_that_utc_does_not_have_is_refused(instant: datetime) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Span(gte=instant)
    assert refusal.value.path == ("gte",)
    with pytest.raises(InvalidInput) as refusal:
        Span(lt=instant)
    assert refusal.value.path == ("lt",)


@pytest.mark.parametrize("size", [1, 2, 20, 99, 100])
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_page_has_one_to_a_hundred_rows(end: str, size: int) -> None:
    request = PageRequest(first=size) if end == "first" else PageRequest(last=size)
    assert request.limit == size
    assert request.backward is (end == "last")


@pytest.mark.parametrize("size", [-1, 0, 101, 2**31, 2**63])
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_page_of_any_other_size_is_refused(end: str, size: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        PageRequest(first=size) if end == "first" else PageRequest(last=size)
    assert refusal.value.path == (end,)


def test_a_page_is_asked_for_from_one_end() -> None:
    with pytest.raises(InvalidInput) as refusal:
        PageRequest(first=1, last=1)
    assert refusal.value.path == ("last",)
    assert PageRequest().limit == 20
    assert not PageRequest().backward


@given(
    count=st.integers(0, 7),
    limit=st.integers(1, 6),
    backward=st.booleans(),
    after=st.booleans(),
    before=st.booleans(),
)
@settings(deadline=None)
def test_a_page_is_cut_from_one_row_more_than_it_holds(
    count: int, limit: int, backward: bool, after: bool, before: bool
) -> None:
    count = min(count, limit + 1)
    rows = [agent_at(AT, UUID(int=place)) for place in range(count)]
    end = (AT, UUID(int=99))
    bounds = Bounds(limit, backward, end if after else None, end if before else None)
    read = rows[::-1] if backward else rows
    kept = rows[-limit:] if backward else rows[:limit]
    assert AGENTS.page(bounds, read) == Page(
        items=tuple(kept),
        cursors=tuple(AGENTS.cursor(row) for row in kept),
        has_next_page=before if backward else count > limit,
        has_previous_page=count > limit if backward else after,
    )
