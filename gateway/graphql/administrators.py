"""A tenant's first administrator: the operator gives it a new secret."""

from __future__ import annotations

from typing import Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET

from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import EmailTaken, InvalidInput, InvalidTransition, NotFound
from gateway.graphql.pages import given
from gateway.graphql.tenants import Tenant


@strawberry.input
class ResetTenantAdministratorInput:
    slug: str
    admin_email: str | None = strawberry.field(
        default=UNSET,
        description="Of a new administrator, for a tenant that has none or whose is gone for good.",
    )


@strawberry.type(
    description=(
        "The administrator's new secret; those that it had, and their tokens, are refused from now "
        "on. This is the only place where the new one is ever shown."
    )
)
class TenantAdministratorReset:
    tenant: Tenant
    client_id: UUID
    client_secret: str


ResetTenantAdministratorPayload = Annotated[
    TenantAdministratorReset | InvalidInput | NotFound | InvalidTransition | EmailTaken,
    strawberry.union("ResetTenantAdministratorPayload"),
]


@strawberry.type
class AdministratorMutations:
    @guarded(
        OPERATOR,
        description=(
            "Lets a tenant back in that has locked itself out: its first administrator is active "
            "again, has every capability of the gateway, and one secret, which is new. A kill "
            "switch that is engaged stays so: the secret works once it is released."
        ),
    )
    async def reset_tenant_administrator(
        self, info: Info, input: ResetTenantAdministratorInput
    ) -> ResetTenantAdministratorPayload:
        context = info.context
        reset = await context.gateway.administrators.reset(
            context.call, input.slug, given(input.admin_email)
        )
        return TenantAdministratorReset(
            tenant=cast(Tenant, reset.tenant),
            client_id=reset.administrator.agent_id,
            client_secret=reset.secret,
        )
