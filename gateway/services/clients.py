"""Clients: authenticated by what they present, whichever way it came.

`auth.failed` changes nothing, so its event goes to the trail by itself; it is committed before the
answer is given.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import UUID

from db.contract import Storage
from db.errors import InvalidClient
from db.records import (
    NIL_AGENT,
    AuditAction,
    AuditEvent,
    AuditOutcome,
    JSONObject,
    Severity,
    Tenant,
)
from gateway.auth.assertions import AssertionAuthenticator
from gateway.auth.clients import ClientAuthenticator, ClientSecret, KnownClient, RefusedClient
from gateway.auth.principal import AgentPrincipal
from gateway.auth.unproven import ClientAssertion
from gateway.services.call import Call


class ClientService:
    def __init__(
        self,
        storage: Storage,
        clients: ClientAuthenticator,
        assertions: AssertionAuthenticator,
    ) -> None:
        self._storage = storage
        self._clients = clients
        self._assertions = assertions

    async def authenticate(
        self, call: Call, tenant: Tenant | None, proof: ClientSecret | ClientAssertion
    ) -> tuple[Call, KnownClient]:
        """The call as made by that client, whose scope is all that the agent may do.

        Raises InvalidClient, the same for every reason; `auth.failed` has been written then, if
        there is a tenant to write it to.
        """
        if tenant is None:
            await self._nobody(proof)
            raise InvalidClient
        client = await self._who(tenant, proof, call.now)
        if isinstance(client, RefusedClient):
            event = _auth_failed(call, client, proof.client_id)
            await self._storage.trail.append(tenant.prefix, event)
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

    async def _nobody(self, proof: ClientSecret | ClientAssertion) -> None:
        if isinstance(proof, ClientAssertion):
            self._assertions.nobody(proof)
        else:
            await self._clients.nobody(proof.secret)

    async def _who(
        self, tenant: Tenant, proof: ClientSecret | ClientAssertion, now: datetime
    ) -> KnownClient | RefusedClient:
        if isinstance(proof, ClientAssertion):
            return await self._assertions.by_assertion(tenant, proof, now)
        return await self._clients.by_secret(tenant, proof, now)


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
