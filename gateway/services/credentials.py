"""Credentials: generated, rotated, revoked. The secret is in the answer of the first two, once.

An agent manages its own; those of others need `credentials:write`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from db import grammar
from db.contract import CredentialReader, Storage, UnitOfWork
from db.errors import (
    CredentialNotActive,
    Forbidden,
    InvalidInput,
    NotFound,
)
from db.filters import CredentialFilter
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import JSON, AuditAction, Credential
from db.revocations import Revocations
from gateway.auth.jwk import public_jwk
from gateway.auth.secrets import SecretHasher, new_secret
from gateway.services.call import Call
from gateway.services.minting import (
    FreshCredential,
    described,
    key_credential,
    new_credential,
    require_mintable,
    require_new_key,
    require_room,
)
from gateway.services.rotation import (
    overlap_of,
    replaced,
    require_rotatable,
    require_secret,
    revoked,
)
from gateway.services.standing import hold

READ, WRITE = "credentials:read", "credentials:write"


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

    async def get_many(
        self, call: Call, credential_ids: Collection[UUID], wanted: Collection[str] | None = None
    ) -> Mapping[UUID, Credential]:
        """As `get`: what the caller may not see is left out."""
        found = await self._reader(call).get_many(credential_ids, wanted)
        return {
            credential_id: credential
            for credential_id, credential in found.items()
            if _may(call, credential.client_id, READ)
        }

    async def page(
        self,
        call: Call,
        request: PageRequest,
        filter: CredentialFilter,
        wanted: Collection[str] | None = None,
    ) -> Page[Credential]:
        """Of all agents. Raises InvalidCursor."""
        return await self._reader(call).page(request, filter, wanted)

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
        expires_at = await self._granted(call, agent_id, expires_at, label)
        # Asked again, as all of it is, when the agent's row is held.
        require_room(await self._reader(call).of_client(agent_id, call.now), "agentId")
        secret = new_secret()
        hashed = await self._hasher.hash(secret, call.ip_address)
        fresh = new_credential(agent_id, hashed, call.now, expires_at, label)
        await self._added(call, fresh)
        return FreshCredential(fresh, secret)

    async def enrol(
        self,
        call: Call,
        agent_id: UUID,
        public_key: JSON,
        *,
        expires_at: datetime | None = None,
        label: str | None = None,
    ) -> Credential:
        """As `generate`, for a key that the agent has made itself: nothing of it is secret here."""
        expires_at = await self._granted(call, agent_id, expires_at, label)
        key = public_jwk(public_key, "publicKey")
        fresh = key_credential(agent_id, key, call.now, expires_at, label)
        await self._added(call, fresh)
        return fresh

    async def rotate(
        self, call: Call, credential_id: UUID, *, overlap_seconds: int = 0
    ) -> FreshCredential:
        """A new secret in a new row, with the label and the expiry of the old one, which ends now,
        or when the overlap does.

        Raises InvalidInput, NotFound, CredentialNotActive, AgentNotActive, ScopeExceeded,
        TooManyCredentials, and Unavailable, with nothing changed, when the end of the old one could
        not be acknowledged: the secret would be lost with the answer.
        """
        secret = new_secret()

        async def make(old: Credential) -> Credential:
            require_secret(old)
            hashed = await self._hasher.hash(secret, call.ip_address)
            return new_credential(old.client_id, hashed, call.now, old.expires_at, old.label)

        fresh = await self._rotated(call, credential_id, make, overlap_of(overlap_seconds))
        return FreshCredential(fresh, secret)

    async def rotate_to_key(
        self, call: Call, credential_id: UUID, public_key: JSON, *, overlap_seconds: int = 0
    ) -> Credential:
        """As `rotate`; what is replaced may be a secret or another key."""
        key = public_jwk(public_key, "publicKey")

        async def make(old: Credential) -> Credential:
            return key_credential(old.client_id, key, call.now, old.expires_at, old.label)

        return await self._rotated(call, credential_id, make, overlap_of(overlap_seconds))

    async def revoke(self, call: Call, credential_id: UUID) -> Credential:
        """The tokens issued to it are refused from now on.

        Raises NotFound, CredentialNotActive, and Unavailable while not everybody knows of a
        revocation that was made; repeat it, and it is acknowledged by being called revoked already.
        """
        async with self._acknowledging(call, credential_id):
            ended = await self._ended(call, credential_id)
            await self._revocations.publish_credential(
                call.tenant.prefix, credential_id, call.now, call.now
            )
        return ended

    async def _granted(
        self, call: Call, agent_id: UUID, expires_at: datetime | None, label: str | None
    ) -> datetime | None:
        """Refused early, without the cost of a hash; the expiry in the form that is kept."""
        _require(call, agent_id, WRITE)
        if label is not None:
            grammar.text(label, "label", most=64)
        if expires_at is not None:
            expires_at = grammar.instant(expires_at, "expiresAt")
            if expires_at <= call.now:
                raise InvalidInput("the expiry must lie in the future", ("expiresAt",))
        require_mintable(call, await self._storage.read(call.tenant.prefix).agents.get(agent_id))
        return expires_at

    async def _added(self, call: Call, fresh: Credential) -> None:
        agent_id = fresh.client_id
        async with self._storage.unit(call.tenant.prefix) as unit:
            # Asked again, now that the row is held.
            require_mintable(call, (await hold(unit, call, agent_id)).get(agent_id))
            usable = await unit.credentials.of_client(agent_id, call.now)
            require_room(usable, "agentId")
            require_new_key(fresh, usable)
            await unit.credentials.add(fresh)
            await unit.audit.append(call.event(AuditAction.CREDENTIAL_GENERATED, described(fresh)))

    async def _rotated(
        self,
        call: Call,
        credential_id: UUID,
        make: Callable[[Credential], Awaitable[Credential]],
        overlap: timedelta,
    ) -> Credential:
        prefix = call.tenant.prefix
        async with self._acknowledging(call, credential_id):
            old = await self._managed(call, credential_id)
            require_mintable(call, await self._storage.read(prefix).agents.get(old.client_id))
            require_rotatable(old, call.now)
            if overlap:
                usable = await self._reader(call).of_client(old.client_id, call.now)
                require_room(usable, "overlapSeconds")
            fresh = await make(old)
            if not overlap:
                await self._revocations.require_ear()
            await self._replaced(call, old, fresh, overlap)
            if not overlap:
                await self._revocations.publish_credential(
                    prefix, credential_id, call.now, call.now
                )
        return fresh

    async def _replaced(
        self, call: Call, old: Credential, fresh: Credential, overlap: timedelta
    ) -> None:
        client_id = old.client_id
        async with self._storage.unit(call.tenant.prefix) as unit:
            # Always the agent first, then its credentials: two units never wait for each other.
            require_mintable(call, (await hold(unit, call, client_id)).get(client_id))
            held = await self._held(unit, old.credential_id)
            require_rotatable(held, call.now)
            usable = await unit.credentials.of_client(client_id, call.now)
            require_new_key(fresh, usable)
            if overlap:
                # Both work for a while. Without one there is always room.
                require_room(usable, "overlapSeconds")
            left = replaced(held, fresh.credential_id, call.now, overlap)
            await unit.credentials.save(left)
            await unit.credentials.add(fresh)
            ends = left.revoked_at or left.expires_at or call.now
            await unit.audit.append(
                call.event(
                    AuditAction.CREDENTIAL_ROTATED,
                    {
                        **described(fresh),
                        "replacedCredentialId": str(old.credential_id),
                        "overlapSeconds": int(overlap.total_seconds()),
                        "replacedEndsAt": ends.isoformat(),
                    },
                )
            )

    async def _ended(self, call: Call, credential_id: UUID) -> Credential:
        prefix = call.tenant.prefix
        credential = await self._managed(call, credential_id)
        async with self._storage.unit(prefix) as unit:
            await hold(unit, call, credential.client_id)
            held = await self._held(unit, credential_id)
            # One that came to its own end is revoked still by whoever wants its tokens cut.
            if held.was_cut:
                raise CredentialNotActive("the credential is revoked already")
            ended = revoked(held, call.now)
            await unit.credentials.save(ended)
            await unit.audit.append(
                call.event(
                    AuditAction.CREDENTIAL_REVOKED,
                    {"agentId": str(held.client_id), "credentialId": str(credential_id)},
                )
            )
        return ended

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

    def _reader(self, call: Call) -> CredentialReader:
        return self._storage.read(call.tenant.prefix).credentials


def _may(call: Call, client_id: UUID, scope: str) -> bool:
    return call.agent.agent_id == client_id or scope in call.agent.scope


def _require(call: Call, client_id: UUID, scope: str) -> None:
    if not _may(call, client_id, scope):
        raise Forbidden(f"other agents' credentials need the scope {scope}", scope)


def _no_such_credential() -> NotFound:
    return NotFound("there is no such credential", ("credentialId",))
