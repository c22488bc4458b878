"""Onboarding: the operator makes a tenant, and is told its first administrator's secret."""

from __future__ import annotations

from typing import Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET

from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import IdempotencyKeyReused, InvalidInput, SlugTaken
from gateway.graphql.pages import given
from gateway.graphql.tenants import Tenant


@strawberry.input
class OnboardTenantInput:
    slug: str
    display_name: str
    admin_email: str = strawberry.field(description="The address of the first administrator.")
    idempotency_key: UUID | None = strawberry.field(
        default=UNSET,
        description=(
            "Of your own making: for a day, a repetition with the same key changes nothing and is "
            "told what came of the first."
        ),
    )


@strawberry.type(
    description=(
        "The tenant, which is served once it is ACTIVE, and its first administrator's secret. This "
        "is the only place where that secret is ever shown."
    )
)
class TenantOnboarded:
    tenant: Tenant
    client_id: UUID
    client_secret: str | None = strawberry.field(
        description="Null in the answer to a repetition: nobody knows it any more."
    )


OnboardTenantPayload = Annotated[
    TenantOnboarded | InvalidInput | SlugTaken | IdempotencyKeyReused,
    strawberry.union("OnboardTenantPayload"),
]


@strawberry.type
class OnboardingMutations:
    @guarded(
        OPERATOR,
        description=(
            "Registers a tenant; its tables are made and its first administrator is admitted soon "
            "after. What becomes of it is in `tenant(slug) { status statusReason }`."
        ),
    )
    async def onboard_tenant(self, info: Info, input: OnboardTenantInput) -> OnboardTenantPayload:
        context = info.context
        made = await context.gateway.onboarding.onboard(
            context.call,
            input.slug,
            input.display_name,
            input.admin_email,
            given(input.idempotency_key),
        )
        return TenantOnboarded(
            tenant=cast(Tenant, made.tenant),
            client_id=made.client_id,
            client_secret=made.secret,
        )
