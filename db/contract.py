"""The storage contract, in prose. `memory` and `postgres` keep it to the cursor and the error.

Reading is apart from changing. A `TenantReader` sees what is committed, one statement at a time.
A `UnitOfWork` changes things: all of it is committed on leaving its block, none of it when the
block raises. After any error of its stores the unit is over: what is asked of it next, and leaving
its block as if all were well, raises UnitOver. Units of one tenant that touch the same row wait
for each other, so what `get` returned in a unit still holds when the unit saves. A unit inside
another of the same tenant raises Misused, and nothing slow (a password hash, a call elsewhere)
happens inside one.

There is no store without a tenant: `read` and `unit` take the prefix of a registry row, and every
id, email and cursor of another tenant is simply unknown. Whatever is asked of a tenant that was
never provisioned raises TenantNotProvisioned. What all tenants share is in `db.registry`, what is
done to the tables themselves in `db.upkeep`.

Ids are made new by whoever adds a row: `add` raises IdTaken for one that is there already, before
it looks at anything else, and changes nothing.

Every method raises Unavailable when the store cannot be reached, having promised nothing. Values
are those that `grammar` has accepted. Instants are aware and in UTC, to the microsecond. JSON comes
back equal, with the members of an object sorted: shorter names first, then by their bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from db.cuts import CutKind, Cuts
from db.filters import AgentFilter, AgentOrder, AuditEventFilter, CredentialFilter
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import Agent, AuditEvent, Credential, Login, Revocation, Standing, Tenant
from db.registry import RegistryReader, RegistryUnit
from db.upkeep import Upkeep

# The fields of a record that a reader is to fetch; None fetches all of them. The sort key, and the
# id that a batch is keyed by, are always there.
Wanted = Collection[str] | None


class AgentReader(Protocol):
    async def get(self, agent_id: UUID) -> Agent | None: ...

    async def get_many(
        self, agent_ids: Collection[UUID], wanted: Wanted = None
    ) -> Mapping[UUID, Agent]:
        """Those that exist; order and repetition of the ids do not matter."""
        ...

    async def by_email(self, email: str) -> Agent | None:
        """Exactly as written: addresses are compared byte by byte."""
        ...

    async def page(
        self,
        request: PageRequest,
        filter: AgentFilter = AgentFilter(),
        order: AgentOrder = AgentOrder.CREATED_AT_DESC,
        wanted: Wanted = None,
    ) -> Page[Agent]:
        """By `created_at`, then by `agent_id` in the same direction. Raises InvalidCursor."""
        ...

    async def count(self, filter: AgentFilter = AgentFilter(), cap: int = 10_000) -> int:
        """How many match; `cap + 1` stands for more than `cap`."""
        ...


class CredentialReader(Protocol):
    async def get(self, credential_id: UUID) -> Credential | None: ...

    async def get_many(
        self, credential_ids: Collection[UUID], wanted: Wanted = None
    ) -> Mapping[UUID, Credential]:
        """As for agents."""
        ...

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        """Those usable at `now`, in the order of `page`: what a client's secret is compared
        with."""
        ...

    async def login(self, client_id: UUID, now: datetime) -> Login | None:
        """The agent with `of_client`, of both what `Login` names, as of one instant that is no
        earlier than the question; None when there is no such agent."""
        ...

    async def ended(self, now: datetime, limit: int) -> Sequence[Credential]:
        """Those whose `expires_at` has come and whose status is active still: no more than `limit`,
        the longest ended first, then by `credential_id`."""
        ...

    async def page(
        self,
        request: PageRequest,
        filter: CredentialFilter = CredentialFilter(),
        wanted: Wanted = None,
    ) -> Page[Credential]:
        """Newest first, then by `credential_id` descending. Raises InvalidCursor."""
        ...

    async def pages(
        self,
        client_ids: Collection[UUID],
        request: PageRequest,
        filter: CredentialFilter = CredentialFilter(),
        wanted: Wanted = None,
    ) -> Mapping[UUID, Page[Credential]]:
        """`page` for each client, in one statement; its cursors are those of `page` with that
        `client_id` in the filter, whatever client that named. Every id asked for has a page, if
        an empty one."""
        ...

    async def count(self, filter: CredentialFilter = CredentialFilter(), cap: int = 10_000) -> int:
        """As for agents."""
        ...


class AuditReader(Protocol):
    """`since` is the start of the retention window: what is older is not there. It is no part of
    a cursor, so a page can be continued while the window moves."""

    async def get(self, event_id: UUID, since: datetime) -> AuditEvent | None: ...

    async def page(
        self,
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = AuditEventFilter(),
        wanted: Wanted = None,
    ) -> Page[AuditEvent]:
        """By `event_id` descending, which is newest first. Raises InvalidCursor."""
        ...

    async def pages(
        self,
        agent_ids: Collection[UUID],
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = AuditEventFilter(),
        wanted: Wanted = None,
    ) -> Mapping[UUID, Page[AuditEvent]]:
        """`page` for each agent, in one statement, as `CredentialReader.pages`."""
        ...

    async def count(
        self, since: datetime, filter: AuditEventFilter = AuditEventFilter(), cap: int = 10_000
    ) -> int:
        """As for agents."""
        ...


class RevocationReader(Protocol):
    async def contains(self, jti: UUID) -> bool: ...

    async def get(self, jti: UUID) -> Revocation | None:
        """As it was first added."""
        ...

    async def batch(self, after: UUID, limit: int) -> Sequence[Revocation]:
        """The first `limit` whose `jti` is greater than `after`, by `jti`: in no order of time."""
        ...

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        """What decides about a live token, in one statement; None when the agent is unknown. The
        credential is None when it is unknown or another agent's."""
        ...

    async def cuts(
        self, kind: CutKind, now: datetime, since: datetime | None, after: UUID, limit: int
    ) -> Cuts:
        """The first `limit` of those whose id is greater than `after` that were made at `since` or
        later, or at any time for None, and may still cut a token off at `now`.

        TOKEN: by `revoked_at`, ends at its `expires_at`. CREDENTIAL: each that `was_cut`, by its
        `revoked_at`. AGENT: those with a generation above 0, by `updated_at`, which is no earlier
        than the cut. The last two end with the longest token."""
        ...

    async def recent_cuts(self, now: datetime, since: datetime, limit: int) -> Sequence[Cuts]:
        """`cuts` of each kind from the beginning, in one statement; kinds without any are left
        out."""
        ...


class TenantReader(Protocol):
    @property
    def agents(self) -> AgentReader: ...
    @property
    def credentials(self) -> CredentialReader: ...
    @property
    def audit(self) -> AuditReader: ...
    @property
    def revocations(self) -> RevocationReader: ...


class AgentStore(Protocol):
    async def add(self, agent: Agent) -> None:
        """Raises EmailTaken, for addresses of decommissioned agents too."""
        ...

    async def get(self, agent_id: UUID) -> Agent | None:
        """Holds the row until the unit ends."""
        ...

    async def share(self, agent_id: UUID) -> Agent | None:
        """Holds the row too, against whoever would change it but not against others who share."""
        ...

    async def save(self, agent: Agent) -> None:
        """Replaces every field but `agent_id`, `email` and `created_at`, which keep their first
        value. Raises NotFound."""
        ...


class CredentialStore(Protocol):
    async def add(self, credential: Credential) -> None:
        """Raises NotFound when `client_id` names no agent."""
        ...

    async def get(self, credential_id: UUID) -> Credential | None:
        """Holds the row until the unit ends."""
        ...

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        """As the reader's, within the unit."""
        ...

    async def save(self, credential: Credential) -> None:
        """Replaces `status`, `expires_at`, `revoked_at`, `label`, `last_used_at` and `replaced_by`.

        Raises NotFound.
        """
        ...

    async def rehash(self, credential_id: UUID, was: str, secret_hash: str, tag: str) -> bool:
        """Puts another hash of the same secret in the place of `was`, with its tag; False, and
        nothing is changed, when `was` is not what is there, or is revoked."""
        ...

    async def used(self, uses: Mapping[UUID, datetime]) -> Collection[UUID]:
        """Raises `last_used_at` of each to the instant given, unless it is later already. Those
        that another unit holds right now are passed over; their ids, and those that are unknown, in
        the order of `uses`."""
        ...

    async def revoke_all(self, client_id: UUID, now: datetime) -> Sequence[UUID]:
        """Revokes every credential of the client whose status is active, expired ones included;
        their ids, in the order of `page` reversed."""
        ...


class AuditStore(Protocol):
    async def append(self, *events: AuditEvent) -> None:
        """Appends, and there is nothing else: no event is ever changed or deleted here. An
        `event_id` that is already there is left as it is, so a repeated append is harmless. Each
        is made from its event's instant, in a month that the tenant was provisioned for."""
        ...


class RevocationStore(Protocol):
    async def add(self, revocation: Revocation) -> bool:
        """Whether it is new; a repeated one is left as it was."""
        ...

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        """As the reader's, within the unit. It still holds when the unit ends if the unit holds
        the agent's row: whoever cuts a token holds that row for it."""
        ...


class UnitOfWork(Protocol):
    async def tenant(self) -> Tenant | None:
        """The tenant's registry row, to be asked for before any other row is held. Whoever has
        changed it and then taken a unit of the tenant knows that every unit which had read it as
        it was before is over."""
        ...

    @property
    def agents(self) -> AgentStore: ...
    @property
    def credentials(self) -> CredentialStore: ...
    @property
    def audit(self) -> AuditStore: ...
    @property
    def revocations(self) -> RevocationStore: ...


class JointUnit(UnitOfWork, Protocol):
    """A unit of a tenant and one of the registry, committed together or not at all.

    Whoever changes the tenant's row holds it first, before anything else: others wait for it while
    they hold rows of the tenant.
    """

    @property
    def registry(self) -> RegistryUnit: ...


class Trail(Protocol):
    """What changes nothing and is to be known all the same: events of many requests, written
    together. Whatever changes something writes its event in its own unit."""

    async def append(self, tenant: TenantPrefix, event: AuditEvent) -> None:
        """Returns once the event is committed. One whose id is there already is left as it is.
        Raises Unavailable when that cannot be said, or too much is waiting: the event may be there
        then, and appending it again is harmless."""
        ...

    def used(self, tenant: TenantPrefix, credential: Credential, at: datetime) -> None:
        """Notes that the credential was used, where what it says of its last use is a minute old:
        in `last_used_at`, soon, at the latest on `close`. Told of every use; never raises."""
        ...


class Storage(Protocol):
    def read(self, tenant: TenantPrefix) -> TenantReader: ...

    def unit(self, tenant: TenantPrefix) -> AbstractAsyncContextManager[UnitOfWork]: ...

    def joint_unit(self, tenant: TenantPrefix) -> AbstractAsyncContextManager[JointUnit]:
        """No unit of the registry is begun inside it."""
        ...

    @property
    def trail(self) -> Trail: ...

    @property
    def registry(self) -> RegistryReader: ...

    def registry_unit(self) -> AbstractAsyncContextManager[RegistryUnit]: ...

    @property
    def upkeep(self) -> Upkeep: ...

    async def check(self) -> None:
        """That the store answers and its registry is at head. Raises Unavailable."""
        ...

    async def close(self) -> None:
        """What the trail was given is written first."""
        ...
