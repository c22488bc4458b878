"""Tenants: looked at, by the operator alone."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import strawberry
from strawberry import UNSET

from db import filters, records
from gateway.graphql import enums
from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.filters import TenantFilter
from gateway.graphql.pages import Connection, Count, Counter, Cursor, given, page_request


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
