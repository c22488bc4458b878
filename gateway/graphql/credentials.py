"""Credentials: read, generated, rotated, revoked. A secret is in two payloads, and nowhere else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET
from strawberry.scalars import JSON

from db import errors, filters, records
from db.pages import PageRequest
from gateway.graphql import enums, selection
from gateway.graphql.access import Access, guarded
from gateway.graphql.context import Context, Info
from gateway.graphql.errors import (
    AgentNotActive,
    CredentialNotActive,
    InvalidInput,
    NotFound,
    ScopeExceeded,
    TooManyCredentials,
)
from gateway.graphql.filters import CredentialFilter
from gateway.graphql.nodes import FINDERS, Node
from gateway.graphql.pages import Connection, Count, Counter, Cursor, given, page_request
from gateway.services.credentials import READ, WRITE
from gateway.services.rotation import MAX_OVERLAP

if TYPE_CHECKING:
    from gateway.graphql.agents import Agent


@strawberry.type(
    description="What an agent proves itself by: a client secret, which is never shown, or a key."
)
class Credential(Node):
    """A record stands for it: fields without a resolver are read from the record by name."""

    credential_id: UUID
    client_id: UUID = strawberry.field(description="The agent's id: what it calls itself to OAuth.")
    label: str | None
    status: enums.CredentialStatus
    created_at: datetime
    expires_at: datetime | None = strawberry.field(description="Null: it does not end by itself.")
    revoked_at: datetime | None
    last_used_at: datetime | None = strawberry.field(description="Accurate to a minute.")
    public_key: JSON | None = strawberry.field(
        description="Of a key for `private_key_jwt` the public half, as a JWK. Null: a secret."
    )

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, records.Credential)

    @guarded("agents:read")
    async def agent(
        self, info: Info
    ) -> Annotated[Agent, strawberry.lazy("gateway.graphql.agents")]:
        wanted = selection.AGENT.wanted(info, selection.ITSELF)
        return cast("Agent", await info.context.loaders.agent(self.client_id, wanted))

    @guarded(
        READ,
        or_self=True,
        description=(
            "What a rotation has put in its place. After an overlap the old one ends by itself, "
            "at `expiresAt`."
        ),
    )
    async def replaced_by(self, info: Info) -> Credential | None:
        successor = cast(records.Credential, self).replaced_by
        if successor is None:
            return None
        wanted = selection.CREDENTIAL.wanted(info, selection.ITSELF)
        return _shown_if_any(await info.context.loaders.credential(successor, wanted))


def shown(credential: records.Credential) -> Credential:
    return cast(Credential, credential)


def _shown_if_any(credential: records.Credential | None) -> Credential | None:
    return cast("Credential | None", credential)


async def _find(context: Context, credential_id: UUID) -> Node | None:
    return _shown_if_any(await context.loaders.credential(credential_id))


FINDERS["Credential"] = (Access(requires=READ, or_self=True), _find)


@strawberry.type
class CredentialConnection(Connection[Credential]):
    pass


async def credentials_of(
    info: Info, agent_id: UUID, filter: filters.CredentialFilter, request: PageRequest
) -> CredentialConnection:
    """Raises Forbidden and InvalidCursor."""
    loaders = info.context.loaders
    page = await loaders.credentials(
        agent_id, request, filter, selection.CREDENTIAL.wanted(info, selection.ROWS)
    )
    counter = Counter(lambda: loaders.count_credentials(agent_id, filter))
    return CredentialConnection(page=page, counter=counter)


@strawberry.type
class CredentialQueries:
    @guarded(READ, or_self=True)
    async def credential(self, info: Info, credential_id: UUID) -> Credential | None:
        context = info.context
        return _shown_if_any(await context.gateway.credentials.get(context.call, credential_id))

    @guarded(
        READ,
        description=(
            "Of all agents, newest first. Which old secrets are still in use: those that are "
            "`replaced`, active, and used of late."
        ),
    )
    async def credentials(
        self,
        info: Info,
        filter: CredentialFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> CredentialConnection:
        context, filter = info.context, given(filter)
        request = page_request(first, after, last, before)
        meant = filters.CredentialFilter() if filter is None else filter.meant()
        service = context.gateway.credentials
        page = await service.page(
            context.call, request, meant, selection.CREDENTIAL.wanted(info, selection.ROWS)
        )
        counter = Counter(lambda: service.count(context.call, meant))
        return CredentialConnection(page=page, counter=counter)


_PUBLIC_KEY = (
    "A public JWK, for an agent that signs its client assertions (`private_key_jwt`): EC on P-256, "
    "OKP on Ed25519, or RSA of 2048 to 4096 bits. No secret is made then."
)


@strawberry.input
class GenerateCredentialInput:
    agent_id: UUID
    expires_at: datetime | None = UNSET
    label: str | None = UNSET
    public_key: JSON | None = strawberry.field(default=UNSET, description=_PUBLIC_KEY)


@strawberry.input
class RotateCredentialInput:
    credential_id: UUID
    overlap_seconds: int | None = strawberry.field(
        default=UNSET,
        description=(
            f"For how long the old one works on beside the new one: 0, the default, to "
            f"{MAX_OVERLAP}. With 0 its tokens end with it; otherwise they live on after its end."
        ),
    )
    public_key: JSON | None = strawberry.field(
        default=UNSET,
        description=f"{_PUBLIC_KEY} A key is replaced by a key, a secret by either.",
    )


@strawberry.input
class RevokeCredentialInput:
    credential_id: UUID


_CLIENT_SECRET = "The only place where it is ever shown. Null for a key."


@strawberry.type
class CredentialGenerated:
    credential: Credential
    client_id: UUID
    client_secret: str | None = strawberry.field(description=_CLIENT_SECRET)


@strawberry.type(description="The old one has ended, or will when the overlap is over.")
class CredentialRotated:
    credential: Credential
    client_secret: str | None = strawberry.field(description=_CLIENT_SECRET)


@strawberry.type(description="The tokens issued to it are refused from now on.")
class CredentialRevoked:
    credential: Credential


GenerateCredentialPayload = Annotated[
    CredentialGenerated
    | InvalidInput
    | NotFound
    | AgentNotActive
    | ScopeExceeded
    | TooManyCredentials,
    strawberry.union("GenerateCredentialPayload"),
]
RotateCredentialPayload = Annotated[
    CredentialRotated
    | InvalidInput
    | NotFound
    | CredentialNotActive
    | AgentNotActive
    | ScopeExceeded
    | TooManyCredentials,
    strawberry.union("RotateCredentialPayload"),
]
RevokeCredentialPayload = Annotated[
    CredentialRevoked | NotFound | CredentialNotActive, strawberry.union("RevokeCredentialPayload")
]


@strawberry.type
class CredentialMutations:
    @guarded(
        WRITE,
        or_self=True,
        description="Makes a client secret for an agent, or takes the public half of its key.",
    )
    async def generate_credential(
        self, info: Info, input: GenerateCredentialInput
    ) -> GenerateCredentialPayload:
        call, service = info.context.call, info.context.gateway.credentials
        agent_id, key, secret = input.agent_id, _key(input.public_key), None
        expires_at, label = given(input.expires_at), given(input.label)
        if key is None:
            fresh = await service.generate(call, agent_id, expires_at=expires_at, label=label)
            credential, secret = fresh.credential, fresh.secret
        else:
            credential = await service.enrol(
                call, agent_id, cast(records.JSON, key), expires_at=expires_at, label=label
            )
        return CredentialGenerated(
            credential=shown(credential), client_id=credential.client_id, client_secret=secret
        )

    @guarded(
        WRITE,
        or_self=True,
        description=(
            "Replaces a secret or a key, once. The new credential keeps the label and the expiry; "
            "the old one ends at once, or works on for an overlap."
        ),
    )
    async def rotate_credential(
        self, info: Info, input: RotateCredentialInput
    ) -> RotateCredentialPayload:
        call, service = info.context.call, info.context.gateway.credentials
        credential_id, key, secret = input.credential_id, _key(input.public_key), None
        overlap = given(input.overlap_seconds) or 0
        if key is None:
            fresh = await service.rotate(call, credential_id, overlap_seconds=overlap)
            credential, secret = fresh.credential, fresh.secret
        else:
            credential = await service.rotate_to_key(
                call, credential_id, cast(records.JSON, key), overlap_seconds=overlap
            )
        return CredentialRotated(credential=shown(credential), client_secret=secret)

    @guarded(WRITE, or_self=True, description="Ends a secret or a key, for good.")
    async def revoke_credential(
        self, info: Info, input: RevokeCredentialInput
    ) -> RevokeCredentialPayload:
        context = info.context
        revoked = await context.gateway.credentials.revoke(context.call, input.credential_id)
        return CredentialRevoked(credential=shown(revoked))


def _key(public_key: JSON | None) -> JSON | None:
    """None for one that was left out. Raises InvalidInput for null: whoever has lost a key on the
    way should not be given a secret."""
    if public_key is None:
        raise errors.InvalidInput(
            "publicKey cannot be null; leave it out for a secret", ("publicKey",)
        )
    return given(public_key)
