"""Credentials: read, generated, rotated, revoked. A secret is in two payloads, and nowhere else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET

from db import records
from db.filters import CredentialFilter
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
from gateway.graphql.nodes import FINDERS, Node
from gateway.graphql.pages import Connection, Counter, given
from gateway.services.credentials import READ, WRITE

if TYPE_CHECKING:
    from gateway.graphql.agents import Agent


@strawberry.type(description="A client secret of an agent, without the secret.")
class Credential(Node):
    """A record stands for it: fields without a resolver are read from the record by name."""

    credential_id: UUID
    client_id: UUID = strawberry.field(description="The agent's id: what it calls itself to OAuth.")
    label: str | None
    status: enums.CredentialStatus
    created_at: datetime
    expires_at: datetime | None = strawberry.field(description="Null: it does not end by itself.")
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, records.Credential)

    @guarded("agents:read")
    async def agent(
        self, info: Info
    ) -> Annotated[Agent, strawberry.lazy("gateway.graphql.agents")]:
        wanted = selection.AGENT.wanted(info, selection.ITSELF)
        return cast("Agent", await info.context.loaders.agent(self.client_id, wanted))


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
    info: Info, agent_id: UUID, filter: CredentialFilter, request: PageRequest
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


@strawberry.input
class GenerateCredentialInput:
    agent_id: UUID
    expires_at: datetime | None = UNSET
    label: str | None = UNSET


@strawberry.input
class RotateCredentialInput:
    credential_id: UUID


@strawberry.input
class RevokeCredentialInput:
    credential_id: UUID


@strawberry.type(description="The only place where this secret is ever shown.")
class CredentialGenerated:
    credential: Credential
    client_id: UUID
    client_secret: str


@strawberry.type(
    description="The old secret has ended; this is the only place where the new one is shown."
)
class CredentialRotated:
    credential: Credential
    client_secret: str


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
    CredentialRotated | NotFound | CredentialNotActive | AgentNotActive | ScopeExceeded,
    strawberry.union("RotateCredentialPayload"),
]
RevokeCredentialPayload = Annotated[
    CredentialRevoked | NotFound | CredentialNotActive, strawberry.union("RevokeCredentialPayload")
]


@strawberry.type
class CredentialMutations:
    @guarded(WRITE, or_self=True, description="Makes a client secret for an agent.")
    async def generate_credential(
        self, info: Info, input: GenerateCredentialInput
    ) -> GenerateCredentialPayload:
        context = info.context
        fresh = await context.gateway.credentials.generate(
            context.call,
            input.agent_id,
            expires_at=given(input.expires_at),
            label=given(input.label),
        )
        return CredentialGenerated(
            credential=shown(fresh.credential),
            client_id=fresh.credential.client_id,
            client_secret=fresh.secret,
        )

    @guarded(
        WRITE,
        or_self=True,
        description="Replaces a secret. The new credential keeps the label and the expiry.",
    )
    async def rotate_credential(
        self, info: Info, input: RotateCredentialInput
    ) -> RotateCredentialPayload:
        context = info.context
        fresh = await context.gateway.credentials.rotate(context.call, input.credential_id)
        return CredentialRotated(credential=shown(fresh.credential), client_secret=fresh.secret)

    @guarded(WRITE, or_self=True, description="Ends a secret, for good.")
    async def revoke_credential(
        self, info: Info, input: RevokeCredentialInput
    ) -> RevokeCredentialPayload:
        context = info.context
        revoked = await context.gateway.credentials.revoke(context.call, input.credential_id)
        return CredentialRevoked(credential=shown(revoked))
