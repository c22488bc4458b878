"""Tokens: issued to a client that has proved itself, looked into, revoked.

`token.issued` and `token.introspected` change nothing, so their events go to the trail by
themselves; each is committed before the answer is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db.contract import Storage
from db.errors import Forbidden, InvalidScope, InvalidTarget, Unauthenticated
from db.grammar import is_capability
from db.records import (
    Agent,
    AuditAction,
    AuditOutcome,
    JSONObject,
    Revocation,
    Tenant,
)
from db.revocations import Revocations
from gateway.auth.authenticate import Authenticator
from gateway.auth.clients import KnownClient
from gateway.auth.tokens import Claims, IssuedToken, TokenAuthority
from gateway.services.call import Call
from gateway.services.rate import RateLimit
from gateway.services.standing import hold

READ, WRITE = "tokens:read", "tokens:write"
_ANY_AUDIENCE = ""
_MAX_SCOPE = 16_384


@dataclass(frozen=True, slots=True)
class Introspection:
    """RFC 7662 §2.2. `claims` is None for a token that is not active, whatever the reason."""

    claims: Claims | None

    @property
    def active(self) -> bool:
        return self.claims is not None


class TokenService:
    def __init__(
        self,
        storage: Storage,
        authority: TokenAuthority,
        authenticator: Authenticator,
        revocations: Revocations,
        rate: RateLimit,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._authenticator = authenticator
        self._revocations = revocations
        self._rate = rate

    async def issue(
        self, call: Call, client: KnownClient, scope: str | None, resources: Sequence[str] = ()
    ) -> IssuedToken:
        """A token for a client that has just been authenticated; without `scope`, all it may have.

        A refusal has its event too: the secret was right, and that should not go unseen.
        Raises InvalidScope, InvalidTarget, Throttled.
        Source: RFC 6749 §4.4, RFC 8707 §2, RFC 9068 §2.
        """
        tenant = call.tenant
        await self._rate.require(call)
        try:
            granted = _granted(client.agent, scope)
            audience = _audience(tenant, self._authority.issuer(tenant.slug), resources)
        except (InvalidScope, InvalidTarget) as refused:
            reason: JSONObject = {
                "reason": refused.code.lower(),
                "credentialId": str(client.credential.credential_id),
            }
            failed = AuditOutcome.FAILURE
            event = call.event(AuditAction.TOKEN_ISSUED, reason, outcome=failed)
            await self._storage.trail.append(tenant.prefix, event)
            raise
        token = await self._authority.issue(
            tenant, client.agent, client.credential, granted, audience, call.now
        )
        metadata: JSONObject = {
            "jti": str(token.jti),
            "credentialId": str(client.credential.credential_id),
            "scope": granted,
            "expiresAt": token.expires_at.isoformat(),
        }
        await self._storage.trail.append(
            tenant.prefix, call.event(AuditAction.TOKEN_ISSUED, metadata)
        )
        return token

    async def introspect(self, call: Call, token: str) -> Introspection:
        """What the caller may know of a token: its own, or with `tokens:read` its tenant's.
        Raises Throttled."""
        await self._rate.require(call)
        claims = await self._verified(call, token)
        if claims is not None and not (
            self._may(call, claims, READ)
            # Whatever was known when the request began: a body or a hash ago.
            and await self._authenticator.tenant_of(claims, call.now)
        ):
            claims = None
        metadata: JSONObject = {"active": claims is not None}
        if claims is not None:
            metadata |= {"jti": str(claims.jti), "clientId": str(claims.client_id)}
        await self._storage.trail.append(
            call.tenant.prefix, call.event(AuditAction.TOKEN_INTROSPECTED, metadata)
        )
        return Introspection(claims)

    async def revoke(self, call: Call, token: str) -> None:
        """Refused from now on, everywhere. What is no live token of this tenant is left alone.

        Raises Forbidden for another client's token without `tokens:write`, Unauthenticated when the
        caller has been cut off meanwhile, Throttled, and Unavailable while not everybody knows of a
        revocation that was made; repeat it.
        Source: RFC 7009 §2.
        """
        await self._rate.require(call)
        claims = await self._verified(call, token)
        if claims is None:
            return
        if not self._may(call, claims, WRITE):
            raise Forbidden(f"other clients' tokens need the scope {WRITE}", WRITE)
        prefix = call.tenant.prefix
        async with self._storage.unit(prefix) as unit:
            # Whoever acts with this token right now is waited for, and refused afterwards.
            await hold(unit, call, claims.sub)
            revocation = Revocation(claims.jti, claims.expires_at, call.now)
            new = await unit.revocations.add(revocation)
            if new:
                await unit.audit.append(
                    call.event(
                        AuditAction.TOKEN_REVOKED,
                        {"jti": str(claims.jti), "clientId": str(claims.client_id)},
                    )
                )
        if not new:
            # The first answer may have been that not everybody knew yet, and this one repeats it.
            revocation = await self._storage.read(prefix).revocations.get(claims.jti) or revocation
        await self._revocations.publish_token(
            prefix, claims.jti, claims.expires_at, revocation.revoked_at, call.now
        )

    async def _verified(self, call: Call, token: str) -> Claims | None:
        """The claims of a token of the caller's tenant that is within its time."""
        try:
            claims = await self._authority.verify(token, call.now, audience=_ANY_AUDIENCE)
        except Unauthenticated:
            return None
        return claims if claims.slug == call.tenant.slug else None

    def _may(self, call: Call, claims: Claims, scope: str) -> bool:
        return claims.client_id == call.agent.agent_id or scope in call.agent.scope


def _granted(agent: Agent, scope: str | None) -> str:
    if scope is None:
        return " ".join(agent.capabilities)
    asked = list(dict.fromkeys(scope.split(" "))) if len(scope) <= _MAX_SCOPE else [""]
    if not all(is_capability(each) and each in agent.capabilities for each in asked):
        raise InvalidScope("the scope must be among the agent's capabilities", ("scope",))
    return " ".join(asked)


def _audience(tenant: Tenant, issuer: str, resources: Sequence[str]) -> list[str]:
    """What is registered is an absolute URI without fragment, so nothing else is compared."""
    registered = {issuer, *tenant.resource_servers}
    if not registered.issuperset(resources):
        raise InvalidTarget("resource is no resource server of this tenant", ("resource",))
    return list(dict.fromkeys(resources))
