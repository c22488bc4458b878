"""A bearer token becomes a principal, or the request goes no further.

Every time, whatever is cached: the signature and the times, and the revocation. The tenant's row is
the one in the registry, or one that is proven to be as good (`gateway.auth.tenants`); with that, a
request that the cache can answer asks nobody else, and once.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import datetime

from db.errors import MalformedAuthorization, Unauthenticated
from db.records import Tenant
from db.revocations import Revocations
from gateway.auth.principal import AgentPrincipal, Anonymous, Operator, Principal
from gateway.auth.tenants import Tenants
from gateway.auth.tokens import Claims, TokenAuthority

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Authenticator:
    """`operator_token` None means that there is no operator."""

    def __init__(
        self,
        tenants: Tenants,
        tokens: TokenAuthority,
        revocations: Revocations,
        operator_token: str | None,
    ) -> None:
        self._tenants = tenants
        self._tokens = tokens
        self._revocations = revocations
        self._operator = operator_token.encode() if operator_token else None

    async def bearer(self, authorization: Sequence[str], now: datetime) -> Principal:
        """From the values of all Authorization headers; none at all is Anonymous.

        Raises Unauthenticated for anything that is not exactly one accepted token,
        MalformedAuthorization for what is no token at all or more than one, and Unavailable.
        Source: RFC 6750 §2.1 and §3.1, RFC 9110 §11.1 (the scheme is case-insensitive).
        """
        if not authorization:
            return Anonymous()
        scheme, _, token = authorization[0].partition(" ")
        bearer = scheme.lower() == "bearer"
        if len(authorization) > 1 or (bearer and not _TOKEN.fullmatch(token)):
            raise MalformedAuthorization(
                "send one Authorization header: Bearer, one blank and the token"
            )
        if not bearer:
            raise Unauthenticated("send an Authorization header: Bearer and the token")
        if self._operator and hmac.compare_digest(token.encode("utf-8", "replace"), self._operator):
            return Operator()
        claims = await self._tokens.verify(token, now)
        tenant = await self.tenant_of(claims, now)
        if tenant is None:
            raise Unauthenticated("the access token is not accepted")
        return AgentPrincipal(
            tenant, claims.sub, claims.credential_id, claims.scopes, claims.gen, claims.jti
        )

    async def tenant_of(self, claims: Claims, now: datetime) -> Tenant | None:
        """The tenant of a verified token, if both are still accepted. Raises Unavailable."""
        slug = claims.slug
        known = self._tenants.recall(slug, now, claims.gen[1])
        heard = None if known is None else await self._revocations.heard(known, claims)
        if heard is not None:
            return known if heard else None
        tenant = await self._tenants.read(slug, now)
        if tenant is None:
            return None
        # Who has not asked the cache yet does. Who was told that it does not know asks no more.
        decide = self._revocations.accepts if known is None else self._revocations.stored
        return tenant if await decide(tenant, claims) else None

    async def active_tenant(self, slug: str, now: datetime) -> Tenant | None:
        """The tenant of a slug from a path or an argument, if it may be served. Raises
        Unavailable."""
        known = self._tenants.recall(slug, now)
        if known is not None and await self._revocations.is_current(known):
            return known
        return await self._tenants.read(slug, now)
