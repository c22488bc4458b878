"""Signing keys: looked at and rotated by the operator, never a private half among them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET

from gateway.graphql import enums
from gateway.graphql.access import OPERATOR, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import IdempotencyKeyReused, InvalidTransition, NotFound
from gateway.graphql.pages import given
from gateway.services.keys import KeyStanding


@strawberry.type(
    description=(
        "A key that signs the access tokens of every tenant, or did, or will. Those that "
        "SIGNING_KEYS gives have no dates."
    )
)
class SigningKey:
    """A standing stands for it: fields are read from it by name."""

    kid: str = strawberry.field(description="Its thumbprint (RFC 7638).")
    algorithm: enums.SigningAlgorithm
    status: enums.SigningKeyStatus
    created_at: datetime | None
    changed_at: datetime | None = strawberry.field(description="When it got its status.")
    ready_at: datetime | None = strawberry.field(
        description="From when on every verifier knows it; null for one that is retired."
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, KeyStanding)


@strawberry.type
class SigningKeyQueries:
    @guarded(
        OPERATOR,
        description=(
            "The one that signs first, then those that verify beside it by age, then the retired, "
            "the last that was first."
        ),
    )
    async def signing_keys(self, info: Info) -> list[SigningKey]:
        return cast("list[SigningKey]", await info.context.gateway.keys.all())


@strawberry.input
class PublishSigningKeyInput:
    algorithm: enums.SigningAlgorithm
    idempotency_key: UUID | None = strawberry.field(
        default=UNSET,
        description=(
            "Of your own making: for a day, a repetition with the same key changes nothing and is "
            "told what came of the first."
        ),
    )


@strawberry.input
class ActivateSigningKeyInput:
    kid: str
    immediately: bool = strawberry.field(
        default=False,
        description=(
            "Before `readyAt`: verifiers that keep the key set from before refuse its tokens until "
            "they look again."
        ),
    )


@strawberry.input
class RetireSigningKeyInput:
    kid: str


@strawberry.type(description="Everybody can know it from now on; it signs nothing yet.")
class SigningKeyPublished:
    signing_key: SigningKey


@strawberry.type(description="It signs; the one before it is published on, and its tokens verify.")
class SigningKeyActivated:
    signing_key: SigningKey


@strawberry.type(description="Every token that it has signed is refused from now on.")
class SigningKeyRetired:
    signing_key: SigningKey


PublishSigningKeyPayload = Annotated[
    SigningKeyPublished | InvalidTransition | IdempotencyKeyReused,
    strawberry.union("PublishSigningKeyPayload"),
]
ActivateSigningKeyPayload = Annotated[
    SigningKeyActivated | NotFound | InvalidTransition,
    strawberry.union("ActivateSigningKeyPayload"),
]
RetireSigningKeyPayload = Annotated[
    SigningKeyRetired | NotFound | InvalidTransition, strawberry.union("RetireSigningKeyPayload")
]


@strawberry.type
class SigningKeyMutations:
    @guarded(
        OPERATOR,
        description=(
            "The first of three steps of a rotation: a new key, for verifiers to fetch. Refused, "
            "as the other two are, while SIGNING_KEYS says which keys there are."
        ),
    )
    async def publish_signing_key(
        self, info: Info, input: PublishSigningKeyInput
    ) -> PublishSigningKeyPayload:
        context = info.context
        key = await context.gateway.keys.publish(
            context.call, input.algorithm, given(input.idempotency_key)
        )
        return SigningKeyPublished(signing_key=_shown(key))

    @guarded(
        OPERATOR,
        description=(
            "The second: it signs, on every gateway within five seconds. Refused before `readyAt`, "
            "unless `immediately`."
        ),
    )
    async def activate_signing_key(
        self, info: Info, input: ActivateSigningKeyInput
    ) -> ActivateSigningKeyPayload:
        context = info.context
        key = await context.gateway.keys.activate(
            context.call, input.kid, immediately=input.immediately
        )
        return SigningKeyActivated(signing_key=_shown(key))

    @guarded(
        OPERATOR,
        description=(
            "The third, when the last of its tokens has ended, or at once for a key in wrong "
            "hands: they end with it. The key that signs cannot be retired. One that is retired "
            "already is refused, after that was made known once more: repeat it when the first "
            "answer was UNAVAILABLE."
        ),
    )
    async def retire_signing_key(
        self, info: Info, input: RetireSigningKeyInput
    ) -> RetireSigningKeyPayload:
        context = info.context
        key = await context.gateway.keys.retire(context.call, input.kid)
        return SigningKeyRetired(signing_key=_shown(key))


def _shown(key: KeyStanding) -> SigningKey:
    return cast(SigningKey, key)
