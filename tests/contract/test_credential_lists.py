"""Lists of credentials: newest first, of one client or of many at once."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from db.contract import Storage
from db.errors import InvalidCursor
from db.filters import CredentialFilter
from db.pages import Page, PageRequest
from db.records import Credential, CredentialStatus
from tests.contract.cast import (
    ACME,
    GLOBEX,
    after,
    new_agent,
    new_credential,
    put,
)
from tests.contract.paging import (
    EVERYTHING,
    Fetch,
    assert_pages,
    assert_refuses,
    assert_walks,
)

ACTIVE, REVOKED = CredentialStatus.ACTIVE, CredentialStatus.REVOKED


def listing(storage: Storage, filter: CredentialFilter = CredentialFilter()) -> Fetch[Credential]:
    return lambda request: storage.read(ACME).credentials.page(request, filter)


async def _fleet(storage: Storage, agents: int = 3, each: int = 5) -> dict[UUID, list[Credential]]:
    """Clients with credentials, newest first, with ties and both statuses."""
    fleet: dict[UUID, list[Credential]] = {}
    for _ in range(agents):
        agent = new_agent()
        rows = [
            new_credential(
                agent.agent_id,
                created_at=after(place // 2),
                status=REVOKED if place % 3 == 0 else ACTIVE,
                label=f"{place}",
            )
            for place in range(each)
        ]
        await put(storage, ACME, agent, *rows)
        fleet[agent.agent_id] = newest_first(rows)
    return fleet


def newest_first(rows: list[Credential]) -> list[Credential]:
    return sorted(rows, key=lambda row: (row.created_at, row.credential_id), reverse=True)


async def test_pages_are_newest_first_then_by_id_descending(storage: Storage) -> None:
    fleet = await _fleet(storage)
    rows = newest_first([row for each in fleet.values() for row in each])
    await assert_walks(listing(storage), rows)
    client_id, its = next(iter(fleet.items()))
    await assert_pages(listing(storage, CredentialFilter(client_id=client_id)), its)
    for status in ((), (ACTIVE,), (REVOKED,), (ACTIVE, REVOKED)):
        filter = CredentialFilter(status=status)
        matching = [row for row in rows if filter.matches(row)]
        await assert_walks(listing(storage, filter), matching, size=2)
        assert await storage.read(ACME).credentials.count(filter) == len(matching)
        filter = CredentialFilter(client_id=client_id, status=status)
        matching = [row for row in its if filter.matches(row)]
        await assert_walks(listing(storage, filter), matching, size=2)
        assert await storage.read(ACME).credentials.count(filter) == len(matching)


async def test_a_count_stops_behind_its_cap(storage: Storage) -> None:
    fleet = await _fleet(storage, agents=2, each=4)
    credentials = storage.read(ACME).credentials
    assert await credentials.count() == 8
    assert [await credentials.count(cap=cap) for cap in (0, 6, 7, 8)] == [1, 7, 8, 8]
    of_one = CredentialFilter(client_id=next(iter(fleet)))
    assert [await credentials.count(of_one, cap=cap) for cap in (0, 2, 3, 4, 5)] == [1, 3, 4, 4, 4]
    assert await credentials.count(CredentialFilter(client_id=uuid4())) == 0


async def test_pages_of_many_clients_are_the_page_of_each(storage: Storage) -> None:
    fleet = await _fleet(storage)
    credentials = storage.read(ACME).credentials
    stranger = uuid4()
    asked = [*fleet, stranger, next(iter(fleet))]
    for request in (PageRequest(), PageRequest(first=2), PageRequest(last=2), EVERYTHING):
        for filter in (CredentialFilter(), CredentialFilter(status=(ACTIVE,))):
            pages = await credentials.pages(asked, request, filter)
            assert pages == {
                client_id: await credentials.page(request, replace(filter, client_id=client_id))
                for client_id in asked
            }
            assert pages[stranger] == Page()
    assert await credentials.pages([], EVERYTHING) == {}
    everything = await credentials.pages(list(fleet), EVERYTHING)
    assert {client_id: list(page.items) for client_id, page in everything.items()} == fleet


async def test_a_batch_asks_for_its_own_clients_whatever_the_filter_names(
    storage: Storage,
) -> None:
    fleet = await _fleet(storage, agents=2, each=2)
    one, other = fleet
    credentials = storage.read(ACME).credentials
    pages = await credentials.pages([one], EVERYTHING, CredentialFilter(client_id=other))
    assert pages == {one: await credentials.page(EVERYTHING, CredentialFilter(client_id=one))}


async def test_a_batch_of_one_can_be_continued_and_others_refuse_its_cursor(
    storage: Storage,
) -> None:
    fleet = await _fleet(storage, agents=2, each=4)
    one, other = fleet
    credentials = storage.read(ACME).credentials
    cursor = (await credentials.pages([one], EVERYTHING))[one].cursors[1]
    pages = await credentials.pages([one], PageRequest(first=1, after=cursor))
    assert list(pages[one].items) == fleet[one][2:3]
    assert pages[one].has_next_page
    assert pages[one].has_previous_page
    for clients in ([other], [one, other]):
        with pytest.raises(InvalidCursor):
            await credentials.pages(clients, PageRequest(after=cursor))
        with pytest.raises(InvalidCursor):
            await credentials.pages(clients, PageRequest(before=cursor))


async def test_a_cursor_means_nothing_elsewhere(storage: Storage) -> None:
    fleet = await _fleet(storage, agents=1, each=2)
    client_id, rows = next(iter(fleet.items()))
    await put(storage, GLOBEX, new_agent(agent_id=client_id), *rows)
    elsewhere = [
        storage.read(GLOBEX).credentials.page(EVERYTHING),
        storage.read(ACME).credentials.page(EVERYTHING, CredentialFilter(client_id=client_id)),
        storage.read(ACME).credentials.page(EVERYTHING, CredentialFilter(status=(ACTIVE,))),
    ]
    foreign = [(await page).cursors[0] for page in elsewhere]
    agents = await storage.read(ACME).agents.page(EVERYTHING)
    await assert_refuses(listing(storage), [*foreign, agents.cursors[0]])
    await assert_pages(listing(storage), rows)


async def test_a_reader_told_what_is_wanted_fetches_that(storage: Storage) -> None:
    fleet = await _fleet(storage, agents=1, each=1)
    client_id, (row,) = next(iter(fleet.items()))
    credentials = storage.read(ACME).credentials
    single = await credentials.page(EVERYTHING, wanted={"label", "status"})
    batch = await credentials.pages([client_id], EVERYTHING, wanted=("label", "status"))
    for read in (single.items[0], batch[client_id].items[0]):
        assert (read.credential_id, read.created_at) == (row.credential_id, row.created_at)
        assert (read.label, read.status) == (row.label, row.status)
        for absent in ("secret_hash", "expires_at", "revoked_at", "last_used_at"):
            with pytest.raises(AttributeError):
                getattr(read, absent)
    assert single.cursors == (await credentials.page(EVERYTHING)).cursors
    bare = (await credentials.pages([client_id], EVERYTHING, wanted=()))[client_id]
    assert [each.client_id for each in bare.items] == [client_id]
