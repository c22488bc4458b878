"""Lists of credentials by their successor and their last use: which old ones are still in use."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import product
from uuid import UUID, uuid4

import pytest

from db.contract import Storage
from db.errors import InvalidInput
from db.filters import CredentialFilter, Span
from db.pages import PageRequest
from db.records import Credential, CredentialStatus
from tests.contract.cast import (
    ACME,
    GLOBEX,
    MICROSECOND,
    NOW,
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
    items,
)

ACTIVE, REVOKED = CredentialStatus.ACTIVE, CredentialStatus.REVOKED
SPANS = (
    Span(),
    Span(gte=NOW),
    Span(lt=NOW),
    Span(gte=NOW, lt=NOW + MICROSECOND),
    Span(gte=after(-1), lt=after(1)),
    Span(gte=after(1), lt=after(-1)),
)


def listing(storage: Storage, filter: CredentialFilter) -> Fetch[Credential]:
    return lambda request: storage.read(ACME).credentials.page(request, filter)


@pytest.fixture
async def fleet(storage: Storage) -> list[Credential]:
    """One of each kind for two clients, newest first, with ties."""
    agents = [new_agent(), new_agent()]
    uses: tuple[datetime | None, ...] = (None, after(-1), NOW, NOW + MICROSECOND, after(1))
    rows = [
        new_credential(
            agents[place % 2].agent_id,
            created_at=after(place // 3),
            status=status,
            replaced_by=successor,
            last_used_at=used,
        )
        for place, (status, successor, used) in enumerate(
            product((ACTIVE, REVOKED), (None, uuid4()), uses)
        )
    ]
    await put(storage, ACME, *agents, *rows)
    elsewhere = replace(agents[0], owner="globex")
    await put(storage, GLOBEX, elsewhere, replace(rows[5], client_id=elsewhere.agent_id))
    return sorted(rows, key=lambda row: (row.created_at, row.credential_id), reverse=True)


def clients(fleet: list[Credential]) -> list[UUID]:
    return list(dict.fromkeys(each.client_id for each in fleet))


@pytest.mark.parametrize("replaced", [None, True, False])
async def test_a_list_holds_exactly_what_its_filter_matches(
    storage: Storage, fleet: list[Credential], replaced: bool | None
) -> None:
    seen = set[int]()
    for client_id, status, span in product([None, clients(fleet)[0]], [None, (ACTIVE,)], SPANS):
        filter = CredentialFilter(client_id, status, replaced, span)
        matching = [row for row in fleet if filter.matches(row)]
        seen.add(len(matching))
        await assert_walks(listing(storage, filter), matching, size=2)
        assert await storage.read(ACME).credentials.count(filter) == len(matching)
        assert await storage.read(ACME).credentials.count(filter, cap=1) == min(len(matching), 2)
    assert {0, 1, 2} < seen


async def test_which_old_ones_are_still_in_use_is_one_question(
    storage: Storage, fleet: list[Credential]
) -> None:
    filter = CredentialFilter(
        status=(ACTIVE,), replaced=True, last_used_at=Span(gte=NOW - MICROSECOND)
    )
    in_use = [
        row
        for row in fleet
        if row.status is ACTIVE
        and row.replaced_by is not None
        and row.last_used_at is not None
        and row.last_used_at >= NOW
    ]
    assert len(in_use) == 3
    await assert_pages(listing(storage, filter), in_use)
    async with storage.unit(ACME) as unit:
        await unit.credentials.used({fleet[-1].credential_id: after(9)})
        # Only one that has a successor joins them by being used.
        assert fleet[-1].replaced_by is None
    await assert_pages(listing(storage, filter), in_use)


async def test_one_that_was_never_used_is_in_no_span(
    storage: Storage, fleet: list[Credential]
) -> None:
    first, last = datetime.min.replace(tzinfo=NOW.tzinfo), datetime.max.replace(tzinfo=NOW.tzinfo)
    for span in (Span(gte=first), Span(lt=last), Span(first, last)):
        found = await items(listing(storage, CredentialFilter(last_used_at=span)))
        assert found == [row for row in fleet if row.last_used_at is not None]
    assert await items(listing(storage, CredentialFilter(last_used_at=Span()))) == fleet


async def test_many_clients_pages_are_filtered_too(
    storage: Storage, fleet: list[Credential]
) -> None:
    credentials = storage.read(ACME).credentials
    for replaced, span in product([None, True, False], SPANS):
        filter = CredentialFilter(replaced=replaced, last_used_at=span)
        for request in (EVERYTHING, PageRequest(first=1), PageRequest(last=2)):
            assert await credentials.pages(clients(fleet), request, filter) == {
                client_id: await credentials.page(request, replace(filter, client_id=client_id))
                for client_id in clients(fleet)
            }


async def test_a_cursor_of_one_filter_means_nothing_under_another(
    storage: Storage, fleet: list[Credential]
) -> None:
    filters = [
        CredentialFilter(),
        CredentialFilter(replaced=True),
        CredentialFilter(replaced=False),
        CredentialFilter(last_used_at=Span(gte=NOW)),
        CredentialFilter(last_used_at=Span(lt=NOW)),
        CredentialFilter(replaced=True, last_used_at=Span(gte=NOW)),
    ]
    cursors = [(await listing(storage, each)(EVERYTHING)).cursors[0] for each in filters]
    assert len(set(cursors)) == len(filters)
    for place, filter in enumerate(filters):
        others = [cursor for at, cursor in enumerate(cursors) if at != place]
        await assert_refuses(listing(storage, filter), others)


async def test_an_instant_of_a_span_needs_an_offset() -> None:
    with pytest.raises(InvalidInput):
        CredentialFilter(last_used_at=Span(gte=NOW.replace(tzinfo=None)))
