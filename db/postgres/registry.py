"""What all tenants share, on PostgreSQL: the tenants themselves, operator events, signing keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import String, bindparam, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from db import lists
from db.filters import TenantFilter
from db.lists import ById, BySlug
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.postgres.connections import Changing, Reading
from db.postgres.idempotency import PostgresIdempotencyReader, PostgresIdempotencyStore
from db.postgres.listing import Listing, Parameters, among, given
from db.postgres.rows import OPERATOR_EVENTS, PURGES, SIGNING_KEYS, TENANTS, parameters
from db.postgres.turns import held, shared
from db.postgres.work import PostgresWorkReader, PostgresWorkStore
from db.records import OperatorEvent, Purge, SigningKey, SigningKeyStatus, Tenant
from db.tables import operator_events, purge_log, signing_keys, tenants

_TENANTS: Listing[Tenant, BySlug] = Listing(
    (tenants.c.slug,), {"status": among(tenants.c.status, "status")}, descending=False
)
_SLUG = bindparam("slug", type_=String)
_GET = select(*TENANTS.columns(TENANTS.names)).where(tenants.c.slug == _SLUG)
_HOLD = held(_GET, tenants, _SLUG)
# As a foreign key would hold it: whoever holds the row to change it waits, and is waited for, but
# a migration that notes the revision is not.
_SHARE = shared(_GET, tenants, _SLUG, key_share=True)
_ADD = insert(tenants)
_SAVE = update(tenants).where(tenants.c.slug == bindparam("key")).returning(tenants.c.slug)
_NEVER_CHANGES = ("slug", "created_at")

_OPERATOR_EVENTS: Listing[OperatorEvent, ById] = Listing(
    (operator_events.c.event_id,), {}, descending=True
)
_PURGES: Listing[Purge, ById] = Listing(
    (purge_log.c.purge_id,), {"tenant": purge_log.c.tenant == bindparam("tenant")}, descending=True
)
_APPEND = insert(operator_events).on_conflict_do_nothing()

_EVERY_KEY = select(*SIGNING_KEYS.columns(SIGNING_KEYS.names))
_RETIRED = literal(SigningKeyStatus.RETIRED.value)
# By its bytes, whatever the database's collation.
_BY_KID = signing_keys.c.kid.collate("C")
_KEYS = _EVERY_KEY.where(signing_keys.c.status != _RETIRED).order_by(
    signing_keys.c.created_at, _BY_KID
)
_RETIRED_KEYS = _EVERY_KEY.where(
    signing_keys.c.status == _RETIRED, signing_keys.c.changed_at >= bindparam("since")
).order_by(_BY_KID)
_KEY = _EVERY_KEY.where(signing_keys.c.kid == bindparam("kid"))
_HOLD_KEY = _KEY.with_for_update()
_CHANGES_OF_KEY = ("private_key", "status", "changed_at")
_SAVE_KEY = (
    update(signing_keys)
    .where(signing_keys.c.kid == bindparam("key"))
    .values({name: bindparam(name) for name in _CHANGES_OF_KEY})
    .returning(signing_keys.c.kid)
)
# Without a target it covers the kid and the index that allows one signing key.
_ADD_KEY = insert(signing_keys).on_conflict_do_nothing().returning(signing_keys.c.kid)


class PostgresTenantDirectory:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def get(self, slug: str) -> Tenant | None:
        rows = await self._reading.rows(_GET, {"slug": slug})
        return TENANTS.record(rows[0]) if rows else None

    async def page(
        self, request: PageRequest, filter: TenantFilter = TenantFilter()
    ) -> Page[Tenant]:
        return await _TENANTS.page(
            self._reading,
            lists.tenants(filter),
            request,
            _given(filter),
            TENANTS.names,
            TENANTS.record,
        )

    async def count(self, filter: TenantFilter = TenantFilter(), cap: int = 10_000) -> int:
        return await _TENANTS.count(self._reading, _given(filter), cap)


class PostgresOperatorEventReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def page(self, request: PageRequest) -> Page[OperatorEvent]:
        return await _OPERATOR_EVENTS.page(
            self._reading,
            lists.operator_events(),
            request,
            {},
            OPERATOR_EVENTS.names,
            OPERATOR_EVENTS.record,
        )


class PostgresSigningKeyReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def all(self) -> Sequence[SigningKey]:
        return [SIGNING_KEYS.record(row) for row in await self._reading.rows(_KEYS, {})]

    async def get(self, kid: str) -> SigningKey | None:
        rows = await self._reading.rows(_KEY, {"kid": kid})
        return SIGNING_KEYS.record(rows[0]) if rows else None

    async def retired(self, since: datetime) -> Sequence[SigningKey]:
        rows = await self._reading.rows(_RETIRED_KEYS, {"since": since})
        return [SIGNING_KEYS.record(row) for row in rows]


class PostgresPurgeReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def page(self, request: PageRequest, tenant: str | None = None) -> Page[Purge]:
        return await _PURGES.page(
            self._reading,
            lists.purges(tenant),
            request,
            given(tenant=tenant),
            PURGES.names,
            PURGES.record,
        )


class PostgresRegistryReader:
    def __init__(self, reading: Reading) -> None:
        self.tenants = PostgresTenantDirectory(reading)
        self.operator_events = PostgresOperatorEventReader(reading)
        self.signing_keys = PostgresSigningKeyReader(reading)
        self.work = PostgresWorkReader(reading)
        self.purges = PostgresPurgeReader(reading)
        self.idempotency = PostgresIdempotencyReader(reading)


class PostgresTenantStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, tenant: Tenant) -> None:
        await self._changing.rows(_ADD, parameters(tenant))

    async def get(self, slug: str) -> Tenant | None:
        rows = await self._changing.rows(_HOLD, {"slug": slug})
        return TENANTS.record(rows[0]) if rows else None

    async def save(self, tenant: Tenant) -> None:
        changed = parameters(tenant)
        for name in _NEVER_CHANGES:
            del changed[name]
        await self._changing.change(
            _SAVE, {**changed, "key": tenant.slug}, missing="there is no such tenant"
        )


async def shared_tenant(changing: Changing, tenant: TenantPrefix) -> Tenant | None:
    """`UnitOfWork.tenant`."""
    rows = await changing.rows(_SHARE, {"slug": tenant.value})
    return TENANTS.record(rows[0]) if rows else None


class PostgresOperatorEventStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def append(self, event: OperatorEvent) -> None:
        await self._changing.rows(_APPEND, parameters(event))


class PostgresSigningKeyStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, key: SigningKey) -> bool:
        return bool(await self._changing.rows(_ADD_KEY, parameters(key)))

    async def get(self, kid: str) -> SigningKey | None:
        rows = await self._changing.rows(_HOLD_KEY, {"kid": kid})
        return SIGNING_KEYS.record(rows[0]) if rows else None

    async def save(self, key: SigningKey) -> None:
        changed = {"key": key.kid} | {name: getattr(key, name) for name in _CHANGES_OF_KEY}
        await self._changing.change(_SAVE_KEY, changed, missing="there is no such signing key")


class PostgresRegistryUnit:
    def __init__(self, changing: Changing) -> None:
        self.tenants = PostgresTenantStore(changing)
        self.operator_events = PostgresOperatorEventStore(changing)
        self.signing_keys = PostgresSigningKeyStore(changing)
        self.work = PostgresWorkStore(changing)
        self.idempotency = PostgresIdempotencyStore(changing)


def _given(filter: TenantFilter) -> Parameters:
    return given(status=filter.status)
