"""Lists of agents: their order, their filters, and how much of a row they fetch."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from db.contract import Storage
from db.filters import AgentFilter, AgentOrder, Span
from db.pages import PageRequest
from db.records import Agent, AgentStatus, AgentType
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    SECOND,
    after,
    new_agent,
    put,
    whole_agent,
)
from tests.contract.paging import (
    EVERYTHING,
    Fetch,
    assert_pages,
    assert_refuses,
    assert_walks,
    items,
)

ASCENDING = AgentOrder.CREATED_AT_ASC


DESCENDING = AgentOrder.CREATED_AT_DESC


def listing(
    storage: Storage,
    filter: AgentFilter = AgentFilter(),
    order: AgentOrder = DESCENDING,
) -> Fetch[Agent]:
    return lambda request: storage.read(ACME).agents.page(request, filter, order)


def _with_ties() -> list[Agent]:
    """In ascending order: three instants, two of them shared, ids against the order of adding."""
    low, middle, high = (
        UUID(int=1),
        UUID("7fffffff-ffff-4fff-bfff-ffffffffffff"),
        UUID(int=-1 % 2**128),
    )
    return [
        new_agent(agent_id=high, created_at=NOW - MICROSECOND),
        new_agent(agent_id=low, created_at=NOW),
        new_agent(agent_id=middle, created_at=NOW),
        new_agent(agent_id=UUID(int=2), created_at=after(1)),
        new_agent(agent_id=UUID("80000000-0000-4000-8000-000000000000"), created_at=after(1)),
    ]


async def test_pages_are_in_order_of_creation_then_of_id_in_the_same_direction(
    storage: Storage,
) -> None:
    rows = _with_ties()
    await put(storage, ACME, *(rows[place] for place in (3, 0, 4, 2, 1)))
    await assert_pages(listing(storage, order=ASCENDING), rows)
    await assert_pages(listing(storage, order=DESCENDING), rows[::-1])


async def test_newest_first_unless_asked_otherwise(storage: Storage) -> None:
    rows = _with_ties()
    await put(storage, ACME, *rows)
    assert await items(storage.read(ACME).agents.page) == rows[::-1]


async def test_cursors_lead_through_a_whole_list_both_ways(storage: Storage) -> None:
    rows = [new_agent(created_at=NOW + place // 4 * SECOND) for place in range(23)]
    await put(storage, ACME, *rows)
    rows.sort(key=lambda agent: (agent.created_at, agent.agent_id))
    await assert_walks(listing(storage, order=ASCENDING), rows)
    await assert_walks(listing(storage, order=DESCENDING), rows[::-1])
    page = await storage.read(ACME).agents.page(PageRequest())
    assert list(page.items) == rows[:2:-1], "twenty unless asked otherwise"
    assert page.has_next_page


async def test_an_empty_list_has_an_empty_page(storage: Storage) -> None:
    await assert_pages(listing(storage), [])


async def test_a_cursor_keeps_its_place_when_its_row_leaves_the_list(storage: Storage) -> None:
    rows = [new_agent(created_at=after(place)) for place in range(3)]
    await put(storage, ACME, *rows)
    fetch = listing(storage, AgentFilter(status=(AgentStatus.ACTIVE,)), ASCENDING)
    middle = (await fetch(EVERYTHING)).cursors[1]
    async with storage.unit(ACME) as unit:
        await unit.agents.save(replace(rows[1], status=AgentStatus.SUSPENDED))
    assert list((await fetch(PageRequest(after=middle))).items) == rows[2:]
    assert list((await fetch(PageRequest(last=9, before=middle))).items) == rows[:1]


async def test_a_row_added_behind_a_cursor_is_met_and_one_before_it_is_not(
    storage: Storage,
) -> None:
    rows = [new_agent(created_at=after(place)) for place in range(5)]
    await put(storage, ACME, rows[1], rows[3])
    fetch = listing(storage, order=ASCENDING)
    first = await fetch(PageRequest(first=1))
    await put(storage, ACME, rows[0], rows[2], rows[4])
    rest = await fetch(PageRequest(first=9, after=first.cursors[0]))
    assert list(rest.items) == rows[2:]


async def test_a_cursor_means_nothing_elsewhere(storage: Storage) -> None:
    rows = [new_agent(created_at=after(place)) for place in range(2)]
    await put(storage, ACME, *rows)
    await put(storage, GLOBEX, *rows)
    everything = AgentFilter()
    elsewhere = [
        storage.read(GLOBEX).agents.page(EVERYTHING),
        storage.read(ACME).agents.page(EVERYTHING, everything, ASCENDING),
        storage.read(ACME).agents.page(EVERYTHING, AgentFilter(status=(AgentStatus.ACTIVE,))),
        storage.read(ACME).agents.page(EVERYTHING, AgentFilter(owner=("talent",))),
        storage.read(ACME).agents.page(EVERYTHING, AgentFilter(agent_type=tuple(AgentType))),
        storage.read(ACME).agents.page(EVERYTHING, AgentFilter(created_at=Span(gte=NOW))),
        storage.read(ACME).agents.page(EVERYTHING, AgentFilter(created_at=Span(lt=after(9)))),
    ]
    foreign = [(await page).cursors[0] for page in elsewhere]
    tenants = await storage.registry.tenants.page(EVERYTHING)
    await assert_refuses(listing(storage), [*foreign, tenants.cursors[0]])
    await assert_pages(listing(storage), rows[::-1])


FILTERS = [
    AgentFilter(),
    AgentFilter(status=(AgentStatus.ACTIVE,)),
    AgentFilter(status=(AgentStatus.SUSPENDED, AgentStatus.DECOMMISSIONED)),
    AgentFilter(status=tuple(AgentStatus)),
    AgentFilter(status=()),
    AgentFilter(agent_type=(AgentType.ROUTER,)),
    AgentFilter(agent_type=()),
    AgentFilter(owner=("talent", "finance")),
    AgentFilter(owner=("Talent",)),
    AgentFilter(owner=("%",)),
    AgentFilter(owner=('"{t}',)),
    AgentFilter(owner=()),
    AgentFilter(created_at=Span(gte=after(2))),
    AgentFilter(created_at=Span(lt=after(2))),
    AgentFilter(created_at=Span(gte=after(1), lt=after(3))),
    AgentFilter(created_at=Span(gte=after(3), lt=after(1))),
    AgentFilter(created_at=Span(gte=after(2), lt=after(2))),
    AgentFilter(
        status=(AgentStatus.ACTIVE,), owner=("talent",), created_at=Span(gte=after(1), lt=after(5))
    ),
]


@pytest.mark.parametrize("filter", FILTERS)
async def test_a_filter_leaves_what_matches_and_nothing_else(
    storage: Storage, filter: AgentFilter
) -> None:
    kinds = [AgentType.ROUTER, AgentType.SCREENER]
    owners = ["talent", "finance", '"{t}', "TALENT"]
    rows = [
        new_agent(
            created_at=after(place),
            status=list(AgentStatus)[place % 3],
            agent_type=kinds[place % 2],
            owner=owners[place % 4],
        )
        for place in range(12)
    ]
    await put(storage, ACME, *rows)
    matching = [row for row in rows if filter.matches(row)]
    await assert_walks(listing(storage, filter, ASCENDING), matching, size=2)
    await assert_walks(listing(storage, filter, DESCENDING), matching[::-1], size=2)
    assert await storage.read(ACME).agents.count(filter) == len(matching)


async def test_a_span_holds_its_first_microsecond_and_not_its_last(storage: Storage) -> None:
    rows = [new_agent(created_at=NOW + offset * MICROSECOND) for offset in (-1, 0, 1, 2)]
    await put(storage, ACME, *rows)

    async def within(**span: object) -> list[Agent]:
        filter = AgentFilter(created_at=Span(**span))  # type: ignore[arg-type]  # gte and lt
        return await items(listing(storage, filter, ASCENDING))

    assert await within(gte=NOW) == rows[1:]
    assert await within(lt=NOW) == rows[:1]
    assert await within(gte=NOW, lt=NOW + MICROSECOND) == rows[1:2]
    assert await within(gte=NOW, lt=NOW + 2 * MICROSECOND) == rows[1:3]


async def test_a_count_stops_behind_its_cap(storage: Storage) -> None:
    await put(storage, ACME, *(new_agent(owner="a" if n < 4 else "b") for n in range(7)))
    agents = storage.read(ACME).agents
    assert await agents.count() == 7
    assert [await agents.count(cap=cap) for cap in (0, 5, 6, 7, 8)] == [1, 6, 7, 7, 7]
    of_a = AgentFilter(owner=("a",))
    assert [await agents.count(of_a, cap=cap) for cap in (0, 2, 3, 4, 5)] == [1, 3, 4, 4, 4]
    assert await agents.count(AgentFilter(owner=()), cap=0) == 0


async def test_a_reader_told_what_is_wanted_fetches_that(storage: Storage) -> None:
    agent = whole_agent()
    await put(storage, ACME, agent)
    agents = storage.read(ACME).agents
    page = await agents.page(EVERYTHING, wanted={"email", "metadata", "status"})
    many = await agents.get_many([agent.agent_id], wanted=("email", "metadata", "status"))
    for read in (page.items[0], many[agent.agent_id]):
        assert read.agent_id == agent.agent_id
        assert (read.email, read.metadata) == (agent.email, agent.metadata)
        assert read.status is AgentStatus.ACTIVE
        for absent in ("name", "owner", "capabilities", "permissions", "updated_at"):
            with pytest.raises(AttributeError):
                getattr(read, absent)
    assert page.items[0].created_at == agent.created_at
    assert page.cursors == (await agents.page(EVERYTHING)).cursors


async def test_a_reader_told_that_nothing_is_wanted_still_finds_its_place(
    storage: Storage,
) -> None:
    rows = [new_agent(created_at=after(place)) for place in range(5)]
    await put(storage, ACME, *rows)
    agents = storage.read(ACME).agents
    page = await agents.page(PageRequest(first=2), wanted=())
    page = await agents.page(PageRequest(first=2, after=page.cursors[-1]), wanted=())
    assert [agent.agent_id for agent in page.items] == [rows[2].agent_id, rows[1].agent_id]
    many = await agents.get_many([rows[0].agent_id], wanted=())
    assert many[rows[0].agent_id].agent_id == rows[0].agent_id


async def test_a_reader_told_to_fetch_what_there_is_not_refuses(storage: Storage) -> None:
    reader = storage.read(ACME)
    wanted = {"email", "secret"}
    for read in (
        lambda: reader.agents.page(EVERYTHING, wanted=wanted),
        lambda: reader.agents.get_many([uuid4()], wanted=wanted),
        lambda: reader.credentials.page(EVERYTHING, wanted=wanted),
        lambda: reader.credentials.pages([uuid4()], EVERYTHING, wanted=wanted),
        lambda: reader.audit.page(EVERYTHING, NOW, wanted=wanted),
        lambda: reader.audit.pages([uuid4()], EVERYTHING, NOW, wanted=wanted),
    ):
        with pytest.raises(AttributeError):
            await read()
