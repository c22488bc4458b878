"""The storage contract, continued: what all tenants share, and only the operator sees.

The rules are those of `db.contract`. The registry's units wait for each other by row as a tenant's
do; one may be begun inside a unit of a tenant, or around one, and each is committed by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from db.filters import TenantFilter, WorkFilter
from db.pages import Page, PageRequest
from db.records import IdempotencyKey, JSONObject, OperatorEvent, Purge, SigningKey, Tenant
from db.work import JobSummary, Work


class TenantDirectory(Protocol):
    async def get(self, slug: str) -> Tenant | None: ...

    async def page(
        self, request: PageRequest, filter: TenantFilter = TenantFilter()
    ) -> Page[Tenant]:
        """By slug, in the order of its bytes. Raises InvalidCursor."""
        ...

    async def count(self, filter: TenantFilter = TenantFilter(), cap: int = 10_000) -> int:
        """As for agents."""
        ...


class OperatorEventReader(Protocol):
    async def page(self, request: PageRequest) -> Page[OperatorEvent]:
        """By `event_id` descending, which is newest first. Raises InvalidCursor."""
        ...


class SigningKeyReader(Protocol):
    async def all(self) -> Sequence[SigningKey]:
        """Every key that is not retired, oldest first."""
        ...

    async def get(self, kid: str) -> SigningKey | None: ...

    async def retired(self, since: datetime) -> Sequence[SigningKey]:
        """Those that were retired at `since` or later, by kid."""
        ...


class WorkReader(Protocol):
    async def get(self, key: str) -> Work | None: ...

    async def get_many(self, keys: Collection[str]) -> Mapping[str, Work]:
        """Those that exist; order and repetition of the keys do not matter."""
        ...

    async def page(self, request: PageRequest, filter: WorkFilter = WorkFilter()) -> Page[Work]:
        """By `key`, in the order of its bytes. Raises InvalidCursor."""
        ...

    async def count(self, filter: WorkFilter = WorkFilter(), cap: int = 10_000) -> int:
        """As for agents."""
        ...

    async def due(self, now: datetime, limit: int) -> Sequence[Work]:
        """Those that `Work.due`, the longest waiting first, then by key."""
        ...

    async def summary(self, now: datetime) -> Sequence[JobSummary]:
        """As `db.work.summarised` says of every row."""
        ...


class PurgeReader(Protocol):
    async def page(self, request: PageRequest, tenant: str | None = None) -> Page[Purge]:
        """Newest first, by `purge_id` descending; of one tenant, or of all. Raises
        InvalidCursor."""
        ...


class IdempotencyReader(Protocol):
    async def get(self, scope: str, key: UUID, now: datetime) -> IdempotencyKey | None:
        """None too for one that is over at `now`."""
        ...


class RegistryReader(Protocol):
    """What all tenants share. Only this is read without a tenant."""

    @property
    def tenants(self) -> TenantDirectory: ...
    @property
    def operator_events(self) -> OperatorEventReader: ...
    @property
    def signing_keys(self) -> SigningKeyReader: ...
    @property
    def work(self) -> WorkReader: ...
    @property
    def purges(self) -> PurgeReader: ...
    @property
    def idempotency(self) -> IdempotencyReader: ...


class TenantStore(Protocol):
    async def add(self, tenant: Tenant) -> None:
        """Raises SlugTaken, for removed tenants too."""
        ...

    async def get(self, slug: str) -> Tenant | None:
        """Holds the row until the unit ends."""
        ...

    async def save(self, tenant: Tenant) -> None:
        """Replaces every field but `slug` and `created_at`. Raises NotFound."""
        ...


class OperatorEventStore(Protocol):
    async def append(self, event: OperatorEvent) -> None:
        """As AuditStore.append."""
        ...


class SigningKeyStore(Protocol):
    async def add(self, key: SigningKey) -> bool:
        """Whether it was added: False, and nothing changed, when its kid is there already, or when
        it would be a second `signing` key."""
        ...

    async def get(self, kid: str) -> SigningKey | None:
        """Holds the row until the unit ends."""
        ...

    async def save(self, key: SigningKey) -> None:
        """Replaces `private_key`, `status` and `changed_at`. Raises NotFound, and
        InvalidTransition when it would be a second `signing` key."""
        ...


class WorkStore(Protocol):
    async def add(self, work: Work) -> bool:
        """Whether it is new; a row of the same key is left as it is."""
        ...

    async def get(self, key: str) -> Work | None:
        """Holds the row until the unit ends."""
        ...

    async def save(self, work: Work) -> None:
        """Replaces every field but `key`, `job`, `tenant` and `created_at`. Raises NotFound."""
        ...

    async def seal(self, key: str, payload: JSONObject | None) -> None:
        """Lays `payload` beside the row, where no reader and no page shows it, or takes away what
        is there. Raises NotFound."""
        ...

    async def unseal(self, key: str) -> JSONObject | None:
        """What was laid there; None too for a key that is not known."""
        ...


class IdempotencyStore(Protocol):
    async def claim(self, record: IdempotencyKey) -> IdempotencyKey | None:
        """Keeps `record` and answers None when its key is new, or that of one which was over at
        `record.created_at`; otherwise answers what is there and keeps that. Waits for a unit that
        claims the same key."""
        ...

    async def sweep(self, now: datetime) -> int:
        """Forgets those that are over at `now`; how many they were."""
        ...


class RegistryUnit(Protocol):
    """A unit of work on the registry, with the same rules."""

    @property
    def tenants(self) -> TenantStore: ...
    @property
    def operator_events(self) -> OperatorEventStore: ...
    @property
    def signing_keys(self) -> SigningKeyStore: ...
    @property
    def work(self) -> WorkStore: ...
    @property
    def idempotency(self) -> IdempotencyStore: ...
