"""What all tenants share, in memory: the tenants themselves, operator events and signing keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime

from db import lists
from db.errors import InvalidTransition, NotFound, SlugTaken
from db.filters import TenantFilter
from db.memory.copies import fresh, stored
from db.memory.drafts import Draft
from db.memory.idempotency import Keys, MemoryIdempotency, MemoryIdempotencyStore
from db.memory.rows import Rows, Selection
from db.memory.units import Life, Turns
from db.memory.work import MemoryWork, MemoryWorkStore, Payloads, Works
from db.pages import Page, PageRequest
from db.records import OperatorEvent, Purge, SigningKey, SigningKeyStatus, Tenant

_EVERY = TenantFilter()

Tenants = Rows[Tenant, lists.BySlug]
OperatorEvents = Rows[OperatorEvent, lists.ById]
SigningKeys = dict[str, SigningKey]
Purges = Rows[Purge, lists.ById]


class MemoryTenants:
    def __init__(self, rows: Tenants) -> None:
        self._rows = rows

    async def get(self, slug: str) -> Tenant | None:
        tenant = self._rows.get(slug)
        return tenant and fresh(tenant)

    async def page(self, request: PageRequest, filter: TenantFilter = _EVERY) -> Page[Tenant]:
        return self._select(filter).page(
            lists.tenants(filter), request, descending=False, show=fresh
        )

    async def count(self, filter: TenantFilter = _EVERY, cap: int = 10_000) -> int:
        return self._select(filter).count(cap)

    def _select(self, filter: TenantFilter) -> Selection[Tenant, lists.BySlug]:
        return self._rows.select(matches=None if filter == _EVERY else filter.matches)


class MemoryTenantStore:
    def __init__(self, rows: Tenants, life: Life) -> None:
        self._life = life
        self._draft = Draft(rows, "tenant", life)

    async def add(self, tenant: Tenant) -> None:
        if self._draft.get(tenant.slug) is not None:
            raise self._life.fail(SlugTaken("the slug is in use, or was", ("slug",)))
        self._draft.put(stored(tenant))

    async def get(self, slug: str) -> Tenant | None:
        tenant = self._draft.get(slug)
        return tenant and fresh(tenant)

    async def save(self, tenant: Tenant) -> None:
        first = self._draft.known(tenant.slug)
        self._draft.put(replace(stored(tenant), created_at=first.created_at))

    def keep(self) -> None:
        self._draft.keep()


class MemoryOperatorEvents:
    def __init__(self, rows: OperatorEvents) -> None:
        self._rows = rows

    async def page(self, request: PageRequest) -> Page[OperatorEvent]:
        return self._rows.select().page(
            lists.operator_events(), request, descending=True, show=fresh
        )


class MemoryOperatorEventStore:
    def __init__(self, rows: OperatorEvents, life: Life) -> None:
        self._draft = Draft(rows, "event", life)

    async def append(self, event: OperatorEvent) -> None:
        if self._draft.get(event.event_id) is None:
            self._draft.put(stored(event))

    def keep(self) -> None:
        self._draft.keep()


class MemoryPurges:
    def __init__(self, rows: Purges) -> None:
        self._rows = rows

    async def page(self, request: PageRequest, tenant: str | None = None) -> Page[Purge]:
        chosen = self._rows.select(
            matches=None if tenant is None else lambda purge: purge.tenant == tenant
        )
        return chosen.page(lists.purges(tenant), request, descending=True)


class MemorySigningKeys:
    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    async def all(self) -> Sequence[SigningKey]:
        live = (key for key in self._keys.values() if key.status is not SigningKeyStatus.RETIRED)
        return sorted(live, key=lambda key: (key.created_at, key.kid))

    async def get(self, kid: str) -> SigningKey | None:
        return self._keys.get(kid)

    async def retired(self, since: datetime) -> Sequence[SigningKey]:
        return [
            key
            for _, key in sorted(self._keys.items())
            if key.status is SigningKeyStatus.RETIRED and key.changed_at >= since
        ]


class MemorySigningKeyStore:
    def __init__(self, keys: SigningKeys, life: Life) -> None:
        self._keys = keys
        self._life = life
        self._changed: SigningKeys = {}

    async def add(self, key: SigningKey) -> bool:
        self._life.go_on()
        if key.kid in self._keys or key.kid in self._changed:
            return False
        if key.status is SigningKeyStatus.SIGNING and self._signing() is not None:
            return False
        self._changed[key.kid] = key
        return True

    async def get(self, kid: str) -> SigningKey | None:
        self._life.go_on()
        return self._changed.get(kid) or self._keys.get(kid)

    async def save(self, key: SigningKey) -> None:
        first = await self.get(key.kid)
        if first is None:
            raise self._life.fail(NotFound("there is no such signing key"))
        if key.status is SigningKeyStatus.SIGNING and self._signing() not in (None, key.kid):
            raise self._life.fail(InvalidTransition("another key signs", ("kid",)))
        self._changed[key.kid] = replace(
            first, private_key=key.private_key, status=key.status, changed_at=key.changed_at
        )

    def keep(self) -> None:
        self._keys.update(self._changed)

    def _signing(self) -> str | None:
        held = {**self._keys, **self._changed}.values()
        return next((key.kid for key in held if key.status is SigningKeyStatus.SIGNING), None)


class MemoryRegistryUnit:
    def __init__(self, registry: MemoryRegistry, life: Life) -> None:
        self.tenants = MemoryTenantStore(registry.tenant_rows, life)
        self.operator_events = MemoryOperatorEventStore(registry.operator_event_rows, life)
        self.signing_keys = MemorySigningKeyStore(registry.keys, life)
        self.work = MemoryWorkStore(registry.work_rows, registry.payloads, life)
        self.idempotency = MemoryIdempotencyStore(registry.idempotency_keys, life)

    def keep(self) -> None:
        self.tenants.keep()
        self.operator_events.keep()
        self.signing_keys.keep()
        self.work.keep()
        self.idempotency.keep()


class MemoryRegistry:
    def __init__(self) -> None:
        self.tenant_rows: Tenants = Rows(lists.tenant_position)
        self.operator_event_rows: OperatorEvents = Rows(lists.operator_event_position)
        self.keys: SigningKeys = {}
        self.work_rows: Works = Rows(lists.work_position)
        self.payloads: Payloads = {}
        self.purge_rows: Purges = Rows(lists.purge_position)
        self.idempotency_keys: Keys = {}
        self._turns = Turns()
        self.tenants = MemoryTenants(self.tenant_rows)
        self.operator_events = MemoryOperatorEvents(self.operator_event_rows)
        self.signing_keys = MemorySigningKeys(self.keys)
        self.work = MemoryWork(self.work_rows)
        self.purges = MemoryPurges(self.purge_rows)
        self.idempotency = MemoryIdempotency(self.idempotency_keys)

    def turn(self) -> AbstractAsyncContextManager[Life]:
        return self._turns.take()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[MemoryRegistryUnit]:
        async with self.turn() as life:
            unit = MemoryRegistryUnit(self, life)
            yield unit
            life.go_on()
            unit.keep()
