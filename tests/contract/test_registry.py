"""The registry: a slug is given once, the operator's acts stay, and one key signs."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from db.contract import Storage
from db.errors import NotFound, SlugTaken
from db.filters import TenantFilter
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import (
    AuditOutcome,
    OperatorEvent,
    SigningKey,
    SigningKeyStatus,
    Tenant,
    TenantStatus,
)
from tests.contract.cast import (
    ACME,
    AWKWARD,
    MICROSECOND,
    NOW,
    Interrupted,
    after,
    new_agent,
    new_key,
    new_operator_event,
    new_tenant,
    put,
)
from tests.contract.paging import (
    EVERYTHING,
    assert_pages,
    assert_refuses,
    assert_walks,
    items,
)

WHOLE = new_tenant(
    "initech",
    display_name=AWKWARD,
    status=TenantStatus.SUSPENDED,
    created_at=after(1),
    updated_at=after(2),
    revision="0001",
    token_generation=5,
    retention_days=30,
    resource_servers=("https://api.example/", "urn:x"),
    limits={"requests": {"per_minute": 60}, "a": [None, 1.5]},
    status_reason=AWKWARD,
    administrator_id=UUID(int=7),
)


async def add_tenants(storage: Storage, *tenants: Tenant) -> None:
    async with storage.registry_unit() as unit:
        for tenant in tenants:
            await unit.tenants.add(tenant)


@pytest.mark.parametrize("tenant", [WHOLE, new_tenant("a1"), new_tenant("a" * 24)])
async def test_an_added_tenant_reads_back_as_it_was_written(
    storage: Storage, tenant: Tenant
) -> None:
    await add_tenants(storage, tenant)
    assert await storage.registry.tenants.get(tenant.slug) == tenant
    async with storage.registry_unit() as unit:
        assert await unit.tenants.get(tenant.slug) == tenant


async def test_an_unknown_tenant_is_none(storage: Storage) -> None:
    assert await storage.registry.tenants.get("initech") is None
    async with storage.registry_unit() as unit:
        assert await unit.tenants.get("initech") is None


@pytest.mark.parametrize("status", list(TenantStatus))
async def test_a_slug_is_given_once_whatever_became_of_its_tenant(
    storage: Storage, status: TenantStatus
) -> None:
    first = replace(WHOLE, status=status)
    await add_tenants(storage, first)
    with pytest.raises(SlugTaken) as refusal:
        await add_tenants(storage, new_tenant("hooli"), new_tenant("initech"))
    assert (refusal.value.code, refusal.value.path) == ("SLUG_TAKEN", ("slug",))
    assert await storage.registry.tenants.get("initech") == first
    assert await storage.registry.tenants.get("hooli") is None


async def test_saving_replaces_every_field_but_slug_and_creation(storage: Storage) -> None:
    first = new_tenant("initech")
    await add_tenants(storage, first)
    async with storage.registry_unit() as unit:
        await unit.tenants.save(replace(WHOLE, created_at=after(99)))
        assert await unit.tenants.get("initech") == replace(WHOLE, created_at=NOW)
    assert await storage.registry.tenants.get("initech") == replace(WHOLE, created_at=NOW)
    async with storage.registry_unit() as unit:
        await unit.tenants.save(first)
    assert await storage.registry.tenants.get("initech") == first


async def test_saving_an_unknown_tenant_is_refused(storage: Storage) -> None:
    before = await items(storage.registry.tenants.page)
    with pytest.raises(NotFound):
        async with storage.registry_unit() as unit:
            await unit.tenants.save(WHOLE)
    assert await items(storage.registry.tenants.page) == before


async def _with_others(storage: Storage) -> list[Tenant]:
    """Tenants whose slugs a language would sort otherwise than their bytes do."""
    slugs = ["a_z", "aa", "a1", "ab_c", "abc", "zz"]
    await add_tenants(
        storage,
        *(
            new_tenant(slug, status=list(TenantStatus)[place % 3], created_at=after(-place))
            for place, slug in enumerate(slugs)
        ),
    )
    every = {*slugs, "acme", "globex"}
    rows = {slug: await storage.registry.tenants.get(slug) for slug in every}
    return [row for slug in sorted(every, key=str.encode) if (row := rows[slug])]


async def test_tenants_are_listed_by_the_bytes_of_their_slugs(storage: Storage) -> None:
    rows = await _with_others(storage)
    assert [row.slug for row in rows] == [
        "a1", "a_z", "aa", "ab_c", "abc", "acme", "globex", "zz",
    ]  # fmt: skip
    await assert_pages(storage.registry.tenants.page, rows)
    await assert_walks(storage.registry.tenants.page, rows)


@pytest.mark.parametrize(
    "status", [(), (TenantStatus.ACTIVE,), (TenantStatus.ACTIVE, TenantStatus.SUSPENDED)]
)
async def test_a_filter_leaves_what_matches_and_nothing_else(
    storage: Storage, status: tuple[TenantStatus, ...]
) -> None:
    filter = TenantFilter(status)
    rows = [row for row in await _with_others(storage) if filter.matches(row)]
    tenants = storage.registry.tenants
    await assert_walks(lambda request: tenants.page(request, filter), rows, size=2)
    assert await tenants.count(filter) == len(rows)


async def test_a_count_stops_behind_its_cap(storage: Storage) -> None:
    await _with_others(storage)
    tenants = storage.registry.tenants
    assert await tenants.count() == 8
    assert [await tenants.count(cap=cap) for cap in (0, 6, 7, 8)] == [1, 7, 8, 8]
    assert await tenants.count(TenantFilter(tuple(TenantStatus)), cap=2) == 3


async def test_a_cursor_means_nothing_elsewhere(storage: Storage) -> None:
    await put(storage, ACME, new_agent())
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(new_operator_event())
    tenants = storage.registry.tenants
    filtered = await tenants.page(EVERYTHING, TenantFilter((TenantStatus.ACTIVE,)))
    agents = await storage.read(ACME).agents.page(EVERYTHING)
    events = await storage.registry.operator_events.page(EVERYTHING)
    mine = await tenants.page(EVERYTHING)
    await assert_refuses(tenants.page, [filtered.cursors[0], agents.cursors[0], events.cursors[0]])
    await assert_refuses(
        storage.registry.operator_events.page, [mine.cursors[0], agents.cursors[0]]
    )
    assert await tenants.page(EVERYTHING) == mine


async def test_an_operator_event_reads_back_as_it_was_written(storage: Storage) -> None:
    bare = new_operator_event(tenant=None)
    whole = new_operator_event(
        after(1),
        action="tenant.suspended",
        outcome=AuditOutcome.FAILURE,
        user_agent=AWKWARD,
        metadata={"reason": AWKWARD, "n": [1, 2.5, None, {}]},
    )
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(bare)
        await unit.operator_events.append(whole)
    assert await items(storage.registry.operator_events.page) == [whole, bare]


async def test_a_repeated_operator_event_is_left_as_it_is(storage: Storage) -> None:
    event = new_operator_event()
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(event)
        await unit.operator_events.append(replace(event, action="forged"))
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(replace(event, metadata={"forged": True}))
    assert await items(storage.registry.operator_events.page) == [event]


async def test_operator_events_are_listed_newest_first(storage: Storage) -> None:
    page: Page[OperatorEvent] = await storage.registry.operator_events.page(PageRequest())
    assert page == Page()
    rows = [new_operator_event(NOW + place // 2 * MICROSECOND) for place in range(6)][::-1]
    async with storage.registry_unit() as unit:
        for row in rows:
            await unit.operator_events.append(row)
    await assert_pages(storage.registry.operator_events.page, rows)
    await assert_walks(storage.registry.operator_events.page, rows, size=2)


async def test_what_is_read_cannot_rewrite_the_registry(storage: Storage) -> None:
    event = new_operator_event(metadata={"a": 1})
    await add_tenants(storage, WHOLE)
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(event)
    (read,) = await items(storage.registry.operator_events.page)
    read.metadata["a"] = 2
    tenant = await storage.registry.tenants.get("initech")
    assert tenant is not None
    assert isinstance(tenant.limits, dict)
    tenant.limits.clear()
    assert await items(storage.registry.operator_events.page) == [replace(event, metadata={"a": 1})]
    assert await storage.registry.tenants.get("initech") == WHOLE


async def add_key(storage: Storage, key: SigningKey) -> bool:
    async with storage.registry_unit() as unit:
        return await unit.signing_keys.add(key)


async def test_keys_are_those_not_retired_oldest_first(storage: Storage) -> None:
    assert list(await storage.registry.signing_keys.all()) == []
    signing = new_key(status=SigningKeyStatus.SIGNING, created_at=after(1))
    oldest = new_key(created_at=after(0), private_key=b"")
    newest = new_key(created_at=after(2), algorithm="EdDSA")
    retired = new_key(status=SigningKeyStatus.RETIRED, created_at=after(-1))
    for key in (newest, signing, retired, oldest):
        assert await add_key(storage, key) is True
    assert list(await storage.registry.signing_keys.all()) == [oldest, signing, newest]


async def test_a_kid_is_added_once(storage: Storage) -> None:
    key = new_key()
    assert await add_key(storage, key) is True
    assert await add_key(storage, replace(key, algorithm="RS256", private_key=b"x")) is False
    assert list(await storage.registry.signing_keys.all()) == [key]


async def test_a_kid_of_a_retired_key_stays_taken(storage: Storage) -> None:
    key = new_key(status=SigningKeyStatus.RETIRED)
    assert await add_key(storage, key) is True
    assert await add_key(storage, replace(key, status=SigningKeyStatus.SIGNING)) is False
    assert list(await storage.registry.signing_keys.all()) == []


async def test_at_most_one_key_signs(storage: Storage) -> None:
    first = new_key(status=SigningKeyStatus.SIGNING)
    assert await add_key(storage, first) is True
    assert await add_key(storage, new_key(status=SigningKeyStatus.SIGNING)) is False
    assert list(await storage.registry.signing_keys.all()) == [first]
    async with storage.registry_unit() as unit:
        published = new_key(created_at=after(1))
        assert await unit.signing_keys.add(new_key(status=SigningKeyStatus.SIGNING)) is False
        assert await unit.signing_keys.add(published) is True
    assert list(await storage.registry.signing_keys.all()) == [first, published]


async def test_a_unit_of_keys_knows_those_that_it_has_added(storage: Storage) -> None:
    first = new_key(status=SigningKeyStatus.SIGNING)
    async with storage.registry_unit() as unit:
        assert await unit.signing_keys.add(first) is True
        assert await unit.signing_keys.add(new_key(status=SigningKeyStatus.SIGNING)) is False
        assert await unit.signing_keys.add(replace(first, status=SigningKeyStatus.RETIRED)) is False
    assert list(await storage.registry.signing_keys.all()) == [first]


async def test_a_registry_unit_is_kept_whole_or_not_at_all(storage: Storage) -> None:
    before = await items(storage.registry.tenants.page)

    async def fail() -> None:
        async with storage.registry_unit() as unit:
            await unit.tenants.add(WHOLE)
            await unit.operator_events.append(new_operator_event())
            await unit.signing_keys.add(new_key(status=SigningKeyStatus.SIGNING))
            raise Interrupted

    with pytest.raises(Interrupted):
        await fail()
    assert await items(storage.registry.tenants.page) == before
    assert await items(storage.registry.operator_events.page) == []
    assert list(await storage.registry.signing_keys.all()) == []


async def test_an_event_of_the_last_instant_can_be_kept(storage: Storage) -> None:
    event = new_operator_event(event_id=UUID(int=2**128 - 1))
    async with storage.registry_unit() as unit:
        await unit.operator_events.append(event)
    await assert_pages(storage.registry.operator_events.page, [event])


async def test_a_cursor_of_one_tenant_s_purges_means_nothing_in_another_s(storage: Storage) -> None:
    purges, ago = storage.registry.purges, NOW.replace(year=2024)
    for slug in ("initech", "hooli"):
        tenant = TenantPrefix(slug)
        await storage.upkeep.provision(tenant, ago)
        assert await storage.upkeep.purge(tenant, ago.replace(year=2025), ago.replace(year=2025))
    everybody = await purges.page(EVERYTHING)
    hooli = await purges.page(EVERYTHING, "hooli")
    await assert_pages(purges.page, everybody.items)
    await assert_refuses(
        lambda request: purges.page(request, "initech"), [everybody.cursors[0], hooli.cursors[0]]
    )
    await assert_refuses(purges.page, [hooli.cursors[0]])
