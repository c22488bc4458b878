"""Every list that can be paged: whose it is, its name, its sort key. Both backends take it here.

A cursor of one backend is a cursor of the other, because neither says for itself what is in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

from msgspec import Meta
from msgspec.msgpack import Decoder

from db.filters import (
    AgentFilter,
    AgentOrder,
    AuditEventFilter,
    CredentialFilter,
    TenantFilter,
    WorkFilter,
)
from db.namespace import PREFIX_PATTERN, TenantPrefix
from db.pages import Keyset
from db.records import Agent, AuditEvent, Credential, OperatorEvent, Purge, Tenant
from db.work import Work

ByInstant: TypeAlias = tuple[datetime, UUID]
ById: TypeAlias = tuple[UUID]
BySlug: TypeAlias = tuple[str]
ByKey: TypeAlias = tuple[str]

_BY_INSTANT: Decoder[ByInstant] = Decoder(tuple[Annotated[datetime, Meta(tz=True)], UUID])
_BY_ID: Decoder[ById] = Decoder(tuple[UUID])
# A forged cursor must hold no more than a slug: a NUL would fail in PostgreSQL alone.
_BY_SLUG: Decoder[BySlug] = Decoder(tuple[Annotated[str, Meta(pattern=rf"\A{PREFIX_PATTERN}\Z")]])
_BY_KEY: Decoder[ByKey] = Decoder(tuple[Annotated[str, Meta(pattern=r"\A[a-z0-9_:]{1,64}\Z")]])

# What is fetched whatever a reader is told to fetch: the sort key, and the key of a batch.
AGENT_KEYS = ("agent_id", "created_at")
CREDENTIAL_KEYS = ("credential_id", "client_id", "created_at")
AUDIT_EVENT_KEYS = ("event_id", "agent_id")


def agents(
    tenant: TenantPrefix, filter: AgentFilter, order: AgentOrder
) -> Keyset[Agent, ByInstant]:
    return Keyset(tenant, f"agents by {order}", filter, _BY_INSTANT, agent_position)


def credentials(tenant: TenantPrefix, filter: CredentialFilter) -> Keyset[Credential, ByInstant]:
    return Keyset(tenant, "credentials", filter, _BY_INSTANT, credential_position)


def audit_events(tenant: TenantPrefix, filter: AuditEventFilter) -> Keyset[AuditEvent, ById]:
    return Keyset(tenant, "audit events", filter, _BY_ID, audit_event_position)


def tenants(filter: TenantFilter) -> Keyset[Tenant, BySlug]:
    return Keyset(None, "tenants", filter, _BY_SLUG, tenant_position)


def operator_events() -> Keyset[OperatorEvent, ById]:
    return Keyset(None, "operator events", None, _BY_ID, operator_event_position)


def work(filter: WorkFilter) -> Keyset[Work, ByKey]:
    return Keyset(None, "work", filter, _BY_KEY, work_position)


def purges(tenant: str | None) -> Keyset[Purge, ById]:
    return Keyset(None, "purges", tenant, _BY_ID, purge_position)


def agent_position(agent: Agent) -> ByInstant:
    return (agent.created_at, agent.agent_id)


def credential_position(credential: Credential) -> ByInstant:
    return (credential.created_at, credential.credential_id)


def audit_event_position(event: AuditEvent) -> ById:
    return (event.event_id,)


def tenant_position(tenant: Tenant) -> BySlug:
    return (tenant.slug,)


def operator_event_position(event: OperatorEvent) -> ById:
    return (event.event_id,)


def work_position(work: Work) -> ByKey:
    return (work.key,)


def purge_position(purge: Purge) -> ById:
    return (purge.purge_id,)
