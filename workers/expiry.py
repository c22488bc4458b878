"""Credentials whose end has come are shown as ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from uuid import UUID

from db.clock import event_id
from db.contract import UnitOfWork
from db.namespace import TenantPrefix
from db.records import (
    AuditAction,
    AuditEvent,
    AuditOutcome,
    Credential,
    CredentialStatus,
    JSONObject,
    Tenant,
    TenantStatus,
)
from workers.state import Report, State
from workers.tenants import each_tenant

_AT_ONCE = 100


async def run(state: State, now: datetime) -> Report:
    """Counts the credentials. A tenant that fails is reported, and the rest are done."""

    async def expire(tenant: Tenant) -> int:
        if tenant.status is TenantStatus.REMOVING:
            # Nothing more is written where an export may have been taken already.
            return 0
        return await _expire(state, tenant.prefix, now)

    return await each_tenant(state, expire)


async def _expire(state: State, tenant: TenantPrefix, now: datetime) -> int:
    """What is found is changed, or has been by others: then it is not found again."""
    ended = 0
    while found := await state.storage.read(tenant).credentials.ended(now, _AT_ONCE):
        by_client = groupby(sorted(found, key=_client), _client)
        for client_id, credentials in by_client:
            async with state.storage.unit(tenant) as unit:
                ended += await _end(unit, client_id, list(credentials), now)
    return ended


async def _end(
    unit: UnitOfWork, client_id: UUID, credentials: Sequence[Credential], now: datetime
) -> int:
    # Always the agent first, then its credentials: two units never wait for each other.
    await unit.agents.share(client_id)
    ended = 0
    for each in credentials:
        held = await unit.credentials.get(each.credential_id)
        if held is None or held.usable_at(now) or held.status is CredentialStatus.REVOKED:
            continue
        # Its own end, and not this instant: `Credential.was_cut` tells the one from the other.
        await unit.credentials.save(
            replace(held, status=CredentialStatus.REVOKED, revoked_at=held.expires_at)
        )
        await unit.audit.append(_event(held, now))
        ended += 1
    return ended


def _client(credential: Credential) -> UUID:
    return credential.client_id


def _event(credential: Credential, now: datetime) -> AuditEvent:
    metadata: JSONObject = {
        "agentId": str(credential.client_id),
        "credentialId": str(credential.credential_id),
        "reason": "expired",
    }
    if credential.replaced_by is not None:
        # Mostly the end of an overlap, and nobody's act either way.
        metadata["replacedBy"] = str(credential.replaced_by)
    return AuditEvent(
        event_id=event_id(now),
        agent_id=credential.client_id,
        action=AuditAction.CREDENTIAL_REVOKED,
        outcome=AuditOutcome.SUCCESS,
        ip_address="-",
        user_agent="agentidp worker",
        metadata=metadata,
        timestamp=now,
    )
