"""Agents: what is written reads back, an address is given once, and lists keep their order."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from db.contract import Storage
from db.errors import EmailTaken, IdTaken, NotFound
from db.filters import AgentFilter, AgentOrder, Span
from db.pages import PageRequest
from db.records import Agent, AgentStatus, AgentType, DeploymentEnv
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
    SECOND,
    after,
    new_agent,
    put,
    put_and_interrupt,
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


@pytest.mark.parametrize("agent", [new_agent(), whole_agent()], ids=["bare", "whole"])
async def test_an_added_agent_reads_back_as_it_was_written(storage: Storage, agent: Agent) -> None:
    await put(storage, ACME, agent)
    agents = storage.read(ACME).agents
    assert await agents.get(agent.agent_id) == agent
    assert await agents.by_email(agent.email) == agent
    assert await agents.get_many([agent.agent_id]) == {agent.agent_id: agent}
    assert await items(agents.page) == [agent]
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(agent.agent_id) == agent


@pytest.mark.parametrize(
    "value", [{}, [], 0, False, "", 0.0, "null", [None], {"": None}, 2**53 - 1, -1.5e-300]
)
async def test_a_json_value_is_not_taken_for_an_absent_one(storage: Storage, value: object) -> None:
    agent = new_agent(permissions=value, metadata=value)
    await put(storage, ACME, agent)
    read = await storage.read(ACME).agents.get(agent.agent_id)
    assert read is not None
    for kept in (read.permissions, read.metadata):
        assert kept == value
        assert type(kept) is type(value)


async def test_every_word_of_the_vocabularies_can_be_kept(storage: Storage) -> None:
    agents = [new_agent(agent_type=each) for each in AgentType]
    agents += [new_agent(deployment_env=each) for each in DeploymentEnv]
    agents += [new_agent(status=each) for each in AgentStatus]
    await put(storage, ACME, *agents)
    read = await storage.read(ACME).agents.get_many([agent.agent_id for agent in agents])
    assert read == {agent.agent_id: agent for agent in agents}


async def test_an_unknown_agent_is_none(storage: Storage) -> None:
    await put(storage, ACME, new_agent())
    agents = storage.read(ACME).agents
    assert await agents.get(uuid4()) is None
    assert await agents.by_email("nobody@agents.example") is None
    async with storage.unit(ACME) as unit:
        assert await unit.agents.get(uuid4()) is None


async def test_many_agents_are_those_that_exist(storage: Storage) -> None:
    first, second = new_agent(), new_agent()
    await put(storage, ACME, first, second)
    agents = storage.read(ACME).agents
    ids = [second.agent_id, uuid4(), first.agent_id, second.agent_id]
    assert await agents.get_many(ids) == {first.agent_id: first, second.agent_id: second}
    assert await agents.get_many([uuid4()]) == {}
    assert await agents.get_many([]) == {}


async def test_an_address_is_compared_byte_by_byte(storage: Storage) -> None:
    upper = new_agent(email="Ann+1@agents.example")
    lower = new_agent(email="ann+1@agents.example")
    await put(storage, ACME, upper, lower)
    agents = storage.read(ACME).agents
    assert await agents.by_email(upper.email) == upper
    assert await agents.by_email(lower.email) == lower
    assert await agents.by_email("ANN+1@agents.example") is None
    assert await agents.by_email("ann%@agents.example") is None


@pytest.mark.parametrize("status", list(AgentStatus))
async def test_an_address_belongs_to_its_first_agent_whatever_its_status(
    storage: Storage, status: AgentStatus
) -> None:
    first = new_agent(status=status)
    await put(storage, ACME, first)
    with pytest.raises(EmailTaken) as refusal:
        await put(storage, ACME, new_agent(email=first.email))
    assert (refusal.value.code, refusal.value.path) == ("EMAIL_TAKEN", ("email",))
    assert await items(storage.read(ACME).agents.page) == [first]


async def test_an_address_can_be_taken_once_in_a_unit(storage: Storage) -> None:
    first = new_agent()
    with pytest.raises(EmailTaken):
        await put(storage, ACME, first, new_agent(email=first.email))
    assert await items(storage.read(ACME).agents.page) == []


async def test_an_address_can_be_taken_once_in_each_tenant(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    await put(storage, GLOBEX, agent)
    assert await storage.read(GLOBEX).agents.by_email(agent.email) == agent


async def test_an_address_whose_agent_was_not_committed_is_free(storage: Storage) -> None:
    agent = new_agent()
    await put_and_interrupt(storage, ACME, agent)
    second = new_agent(email=agent.email)
    await put(storage, ACME, second)
    assert await storage.read(ACME).agents.by_email(agent.email) == second


@pytest.mark.parametrize("same_address", [True, False])
async def test_an_id_is_never_added_twice(storage: Storage, same_address: bool) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    second = new_agent(agent_id=first.agent_id, owner="someone else")
    if not same_address:
        second = replace(second, email="other@agents.example")
    with pytest.raises(IdTaken):
        await put(storage, ACME, second)
    assert await items(storage.read(ACME).agents.page) == [first]
    assert await storage.read(ACME).agents.by_email("other@agents.example") is None


async def test_saving_replaces_every_field_but_the_three_that_never_change(
    storage: Storage,
) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    changed = whole_agent(
        agent_id=first.agent_id,
        email="moved@agents.example",
        created_at=after(60),
        updated_at=after(120),
        agent_type=AgentType.CUSTOM,
        version="2.0.0",
        capabilities=("b:c",),
        owner="finance",
        deployment_env=DeploymentEnv.STAGING,
        status=AgentStatus.SUSPENDED,
    )
    async with storage.unit(ACME) as unit:
        await unit.agents.save(changed)
    agents = storage.read(ACME).agents
    expected = replace(changed, email=first.email, created_at=first.created_at)
    assert await agents.get(first.agent_id) == expected
    assert await agents.by_email(first.email) == expected
    assert await agents.by_email("moved@agents.example") is None
    assert await items(agents.page) == [expected]


async def test_saving_can_empty_what_may_be_empty(storage: Storage) -> None:
    first = whole_agent()
    await put(storage, ACME, first)
    bare = replace(
        new_agent(agent_id=first.agent_id), email=first.email, created_at=first.created_at
    )
    async with storage.unit(ACME) as unit:
        await unit.agents.save(bare)
    assert await storage.read(ACME).agents.get(first.agent_id) == bare


async def test_saving_an_unknown_agent_is_refused(storage: Storage) -> None:
    known = new_agent()
    await put(storage, ACME, known)
    with pytest.raises(NotFound) as refusal:
        async with storage.unit(ACME) as unit:
            await unit.agents.save(new_agent(email=known.email))
    assert refusal.value.code == "NOT_FOUND"
    assert await items(storage.read(ACME).agents.page) == [known]


async def test_an_address_is_not_freed_by_saving_another(storage: Storage) -> None:
    first = new_agent()
    await put(storage, ACME, first)
    async with storage.unit(ACME) as unit:
        await unit.agents.save(replace(first, email="moved@agents.example"))
    await put(storage, ACME, new_agent(email="moved@agents.example"))
    with pytest.raises(EmailTaken):
        await put(storage, ACME, new_agent(email=first.email))


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


async def test_what_is_read_or_was_written_cannot_rewrite_an_agent(storage: Storage) -> None:
    original = new_agent(metadata={"list": [1]}, permissions=[{"a": 1}])
    written = replace(original, metadata={"list": [1]}, permissions=[{"a": 1}])
    await put(storage, ACME, written)
    reader = storage.read(ACME).agents
    async with storage.unit(ACME) as unit:
        reads = [
            written,
            await reader.get(original.agent_id),
            await reader.by_email(original.email),
            (await reader.get_many([original.agent_id]))[original.agent_id],
            (await reader.page(EVERYTHING)).items[0],
            (await reader.page(EVERYTHING, wanted=("metadata", "permissions"))).items[0],
            await unit.agents.get(original.agent_id),
        ]
        for read in reads:
            assert read is not None
            assert isinstance(read.metadata, dict)
            assert isinstance(read.permissions, list)
            read.metadata.clear()
            read.permissions.append("everything")
    assert await reader.get(original.agent_id) == original
