"""Credentials: generated, rotated, revoked. The secret is in the answer of the first two, once.

An agent manages its own; those of others need `credentials:write`. Whoever makes a secret could
use it, so the caller's token must cover every gateway capability of the agent it is made for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from db import grammar
from db.contract import CredentialReader, Storage, UnitOfWork
from db.errors import (
    AgentNotActive,
    CredentialNotActive,
    Forbidden,
    InvalidInput,
    NotFound,
    ScopeExceeded,
    TooManyCredentials,
)
from db.filters import CredentialFilter
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import Agent, AuditAction, Credential, CredentialStatus
from db.revocations import Revocations
from gateway.auth.principal import beyond
from gateway.auth.secrets import HashedSecret, SecretHasher, new_secret
from gateway.services.call import Call
from gateway.services.standing import hold

READ, WRITE = "credentials:read", "credentials:write"
# A wrong secret is compared with every one of them, and each comparison is slow by design.
MAX_USABLE = 10


@dataclass(frozen=True, slots=True)
class FreshCredential:
    """A credential with its secret, which exists nowhere else from here on."""

    credential: Credential
    secret: str = field(repr=False)


class CredentialService:
    def __init__(self, storage: Storage, revocations: Revocations, hasher: SecretHasher) -> None:
        self._storage = storage
        self._revocations = revocations
        self._hasher = hasher

    async def get(self, call: Call, credential_id: UUID) -> Credential | None:
        """Another agent's credential is None to a caller without `credentials:read`."""
        credential = await self._reader(call).get(credential_id)
        if credential is not None and not _may(call, credential.client_id, READ):
            return None
        return credential

    async def pages(
        self,
        call: Call,
        client_ids: Collection[UUID],
        request: PageRequest,
        filter: CredentialFilter,
        wanted: Collection[str] | None = None,
    ) -> Mapping[UUID, Page[Credential]]:
        """Raises InvalidCursor, and Forbidden for other agents' without `credentials:read`."""
        for client_id in client_ids:
            _require(call, client_id, READ)
        return await self._reader(call).pages(client_ids, request, filter, wanted)

    async def count(self, call: Call, filter: CredentialFilter) -> int:
        """As for agents."""
        return await self._reader(call).count(filter, COUNT_CAP)

    async def generate(
        self,
        call: Call,
        agent_id: UUID,
        *,
        expires_at: datetime | None = None,
        label: str | None = None,
    ) -> FreshCredential:
        """Raises InvalidInput, NotFound, AgentNotActive, ScopeExceeded, TooManyCredentials,
        Forbidden."""
        _require(call, agent_id, WRITE)
        if label is not None:
            grammar.text(label, "label", most=64)
        if expires_at is not None:
            expires_at = grammar.instant(expires_at, "expiresAt")
            if expires_at <= call.now:
                raise InvalidInput("the expiry must lie in the future", ("expiresAt",))
        # Refused early without the cost of a hash; asked again below, when the row is held.
        _require_mintable(call, await self._storage.read(call.tenant.prefix).agents.get(agent_id))
        fresh = await self._fresh(call, agent_id, expires_at, label)
        async with self._storage.unit(call.tenant.prefix) as unit:
            _require_mintable(call, (await hold(unit, call, agent_id)).get(agent_id))
            if len(await unit.credentials.of_client(agent_id, call.now)) >= MAX_USABLE:
                raise TooManyCredentials(
                    f"the agent has {MAX_USABLE} usable credentials: revoke one first",
                    ("agentId",),
                )
            await unit.credentials.add(fresh.credential)
            await unit.audit.append(
                call.event(
                    AuditAction.CREDENTIAL_GENERATED,
                    {
                        "agentId": str(agent_id),
                        "credentialId": str(fresh.credential.credential_id),
                    },
                )
            )
        return fresh

    async def rotate(self, call: Call, credential_id: UUID) -> FreshCredential:
        """A new secret in a new row; the old one ends now. It keeps the label and the expiry.

        Raises NotFound, CredentialNotActive, AgentNotActive, ScopeExceeded, and Unavailable, with
        nothing changed, when it could not be acknowledged: the secret would be lost with the
        answer, and the old one is over.
        """
        async with self._acknowledging(call, credential_id):
            fresh = await self._rotated(call, credential_id)
            await self._revocations.publish_credential(
                call.tenant.prefix, credential_id, call.now, call.now
            )
        return fresh

    async def revoke(self, call: Call, credential_id: UUID) -> Credential:
        """The tokens issued to it are refused from now on.

        Raises NotFound, CredentialNotActive, and Unavailable while not everybody knows of a
        revocation that was made; repeat it, and it is acknowledged by being called revoked already.
        """
        async with self._acknowledging(call, credential_id):
            revoked = await self._ended(call, credential_id)
            await self._revocations.publish_credential(
                call.tenant.prefix, credential_id, call.now, call.now
            )
        return revoked

    async def _rotated(self, call: Call, credential_id: UUID) -> FreshCredential:
        prefix = call.tenant.prefix
        old = await self._managed(call, credential_id)
        _require_mintable(call, await self._storage.read(prefix).agents.get(old.client_id))
        _require_usable(old, call.now)
        fresh = await self._fresh(call, old.client_id, old.expires_at, old.label)
        await self._revocations.require_ear()
        async with self._storage.unit(prefix) as unit:
            # Always the agent first, then its credentials: two units never wait for each other.
            _require_mintable(call, (await hold(unit, call, old.client_id)).get(old.client_id))
            held = await self._held(unit, credential_id)
            _require_usable(held, call.now)
            await unit.credentials.save(_revoked(held, call.now))
            await unit.credentials.add(fresh.credential)
            await unit.audit.append(
                call.event(
                    AuditAction.CREDENTIAL_ROTATED,
                    {
                        "agentId": str(held.client_id),
                        "credentialId": str(fresh.credential.credential_id),
                        "replacedCredentialId": str(credential_id),
                    },
                )
            )
        return fresh

    async def _ended(self, call: Call, credential_id: UUID) -> Credential:
        prefix = call.tenant.prefix
        credential = await self._managed(call, credential_id)
        async with self._storage.unit(prefix) as unit:
            await hold(unit, call, credential.client_id)
            held = await self._held(unit, credential_id)
            # One that came to its own end is revoked still by whoever wants its tokens cut.
            if held.was_cut:
                raise CredentialNotActive("the credential is revoked already")
            revoked = _revoked(held, call.now)
            await unit.credentials.save(revoked)
            await unit.audit.append(
                call.event(
                    AuditAction.CREDENTIAL_REVOKED,
                    {"agentId": str(held.client_id), "credentialId": str(credential_id)},
                )
            )
        return revoked

    @asynccontextmanager
    async def _acknowledging(self, call: Call, credential_id: UUID) -> AsyncIterator[None]:
        """Whoever finds the credential revoked may have been told to ask again, so everybody knows
        of it before that is the answer."""
        try:
            yield
        except CredentialNotActive:
            found = await self._reader(call).get(credential_id)
            if found is not None and found.was_cut and found.revoked_at is not None:
                await self._revocations.publish_credential(
                    call.tenant.prefix, credential_id, found.revoked_at, call.now
                )
            raise

    async def _managed(self, call: Call, credential_id: UUID) -> Credential:
        credential = await self._reader(call).get(credential_id)
        if credential is None or not _may(call, credential.client_id, WRITE):
            raise _no_such_credential()
        return credential

    async def _held(self, unit: UnitOfWork, credential_id: UUID) -> Credential:
        credential = await unit.credentials.get(credential_id)
        if credential is None:
            raise _no_such_credential()
        return credential

    async def _fresh(
        self, call: Call, agent_id: UUID, expires_at: datetime | None, label: str | None
    ) -> FreshCredential:
        secret = new_secret()
        return FreshCredential(
            new_credential(agent_id, await self._hasher.hash(secret), call.now, expires_at, label),
            secret,
        )

    def _reader(self, call: Call) -> CredentialReader:
        return self._storage.read(call.tenant.prefix).credentials


def new_credential(
    agent_id: UUID,
    hashed: HashedSecret,
    now: datetime,
    expires_at: datetime | None = None,
    label: str | None = None,
) -> Credential:
    return Credential(
        credential_id=uuid4(),
        client_id=agent_id,
        secret_hash=hashed.hash,
        secret_tag=hashed.tag,
        status=CredentialStatus.ACTIVE,
        created_at=now,
        expires_at=expires_at,
        label=label,
    )


def _may(call: Call, client_id: UUID, scope: str) -> bool:
    return call.agent.agent_id == client_id or scope in call.agent.scope


def _require(call: Call, client_id: UUID, scope: str) -> None:
    if not _may(call, client_id, scope):
        raise Forbidden(f"other agents' credentials need the scope {scope}", scope)


def _require_mintable(call: Call, agent: Agent | None) -> None:
    if agent is None:
        raise NotFound("there is no such agent", ("agentId",))
    if not agent.is_active:
        raise AgentNotActive(f"the agent is {agent.status.value}", ("agentId",))
    if missing := beyond(call.agent.scope, frozenset(agent.capabilities)):
        raise ScopeExceeded(
            f"your token does not hold {' '.join(sorted(missing))}, so it cannot make a secret "
            "that would"
        )


def _require_usable(credential: Credential, now: datetime) -> None:
    if not credential.usable_at(now):
        raise CredentialNotActive("the credential is revoked or has expired", ("credentialId",))


def _revoked(credential: Credential, now: datetime) -> Credential:
    return replace(credential, status=CredentialStatus.REVOKED, revoked_at=now)


def _no_such_credential() -> NotFound:
    return NotFound("there is no such credential", ("credentialId",))
