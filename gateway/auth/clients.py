"""A client proves itself (RFC 6749 §2.3).

Whatever is wrong, the answer and its cost are the same; the reason is for the audit log alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from db.contract import Storage
from db.records import Agent, Credential, Tenant
from gateway.auth.secrets import SecretHasher


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What was presented, whoever it belongs to."""

    client_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KnownClient:
    agent: Agent
    credential: Credential


@dataclass(frozen=True, slots=True)
class RefusedClient:
    """`agent_id` is None for a client that nobody knows; `reason` is one word for the audit."""

    agent_id: UUID | None
    reason: str


class ClientAuthenticator:
    def __init__(self, storage: Storage, hasher: SecretHasher) -> None:
        self._storage = storage
        self._hasher = hasher

    async def nobody(self, secret: str) -> None:
        """Costs what `by_secret` costs for a client that nobody knows."""
        await self._hasher.matches(secret, None)

    async def by_secret(
        self, tenant: Tenant, proof: ClientSecret, now: datetime
    ) -> KnownClient | RefusedClient:
        """Who presented it. Raises Unavailable."""
        identifier = canonical_uuid(proof.client_id)
        reader = self._storage.read(tenant.prefix).credentials
        login = await reader.login(identifier, now) if identifier else None
        if login is None:
            await self._hasher.matches(proof.secret, None)
            return RefusedClient(None, "unknown_client")
        agent, usable = login.agent, login.credentials
        matching = await self._matching(usable, proof.secret)
        if matching is None:
            return RefusedClient(agent.agent_id, "wrong_secret" if usable else "no_credential")
        if not agent.is_active:
            return RefusedClient(agent.agent_id, f"agent_{agent.status.value}")
        return KnownClient(agent, matching)

    async def _matching(self, usable: Sequence[Credential], secret: str) -> Credential | None:
        if not usable:
            await self._hasher.matches(secret, None)
        for credential in usable:
            if await self._hasher.matches(secret, credential.secret_hash):
                return credential
        return None


def canonical_uuid(text: str) -> UUID | None:
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None
