"""Filters as a client writes them. What is left out, or null, does not restrict."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

import strawberry
from strawberry import UNSET

from db import filters
from db.errors import InvalidInput
from gateway.graphql import enums
from gateway.graphql.pages import given

T = TypeVar("T")

MAX_VALUES = 100
_ANY_OF = f"Any of these, up to {MAX_VALUES}; an empty list matches nothing."


@strawberry.input
class Filter(Generic[T]):
    """`Filter[AgentStatus]` is AgentStatusFilter in the SDL."""

    in_: list[T] | None = strawberry.field(name="in", default=UNSET, description=_ANY_OF)


@strawberry.input(description="Exactly this text, any of these, or both.")
class StringFilter:
    eq: str | None = UNSET
    in_: list[str] | None = strawberry.field(name="in", default=UNSET, description=_ANY_OF)


@strawberry.input
class UUIDFilter:
    eq: UUID | None = UNSET


@strawberry.input(description="From `gte` on, and before `lt`.")
class DateTimeFilter:
    gte: datetime | None = UNSET
    lt: datetime | None = UNSET


@strawberry.input
class AgentFilter:
    status: Filter[enums.AgentStatus] | None = UNSET
    agent_type: Filter[enums.AgentType] | None = UNSET
    owner: StringFilter | None = UNSET
    created_at: DateTimeFilter | None = UNSET

    def meant(self) -> filters.AgentFilter:
        """Raises InvalidInput."""
        return filters.AgentFilter(
            status=_any_of(self.status, "status"),
            agent_type=_any_of(self.agent_type, "agentType"),
            owner=_texts(self.owner, "owner"),
            created_at=_span(self.created_at),
        )


_REPLACED = "Whether a rotation has given it a successor."
_LAST_USED_AT = "One that was never used is in no such span."


@strawberry.input(description="For credentials whose agent is given already.")
class AgentCredentialFilter:
    status: Filter[enums.CredentialStatus] | None = UNSET
    replaced: bool | None = strawberry.field(default=UNSET, description=_REPLACED)
    last_used_at: DateTimeFilter | None = strawberry.field(default=UNSET, description=_LAST_USED_AT)

    def meant(self) -> filters.CredentialFilter:
        """Raises InvalidInput."""
        return filters.CredentialFilter(
            status=_any_of(self.status, "status"),
            replaced=given(self.replaced),
            last_used_at=_span(self.last_used_at),
        )


@strawberry.input
class CredentialFilter:
    agent_id: UUIDFilter | None = UNSET
    status: Filter[enums.CredentialStatus] | None = UNSET
    replaced: bool | None = strawberry.field(default=UNSET, description=_REPLACED)
    last_used_at: DateTimeFilter | None = strawberry.field(default=UNSET, description=_LAST_USED_AT)

    def meant(self) -> filters.CredentialFilter:
        """Raises InvalidInput."""
        agent_id = given(self.agent_id)
        return filters.CredentialFilter(
            client_id=None if agent_id is None else given(agent_id.eq),
            status=_any_of(self.status, "status"),
            replaced=given(self.replaced),
            last_used_at=_span(self.last_used_at),
        )


@strawberry.input(description="For events whose agent is given already.")
class AgentAuditEventFilter:
    action: Filter[enums.AuditAction] | None = UNSET
    outcome: Filter[enums.AuditOutcome] | None = UNSET
    timestamp: DateTimeFilter | None = UNSET

    def meant(self) -> filters.AuditEventFilter:
        """Raises InvalidInput."""
        return filters.AuditEventFilter(
            action=_any_of(self.action, "action"),
            outcome=_any_of(self.outcome, "outcome"),
            timestamp=_span(self.timestamp),
        )


@strawberry.input
class AuditEventFilter:
    agent_id: UUIDFilter | None = UNSET
    action: Filter[enums.AuditAction] | None = UNSET
    outcome: Filter[enums.AuditOutcome] | None = UNSET
    timestamp: DateTimeFilter | None = UNSET

    def meant(self) -> filters.AuditEventFilter:
        """Raises InvalidInput."""
        agent_id = given(self.agent_id)
        return filters.AuditEventFilter(
            agent_id=None if agent_id is None else given(agent_id.eq),
            action=_any_of(self.action, "action"),
            outcome=_any_of(self.outcome, "outcome"),
            timestamp=_span(self.timestamp),
        )


@strawberry.input
class TenantFilter:
    status: Filter[enums.TenantStatus] | None = UNSET

    def meant(self) -> filters.TenantFilter:
        """Raises InvalidInput."""
        return filters.TenantFilter(status=_any_of(self.status, "status"))


@strawberry.input
class SlugFilter:
    eq: str | None = UNSET


@strawberry.input
class WorkFilter:
    job: Filter[enums.JobName] | None = UNSET
    state: Filter[enums.WorkState] | None = UNSET
    tenant: SlugFilter | None = UNSET

    def meant(self) -> filters.WorkFilter:
        """Raises InvalidInput."""
        tenant = given(self.tenant)
        return filters.WorkFilter(
            job=_any_of(self.job, "job"),
            state=_any_of(self.state, "state"),
            tenant=None if tenant is None else given(tenant.eq),
        )


def _any_of(filter: Filter[T] | None, path: str) -> tuple[T, ...] | None:
    filter = given(filter)
    return None if filter is None else _values(filter.in_, path)


def _texts(filter: StringFilter | None, path: str) -> tuple[str, ...] | None:
    filter = given(filter)
    if filter is None:
        return None
    any_of, exactly = _values(filter.in_, path), given(filter.eq)
    if exactly is None:
        return any_of
    return (exactly,) if any_of is None or exactly in any_of else ()


def _values(values: list[T] | None, path: str) -> tuple[T, ...] | None:
    """In one order and without repetition: a filter that means the same has the same cursors."""
    values = given(values)
    if values is None:
        return None
    if len(values) > MAX_VALUES:
        raise InvalidInput(f"a filter may name at most {MAX_VALUES} values", (path, "in"))
    return tuple(sorted(set(values), key=str))


def _span(filter: DateTimeFilter | None) -> filters.Span:
    filter = given(filter)
    return filters.Span() if filter is None else filters.Span(given(filter.gte), given(filter.lt))
