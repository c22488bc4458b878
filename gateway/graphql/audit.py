"""The trail, read: event by event and in pages, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast
from uuid import UUID

import strawberry
from strawberry import UNSET
from strawberry.scalars import JSON

from db import filters, records
from db.pages import PageRequest
from gateway.graphql import enums, selection
from gateway.graphql.access import Access, guarded
from gateway.graphql.context import Context, Info
from gateway.graphql.filters import AuditEventFilter
from gateway.graphql.nodes import FINDERS, Node
from gateway.graphql.pages import Connection, Count, Counter, Cursor, given, page_request

if TYPE_CHECKING:
    from gateway.graphql.agents import Agent

READ = "audit:read"


@strawberry.type(description="One line of the trail.")
class AuditEvent(Node):
    """A record stands for it: fields without a resolver are read from the record by name."""

    event_id: UUID = strawberry.field(description="In the order of time: a UUIDv7.")
    agent_id: UUID = strawberry.field(
        description=(
            "Who did it; the nil UUID stands for the operator, and for a client that nobody knows. "
            "What came about by time alone is told of the agent that it happened to."
        )
    )
    action: enums.AuditAction
    outcome: enums.AuditOutcome
    severity: enums.Severity
    event_type: str | None
    policy_rule_id: str | None
    ip_address: str
    user_agent: str
    metadata: JSON = strawberry.field(description="On whom it was done, and what belongs to it.")
    timestamp: datetime

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, records.AuditEvent)

    @guarded("agents:read", description="Null for a client that nobody knows.")
    async def agent(
        self, info: Info
    ) -> Annotated[Agent, strawberry.lazy("gateway.graphql.agents")] | None:
        wanted = selection.AGENT.wanted(info, selection.ITSELF)
        return cast("Agent | None", await info.context.loaders.agent(self.agent_id, wanted))


def _shown_if_any(event: records.AuditEvent | None) -> AuditEvent | None:
    return cast("AuditEvent | None", event)


async def _find(context: Context, event_id: UUID) -> Node | None:
    return _shown_if_any(await context.loaders.audit_event(event_id))


FINDERS["AuditEvent"] = (Access(requires=READ), _find)


@strawberry.type
class AuditEventConnection(Connection[AuditEvent]):
    pass


async def audit_events_of(
    info: Info, agent_id: UUID, filter: filters.AuditEventFilter, request: PageRequest
) -> AuditEventConnection:
    """Raises InvalidCursor."""
    loaders = info.context.loaders
    page = await loaders.audit_events(
        agent_id, request, filter, selection.AUDIT_EVENT.wanted(info, selection.ROWS)
    )
    counter = Counter(lambda: loaders.count_audit_events(agent_id, filter))
    return AuditEventConnection(page=page, counter=counter)


@strawberry.type
class AuditQueries:
    @guarded(READ)
    async def audit_event(self, info: Info, event_id: UUID) -> AuditEvent | None:
        context = info.context
        return _shown_if_any(await context.gateway.audit.get(context.call, event_id))

    @guarded(READ, description="Newest first.")
    async def audit_events(
        self,
        info: Info,
        filter: AuditEventFilter | None = UNSET,
        first: Count = UNSET,
        after: Cursor = UNSET,
        last: Count = UNSET,
        before: Cursor = UNSET,
    ) -> AuditEventConnection:
        context, filter = info.context, given(filter)
        request = page_request(first, after, last, before)
        meant = filters.AuditEventFilter() if filter is None else filter.meant()
        page = await context.gateway.audit.page(
            context.call, request, meant, selection.AUDIT_EVENT.wanted(info, selection.ROWS)
        )
        counter = Counter(lambda: context.gateway.audit.count(context.call, meant))
        return AuditEventConnection(page=page, counter=counter)
