"""Clients: authenticated by what they present, whichever way it came.

`auth.failed` changes nothing, so its event goes to the trail by itself; it is committed before the
answer is given. Of those who are refused unheard, because too many have failed, it says so once a
minute: nobody can fill the trail by being refused.
"""

from __future__ import annotations

import hashlib
from typing import NoReturn
from uuid import UUID

from db.contract import Storage
from db.errors import InvalidClient, Throttled
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
from gateway.auth.attempts import Attempt, LoginAttempts
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
        attempts: LoginAttempts,
    ) -> None:
        self._storage = storage
        self._clients = clients
        self._assertions = assertions
        self._attempts = attempts

    async def authenticate(
        self, call: Call, tenant: Tenant | None, proof: ClientSecret | ClientAssertion
    ) -> tuple[Call, KnownClient]:
        """The call as made by that client, whose scope is all that the agent may do.

        Raises InvalidClient, the same for every reason; `auth.failed` has been written then, if
        there is a tenant to write it to. Raises Throttled after too many failures, and Unavailable.
        """
        slug = "" if tenant is None else tenant.slug
        with self._attempts.by(slug, proof.client_id, call.ip_address) as attempt:
            client = await self._who(call, tenant, proof, attempt)
            if isinstance(client, RefusedClient):
                await self._refuse(call, tenant, client, proof, attempt)
        assert tenant is not None, "nobody is known there"
        agent, credential = client.agent, client.credential
        self._storage.trail.used(tenant.prefix, credential, call.now)
        principal = AgentPrincipal(
            tenant,
            agent.agent_id,
            credential.credential_id,
            frozenset(agent.capabilities),
            (agent.token_generation, tenant.token_generation),
            jti=None,
        )
        return call.by(principal), client

    async def close(self) -> None:
        await self._clients.close()

    async def _who(
        self,
        call: Call,
        tenant: Tenant | None,
        proof: ClientSecret | ClientAssertion,
        attempt: Attempt,
    ) -> KnownClient | RefusedClient:
        if isinstance(proof, ClientSecret):
            if tenant is None:
                return await self._clients.nobody(proof.secret, attempt, call.now)
            return await self._clients.by_secret(tenant, proof, attempt, call.now)
        if tenant is None:
            self._assertions.nobody(proof)
            return RefusedClient(None, "unknown_client")
        client = await self._assertions.by_assertion(tenant, proof, call.now)
        # A signature is cheap to look at, so only those that are wrong are held to a budget.
        if isinstance(client, RefusedClient):
            await attempt.look(call.now)
            if wait := attempt.begin():
                return RefusedClient(client.agent_id, "throttled", wait)
        return client

    async def _refuse(
        self,
        call: Call,
        tenant: Tenant | None,
        client: RefusedClient,
        proof: ClientSecret | ClientAssertion,
        attempt: Attempt,
    ) -> NoReturn:
        said = not client.wait or await attempt.is_news(call.now)
        if not client.wait:
            await attempt.failed(call.now)
        if tenant is not None and said:
            event = _auth_failed(call, client, proof.client_id)
            await self._storage.trail.append(tenant.prefix, event)
        if client.wait:
            raise Throttled("too many logins have failed; try again later", client.wait)
        raise InvalidClient


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
