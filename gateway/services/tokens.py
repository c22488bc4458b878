"""Tokens: issued to a client that proves itself, looked into, revoked.

`token.issued`, `token.introspected` and `auth.failed` change nothing, so their events stand in a
unit of their own; each is committed before the answer is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.contract import Storage
from db.errors import Forbidden, InvalidClient, InvalidScope, InvalidTarget, Unauthenticated
from db.grammar import is_capability
from db.records import (
    NIL_AGENT,
    Agent,
    AuditAction,
    AuditEvent,
    AuditOutcome,
    JSONObject,
    Revocation,
    Severity,
    Tenant,
)
from db.revocations import Revocations
from gateway.auth.authenticate import Authenticator
from gateway.auth.clients import ClientAuthenticator, KnownClient, RefusedClient
from gateway.auth.principal import AgentPrincipal
from gateway.auth.tokens import Claims, IssuedToken, TokenAuthority
from gateway.services.call import Call

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
        clients: ClientAuthenticator,
        revocations: Revocations,
    ) -> None:
        self._storage = storage
        self._authority = authority
        self._authenticator = authenticator
        self._clients = clients
        self._revocations = revocations

    async def authenticate_client(
        self, call: Call, tenant: Tenant | None, client_id: str, secret: str
    ) -> tuple[Call, KnownClient]:
        """The call as made by that client, whose scope is all that the agent may do.

        Raises InvalidClient, the same for every reason; `auth.failed` has been written then, if
        there is a tenant to write it to.
        """
        if tenant is None:
            await self._clients.nobody(secret)
            raise InvalidClient
        client = await self._clients.by_secret(tenant, client_id, secret, call.now)
        if isinstance(client, RefusedClient):
            await self._append(tenant, _auth_failed(call, client, client_id))
            raise InvalidClient
        agent, credential = client.agent, client.credential
        principal = AgentPrincipal(
            tenant,
            agent.agent_id,
            credential.credential_id,
            frozenset(agent.capabilities),
            (agent.token_generation, tenant.token_generation),
            jti=None,
        )
        return call.by(principal), client

    async def issue(
        self, call: Call, client: KnownClient, scope: str | None, resources: Sequence[str] = ()
    ) -> IssuedToken:
        """A token for a client that has just been authenticated; without `scope`, all it may have.

        A refusal has its event too: the secret was right, and that should not go unseen.
        Raises InvalidScope, InvalidTarget. Source: RFC 6749 §4.4, RFC 8707 §2, RFC 9068 §2.
        """
        tenant = call.tenant
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
            await self._append(tenant, event)
            raise
        token = self._authority.issue(
            tenant, client.agent, client.credential, granted, audience, call.now
        )
        metadata: JSONObject = {
            "jti": str(token.jti),
            "credentialId": str(client.credential.credential_id),
            "scope": granted,
            "expiresAt": token.expires_at.isoformat(),
        }
        await self._append(tenant, call.event(AuditAction.TOKEN_ISSUED, metadata))
        return token

    async def introspect(self, call: Call, token: str) -> Introspection:
        """What the caller may know of a token: its own, or with `tokens:read` its tenant's."""
        claims = self._verified(call, token)
        if claims is not None and not (
            self._may(call, claims, READ) and await self._is_live(claims)
        ):
            claims = None
        metadata: JSONObject = {"active": claims is not None}
        if claims is not None:
            metadata |= {"jti": str(claims.jti), "clientId": str(claims.client_id)}
        await self._append(call.tenant, call.event(AuditAction.TOKEN_INTROSPECTED, metadata))
        return Introspection(claims)

    async def revoke(self, call: Call, token: str) -> None:
        """Refused from now on, everywhere. What is no live token of this tenant is left alone.

        Raises Forbidden for another client's token without `tokens:write`, and Unavailable while
        not everybody knows of a revocation that was made; repeat it. Source: RFC 7009 §2.
        """
        claims = self._verified(call, token)
        if claims is None:
            return
        if not self._may(call, claims, WRITE):
            raise Forbidden(f"other clients' tokens need the scope {WRITE}", WRITE)
        prefix = call.tenant.prefix
        async with self._storage.unit(prefix) as unit:
            # Whoever acts with this token right now is waited for, and refused afterwards.
            await unit.agents.get(claims.sub)
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

    def _verified(self, call: Call, token: str) -> Claims | None:
        """The claims of a token of the caller's tenant that is within its time."""
        try:
            claims = self._authority.verify(token, call.now, audience=_ANY_AUDIENCE)
        except Unauthenticated:
            return None
        return claims if claims.slug == call.tenant.slug else None

    async def _is_live(self, claims: Claims) -> bool:
        # The caller's tenant was read when its request began; a body or a hash ago.
        tenant = await self._authenticator.active_tenant(claims.slug)
        return tenant is not None and await self._authenticator.is_live(tenant, claims)

    def _may(self, call: Call, claims: Claims, scope: str) -> bool:
        return claims.client_id == call.agent.agent_id or scope in call.agent.scope

    async def _append(self, tenant: Tenant, event: AuditEvent) -> None:
        async with self._storage.unit(tenant.prefix) as unit:
            await unit.audit.append(event)


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


def _auth_failed(call: Call, refused: RefusedClient, presented: str) -> AuditEvent:
    metadata: JSONObject = {"reason": refused.reason}
    known: UUID | None = refused.agent_id
    if known is None:
        metadata |= _described(presented)
    return call.event(
        AuditAction.AUTH_FAILED,
        metadata,
        agent_id=known or NIL_AGENT,
        outcome=AuditOutcome.FAILURE,
        severity=Severity.WARNING,
    )


def _described(presented: str) -> JSONObject:
    """People paste secrets into the wrong box: what is no UUID is told by length and digest."""
    try:
        return {"clientId": str(UUID(presented))} if len(presented) == 36 else _digest(presented)
    except ValueError:
        return _digest(presented)


def _digest(presented: str) -> JSONObject:
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
    return {"clientIdLength": len(presented), "clientIdDigest": digest[:16]}
