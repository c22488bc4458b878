"""Tokens: issued, looked into, revoked; the same services as behind the OAuth endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import UNSET

from db import errors
from gateway.auth.clients import ClientSecret
from gateway.auth.tokens import Claims
from gateway.auth.unproven import ClientAssertion
from gateway.graphql.access import PUBLIC, guarded
from gateway.graphql.context import Info
from gateway.graphql.errors import InvalidClient, InvalidInput, InvalidScope, InvalidTarget
from gateway.graphql.pages import given
from gateway.services.tokens import READ, WRITE


@strawberry.input(description="With `clientId` and `clientSecret`, or with `clientAssertion`.")
class IssueTokenInput:
    tenant: str
    client_id: str | None = strawberry.field(
        default=UNSET, description="With an assertion it may be left out: that names it."
    )
    client_secret: str | None = UNSET
    client_assertion: str | None = strawberry.field(
        default=UNSET,
        description=(
            "A JWT that the client signed with a key of its own, for the tenant's issuer as its "
            "one audience; good once, and for five minutes at most."
        ),
    )
    scope: str | None = strawberry.field(
        default=UNSET, description="Capabilities with spaces between; left out: all of them."
    )
    resource: list[str] | None = strawberry.field(
        default=UNSET,
        description=(
            "Whom the token is for: this gateway's issuer, or resource servers of the tenant as "
            "they are registered. Left out: this gateway."
        ),
    )

    def proof(self) -> ClientSecret | ClientAssertion:
        """Raises InvalidInput."""
        client_id, secret = given(self.client_id), given(self.client_secret)
        assertion = given(self.client_assertion)
        if (secret is None) == (assertion is None):
            raise errors.InvalidInput(
                "a client proves itself by clientSecret or by clientAssertion: send one of them",
                ("clientSecret" if secret is None else "clientAssertion",),
            )
        if assertion is not None:
            return ClientAssertion.read(assertion, client_id)
        if client_id is None or secret is None:
            raise errors.InvalidInput("a secret needs its clientId", ("clientId",))
        return ClientSecret(client_id, secret)


@strawberry.input
class IntrospectTokenInput:
    token: str


@strawberry.input
class RevokeTokenInput:
    token: str


@strawberry.type(description="The only place where this token is ever shown.")
class TokenIssued:
    access_token: str
    token_type: str
    expires_in: int = strawberry.field(description="In seconds.")
    scope: str


@strawberry.type(
    description=(
        "What is known of a token. When it is not active there is nothing but that, whatever the "
        "reason."
    )
)
class TokenIntrospection:
    active: bool
    client_id: UUID | None = None
    scope: str | None = None
    token_type: str | None = None
    expires_at: datetime | None = None
    issued_at: datetime | None = None
    issuer: str | None = None
    audience: list[str] | None = None
    jti: UUID | None = None
    credential_id: UUID | None = None


@strawberry.type(description="The token is not accepted, if it ever was.")
class TokenRevoked:
    active: bool


IssueTokenPayload = Annotated[
    TokenIssued | InvalidInput | InvalidClient | InvalidScope | InvalidTarget,
    strawberry.union("IssueTokenPayload"),
]


@strawberry.type
class TokenMutations:
    @guarded(
        PUBLIC,
        description="The grant of client_credentials; the client proves itself with it.",
    )
    async def issue_token(self, info: Info, input: IssueTokenInput) -> IssueTokenPayload:
        gateway = info.context.gateway
        proof = input.proof()
        tenant = await gateway.authenticator.active_tenant(input.tenant, info.context.call.now)
        call, client = await gateway.clients.authenticate(info.context.call, tenant, proof)
        token = await gateway.tokens.issue(
            call, client, given(input.scope), given(input.resource) or []
        )
        return TokenIssued(
            access_token=token.access_token,
            token_type="Bearer",
            expires_in=token.expires_in,
            scope=token.scope,
        )

    @guarded(
        READ,
        or_self=True,
        description="A mutation, because looking into a token is written to the trail.",
    )
    async def introspect_token(self, info: Info, input: IntrospectTokenInput) -> TokenIntrospection:
        context = info.context
        claims = (await context.gateway.tokens.introspect(context.call, input.token)).claims
        return TokenIntrospection(active=False) if claims is None else _described(claims)

    @guarded(
        WRITE,
        or_self=True,
        description="What is no live token of the tenant is left alone, and not told apart.",
    )
    async def revoke_token(
        self, info: Info, input: RevokeTokenInput
    ) -> Annotated[TokenRevoked, strawberry.union("RevokeTokenPayload")]:
        context = info.context
        await context.gateway.tokens.revoke(context.call, input.token)
        return TokenRevoked(active=False)


def _described(claims: Claims) -> TokenIntrospection:
    return TokenIntrospection(
        active=True,
        client_id=claims.client_id,
        scope=claims.scope,
        token_type="Bearer",
        expires_at=claims.expires_at,
        issued_at=datetime.fromtimestamp(claims.iat, UTC),
        issuer=claims.iss,
        audience=[claims.aud] if isinstance(claims.aud, str) else claims.aud,
        jti=claims.jti,
        credential_id=claims.credential_id,
    )
