"""The months of a trail come, and go whole and on record: the same ones on both backends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest

from db.contract import Storage
from db.errors import TenantNotProvisioned
from db.filters import AuditEventFilter
from db.namespace import TenantPrefix
from db.records import AuditEvent
from tests.contract.cast import ACME, GLOBEX, MICROSECOND, new_event, put
from tests.contract.paging import EVERYTHING, assert_pages, items

INITECH = TenantPrefix("initech")
UNKNOWN = TenantPrefix("nobody")

# Long gone, so that no purge of it is ahead of the machine's clock; with the end of a leap year's
# February in it.
FIRST = datetime(2023, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
EVER = datetime(1970, 1, 1, tzinfo=UTC)


def month(year: int, number: int) -> datetime:
    return datetime(year, number, 1, tzinfo=UTC)


def named(*months: str) -> list[str]:
    return [f"initech_audit_events_{each}" for each in months]


def digest(*days: Sequence[AuditEvent]) -> str:
    """Of a month that had events on these days."""
    parts = [sorted(each.event_id.bytes for each in day) for day in days]
    return sha256(b"".join(sha256(b"".join(part)).digest() for part in parts)).hexdigest()


@pytest.fixture
async def kept(storage: Storage) -> Storage:
    """With the tenant initech, since the last microsecond of 2023."""
    await storage.upkeep.provision(INITECH, FIRST)
    return storage


async def trail(storage: Storage) -> list[AuditEvent]:
    """Oldest first."""
    found = await items(lambda request: storage.read(INITECH).audit.page(request, EVER))
    return found[::-1]


async def test_months_are_made_up_to_two_ahead_and_none_twice(kept: Storage) -> None:
    ensure = kept.upkeep.ensure_months

    assert list(await ensure(INITECH, FIRST)) == []
    assert list(await ensure(INITECH, FIRST + MICROSECOND)) == named("y2024m03")
    assert list(await ensure(INITECH, NOW)) == named("y2024m04", "y2024m05")
    assert list(await ensure(INITECH, FIRST)) == []
    # What a pause left out is made up for.
    assert list(await ensure(INITECH, month(2024, 6))) == named("y2024m06", "y2024m07", "y2024m08")


async def test_old_months_go_oldest_first_each_with_its_line(kept: Storage) -> None:
    await kept.upkeep.ensure_months(INITECH, NOW)
    december = [new_event(EVER), new_event(FIRST)]
    january = [new_event(month(2024, 1)), new_event(month(2024, 2) - MICROSECOND)]
    young = [new_event(month(2024, 2)), new_event(NOW)]
    await put(kept, INITECH, *young, *december, *january)
    before = month(2024, 2) + timedelta(days=9)

    taken = await kept.upkeep.purge(INITECH, before, NOW)

    assert [
        (each.partition, each.lower, each.upper, each.events, each.digest) for each in taken
    ] == [
        (*named("y2023m12"), None, month(2024, 1), 2, digest(december[:1], december[1:])),
        (*named("y2024m01"), month(2024, 1), month(2024, 2), 2, digest(january[:1], january[1:])),
    ]
    assert {(each.tenant, each.before, each.purged_at) for each in taken} == {
        ("initech", before, NOW)
    }
    assert await trail(kept) == young
    await assert_pages(lambda request: kept.registry.purges.page(request, "initech"), taken[::-1])
    assert await items(lambda request: kept.registry.purges.page(request, "acme")) == []


async def test_an_event_at_the_boundary_stays_until_the_instant_at_which_it_is_too_old(
    kept: Storage,
) -> None:
    await kept.upkeep.ensure_months(INITECH, NOW)
    edge = month(2024, 3)
    last, first = new_event(edge - MICROSECOND), new_event(edge)
    await put(kept, INITECH, last, first)

    assert len(await kept.upkeep.purge(INITECH, edge - MICROSECOND, NOW)) == 2
    assert await trail(kept) == [last, first]

    [taken] = await kept.upkeep.purge(INITECH, edge, NOW)
    assert (taken.events, taken.digest) == (1, digest([last]))
    assert await trail(kept) == [first]
    assert list(await kept.upkeep.purge(INITECH, edge, NOW)) == []


async def test_of_what_went_nothing_is_left_in_any_list(kept: Storage) -> None:
    await kept.upkeep.ensure_months(INITECH, NOW)
    agent_id = UUID(int=7)
    old, young = (new_event(each, agent_id=agent_id) for each in (FIRST, NOW))
    await put(kept, INITECH, old, young)

    await kept.upkeep.purge(INITECH, month(2024, 1), NOW)

    reader, filter = kept.read(INITECH).audit, AuditEventFilter(agent_id=agent_id)
    assert await reader.get(old.event_id, EVER) is None
    assert await reader.get(young.event_id, EVER) == young
    assert await reader.count(EVER) == await reader.count(EVER, filter) == 1
    page = (await reader.pages([agent_id], request=EVERYTHING, since=EVER))[agent_id]
    assert page.items == (young,)
    later = new_event(NOW + timedelta(days=1), agent_id=agent_id)
    await put(kept, INITECH, later)
    assert await trail(kept) == [young, later]


async def test_a_month_that_went_is_not_made_again(kept: Storage) -> None:
    taken = await kept.upkeep.purge(INITECH, month(2024, 3), NOW)
    assert [each.partition for each in taken] == named("y2023m12", "y2024m01", "y2024m02")

    # By a clock that is late, and by one that is not.
    assert list(await kept.upkeep.ensure_months(INITECH, FIRST)) == []
    assert list(await kept.upkeep.ensure_months(INITECH, NOW)) == named(
        "y2024m03", "y2024m04", "y2024m05"
    )
    [again] = await kept.upkeep.purge(INITECH, month(2024, 4), NOW)
    assert again.lower == month(2024, 3)


async def test_the_months_of_other_tenants_stay(kept: Storage) -> None:
    events = {tenant: new_event(month(2026, 5)) for tenant in (ACME, GLOBEX)}
    for tenant, event in events.items():
        await put(kept, tenant, event)

    await kept.upkeep.purge(INITECH, month(2024, 3), NOW)

    for tenant, event in events.items():
        assert await kept.read(tenant).audit.get(event.event_id, EVER) == event
    assert {each.tenant for each in await items(kept.registry.purges.page)} == {"initech"}


async def test_a_tenant_that_was_never_provisioned_has_no_months_to_take(
    storage: Storage,
) -> None:
    with pytest.raises(TenantNotProvisioned):
        await storage.upkeep.purge(UNKNOWN, NOW, NOW)
    assert await items(storage.registry.purges.page) == []
