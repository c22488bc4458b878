"""A bearer token becomes a principal, or the request goes no further.

Every time, whatever is cached: the signature and the times, the tenant's row, and the revocation.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

from db.contract import Storage
from db.errors import Unauthenticated
from db.namespace import prefix_problem
from db.records import Tenant
from db.revocations import Revocations
from gateway.auth.principal import AgentPrincipal, Anonymous, Operator, Principal
from gateway.auth.tokens import Claims, TokenAuthority


class Authenticator:
    """`operator_token` None means that there is no operator."""

    def __init__(
        self,
        storage: Storage,
        tokens: TokenAuthority,
        revocations: Revocations,
        operator_token: str | None,
    ) -> None:
        self._storage = storage
        self._tokens = tokens
        self._revocations = revocations
        self._operator = operator_token.encode() if operator_token else None

    async def bearer(self, authorization: Sequence[str], now: datetime) -> Principal:
        """From the values of all Authorization headers; none at all is Anonymous.

        Raises Unauthenticated for anything that is not exactly one accepted token, and
        Unavailable. Source: RFC 6750 §2.1, RFC 9110 §11.1 (the scheme is case-insensitive).
        """
        if not authorization:
            return Anonymous()
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send one Authorization header: Bearer and the token")
        if self._operator and hmac.compare_digest(token.encode("utf-8", "replace"), self._operator):
            return Operator()
        claims = self._tokens.verify(token, now)
        tenant = await self.active_tenant(claims.slug)
        if tenant is None or not await self.is_live(tenant, claims):
            raise Unauthenticated("the access token is not accepted")
        return AgentPrincipal(
            tenant, claims.sub, claims.credential_id, claims.scopes, claims.gen, claims.jti
        )

    async def is_live(self, tenant: Tenant, claims: Claims) -> bool:
        """Whether a verified token of this tenant is still accepted. Raises Unavailable."""
        return await self._revocations.accepts(
            tenant,
            jti=claims.jti,
            agent_id=claims.sub,
            credential_id=claims.credential_id,
            generation=claims.gen,
            kid=claims.kid,
        )

    async def active_tenant(self, slug: str) -> Tenant | None:
        """The tenant of a slug from a path, an argument or a token, if it may be served."""
        if prefix_problem(slug) is not None:
            return None
        tenant = await self._storage.registry.tenants.get(slug)
        return tenant if tenant is not None and tenant.is_active else None
