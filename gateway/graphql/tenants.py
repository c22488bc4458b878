"""Tenants: looked at, changed, suspended, brought back and removed, by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeVar, cast

import strawberry
from strawberry import UNSET

from db import errors, filters, records
from gateway.graphql import enums
from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import InvalidInput, InvalidTransition, NotFound
from gateway.graphql.filters import TenantFilter
from gateway.graphql.kill_switch import KillSwitch, switch_of
from gateway.graphql.pages import (
    Connection,
    Count,
    Counter,
    Cursor,
    described,
    given,
    page_request,
)
from gateway.services.tenants import TenantChanges

T = TypeVar("T")


@strawberry.type(description="A row of the registry; its slug is also the prefix of its tables.")
class Tenant:
    """A record stands for it: fields are read from the record by name."""

    slug: str
    display_name: str
    status: enums.TenantStatus
    status_reason: str | None = strawberry.field(
        description="Why it is not active, where there is more to say than its status."
    )
    revision: str | None = strawberry.field(description="The migration that its tables are at.")
    retention_days: int | None = strawberry.field(
        description="How long its trail can be read; null: as the deployment says."
    )
    resource_servers: list[str] = strawberry.field(
        description="Whom its tokens may be made for, besides this gateway."
    )
    created_at: datetime
    updated_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, records.Tenant)

    @described("Null while it is not engaged. While it is, all its agents are stopped.")
    def kill_switch(self) -> KillSwitch | None:
        return switch_of(cast(records.Tenant, self))

    @described(
        "When all that it has is exported and dropped: it can be reactivated until then. Null for "
        "one that is not being removed."
    )
    async def removes_at(self, info: Info) -> datetime | None:
        if self.status is not enums.TenantStatus.REMOVING:
            return None
        return await info.context.loaders.removal(self.slug)


@strawberry.type
class TenantConnection(Connection[Tenant]):
    pass


@strawberry.type
class TenantQueries:
    @guarded(OPERATOR)
    async def tenant(self, info: Info, slug: str) -> Tenant | None:
        return cast("Tenant | None", await info.context.gateway.tenants.get(slug))

    @guarded(OPERATOR, description="By slug.")
    async def tenants(
        self,
        info: Info,
        filter: TenantFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> TenantConnection:
        service, filter = info.context.gateway.tenants, given(filter)
        request = page_request(first, after, last, before)
        meant = filters.TenantFilter() if filter is None else filter.meant()
        page = await service.page(request, meant)
        return TenantConnection(page=page, counter=Counter(lambda: service.count(meant)))


@strawberry.input
class UpdateTenantInput:
    """What is left out stays as it is."""

    slug: str
    display_name: str | None = UNSET
    retention_days: int | None = strawberry.field(
        default=UNSET,
        description=(
            "1 to 36500; null: as the deployment says. What is older can be read no more at once, "
            "and goes with the next purge: a longer retention does not bring it back."
        ),
    )

    resource_servers: list[str] | None = strawberry.field(
        default=UNSET,
        description=(
            "Absolute URIs without a fragment, at most 64: all of them, in the place of what was. "
            "`resource` has to say one exactly as it is written here. Tokens for one that is taken "
            "away are good until they end."
        ),
    )

    def meant(self) -> TenantChanges:
        changes = TenantChanges()
        """Raises InvalidInput for a null that would have no meaning."""
        if self.display_name is not UNSET:
            changes["display_name"] = _said(self.display_name, "displayName")
        if self.retention_days is not UNSET:
            changes["retention_days"] = self.retention_days
        if self.resource_servers is not UNSET:
            changes["resource_servers"] = tuple(_said(self.resource_servers, "resourceServers"))
        return changes


@strawberry.input
class SuspendTenantInput:
    slug: str
    reason: str | None = strawberry.field(
        default=UNSET, description="For the operator's own trail, and `statusReason`."
    )


@strawberry.input
class ReactivateTenantInput:
    slug: str


@strawberry.input
class RemoveTenantInput:
    slug: str
    reason: str | None = strawberry.field(
        default=UNSET, description="For the operator's own trail, and `statusReason`."
    )


@strawberry.type
class TenantUpdated:
    tenant: Tenant


@strawberry.type(
    description="Every request of its agents, and every token, is refused from now on."
)
class TenantSuspended:
    tenant: Tenant


@strawberry.type(description="Its agents may ask for new tokens; those from before stay refused.")
class TenantReactivated:
    tenant: Tenant


@strawberry.type(description="Refused from now on; its data goes at `removesAt`.")
class TenantRemovalRequested:
    tenant: Tenant


UpdateTenantPayload = Annotated[
    TenantUpdated | InvalidInput | NotFound | InvalidTransition,
    strawberry.union("UpdateTenantPayload"),
]
SuspendTenantPayload = Annotated[
    TenantSuspended | InvalidInput | NotFound | InvalidTransition,
    strawberry.union("SuspendTenantPayload"),
]
ReactivateTenantPayload = Annotated[
    TenantReactivated | NotFound | InvalidTransition, strawberry.union("ReactivateTenantPayload")
]
RemoveTenantPayload = Annotated[
    TenantRemovalRequested | InvalidInput | NotFound | InvalidTransition,
    strawberry.union("RemoveTenantPayload"),
]


@strawberry.type
class TenantMutations:
    @guarded(
        OPERATOR, description="Its name, how long its trail is kept, and its resource servers."
    )
    async def update_tenant(self, info: Info, input: UpdateTenantInput) -> UpdateTenantPayload:
        context = info.context
        tenant = await context.gateway.tenants.update(context.call, input.slug, input.meant())
        return TenantUpdated(tenant=_shown(tenant))

    @guarded(
        OPERATOR,
        description=(
            "An active tenant. One that is suspended already is refused, after the suspension was "
            "made known once more: repeat it when the first answer was UNAVAILABLE."
        ),
    )
    async def suspend_tenant(self, info: Info, input: SuspendTenantInput) -> SuspendTenantPayload:
        context = info.context
        tenant = await context.gateway.tenants.suspend(
            context.call, input.slug, given(input.reason)
        )
        return TenantSuspended(tenant=_shown(tenant))

    @guarded(OPERATOR, description="A suspended tenant, or one whose removal has not begun yet.")
    async def reactivate_tenant(
        self, info: Info, input: ReactivateTenantInput
    ) -> ReactivateTenantPayload:
        context = info.context
        tenant = await context.gateway.tenants.reactivate(context.call, input.slug)
        return TenantReactivated(tenant=_shown(tenant))

    @guarded(
        OPERATOR,
        description=(
            "In two steps: refused at once, and until `removesAt` it can be reactivated. Then all "
            "that it has is exported, dropped, and its slug is never given again."
        ),
    )
    async def remove_tenant(self, info: Info, input: RemoveTenantInput) -> RemoveTenantPayload:
        context = info.context
        tenant = await context.gateway.tenants.remove(context.call, input.slug, given(input.reason))
        return TenantRemovalRequested(tenant=_shown(tenant))


def _shown(tenant: records.Tenant) -> Tenant:
    return cast(Tenant, tenant)


def _said(value: T | None, path: str) -> T:
    if value is None:
        raise errors.InvalidInput(f"{path} cannot be null; leave it out to keep it", (path,))
    return value
