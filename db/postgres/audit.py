"""The audit log on PostgreSQL: events are appended and read, and nothing else.

Ids are made from the instants of their events, so every bound on time is also given as a bound on
ids: it picks the partitions and the index, and the instant itself stays the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import String, Text, Uuid, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, Insert, insert

from db import lists
from db.clock import event_id_floor
from db.contract import Wanted
from db.filters import AuditEventFilter
from db.lists import ById
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.postgres.connections import Changing, Reading
from db.postgres.listing import Listing, Parameters, among, given
from db.postgres.rows import AUDIT_EVENTS
from db.records import AuditEvent
from db.tables import audit_events

Row: TypeAlias = tuple[object, ...]
"""One event for `APPEND`."""

_INSTANT = TIMESTAMP(timezone=True)
_SINCE = audit_events.c.timestamp >= bindparam("since", type_=_INSTANT)
_LIST: Listing[AuditEvent, ById] = Listing(
    (audit_events.c.event_id,),
    {
        "agent_id": audit_events.c.agent_id == bindparam("agent_id", type_=Uuid),
        "action": among(audit_events.c.action, "action"),
        "outcome": among(audit_events.c.outcome, "outcome"),
        "since": _SINCE,
        "since_id": audit_events.c.event_id >= bindparam("since_id", type_=Uuid),
        "until": audit_events.c.timestamp < bindparam("until", type_=_INSTANT),
        "until_id": audit_events.c.event_id < bindparam("until_id", type_=Uuid),
    },
    descending=True,
)
_GET = select(*AUDIT_EVENTS.columns(AUDIT_EVENTS.names)).where(
    audit_events.c.event_id == bindparam("event_id", type_=Uuid), _SINCE
)


class PostgresAuditReader:
    def __init__(self, tenant: TenantPrefix, reading: Reading) -> None:
        self._tenant = tenant
        self._reading = reading

    async def get(self, event_id: UUID, since: datetime) -> AuditEvent | None:
        rows = await self._reading.rows(_GET, {"event_id": event_id, "since": since})
        return AUDIT_EVENTS.record(rows[0]) if rows else None

    async def page(
        self,
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = AuditEventFilter(),
        wanted: Wanted = None,
    ) -> Page[AuditEvent]:
        names = AUDIT_EVENTS.wanted(wanted)
        return await _LIST.page(
            self._reading,
            lists.audit_events(self._tenant, filter),
            request,
            _given(filter, since),
            names,
            lambda row: AUDIT_EVENTS.record(row, names),
        )

    async def pages(
        self,
        agent_ids: Collection[UUID],
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = AuditEventFilter(),
        wanted: Wanted = None,
    ) -> dict[UUID, Page[AuditEvent]]:
        names = AUDIT_EVENTS.wanted(wanted)
        return await _LIST.pages(
            self._reading,
            audit_events.c.agent_id,
            {
                agent_id: lists.audit_events(self._tenant, replace(filter, agent_id=agent_id))
                for agent_id in agent_ids
            },
            request,
            _given(replace(filter, agent_id=None), since),
            names,
            lambda row: AUDIT_EVENTS.record(row, names),
        )

    async def count(
        self, since: datetime, filter: AuditEventFilter = AuditEventFilter(), cap: int = 10_000
    ) -> int:
        return await _LIST.count(self._reading, _given(filter, since), cap)


def _given(filter: AuditEventFilter, since: datetime) -> Parameters:
    since = max(since, filter.timestamp.gte or since)
    until = filter.timestamp.lt
    return given(
        agent_id=filter.agent_id,
        action=filter.action,
        outcome=filter.outcome,
        since=since,
        since_id=event_id_floor(since),
        until=until,
        until_id=until and event_id_floor(until),
    )


class PostgresAuditStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def append(self, *events: AuditEvent) -> None:
        if events:
            arrays = zip(*map(row_of, events), strict=True)
            await self._changing.rows(
                APPEND, {f"all_{name}": array for name, array in zip(NAMES, arrays, strict=True)}
            )


def row_of(event: AuditEvent) -> Row:
    """Its values in the order of `NAMES`, as the driver takes them: JSON travels as text."""
    values = _VALUES(event)
    text = msgspec.json.encode(values[_METADATA]).decode()
    return (*values[:_METADATA], text, *values[_METADATA + 1 :])


def _append() -> Insert:
    """One statement for any number of events, an array for each column: PostgreSQL parses it once
    and takes rows this way more than twice as fast as one by one."""
    kinds = {
        each.name: Text() if isinstance(each.type, (String, JSONB)) else each.type
        for each in AUDIT_EVENTS.columns(NAMES)
    }
    sent = (
        func.unnest(*(bindparam(f"all_{name}", type_=ARRAY(kinds[name])) for name in NAMES))
        .table_valued(*(column(name, kinds[name]) for name in NAMES), name="sent")
        .render_derived()
    )
    rows = select(*(cast(each, JSONB) if each.name == "metadata" else each for each in sent.c))
    return insert(audit_events).from_select(NAMES, rows).on_conflict_do_nothing()


NAMES = AUDIT_EVENTS.names
APPEND = _append()
_METADATA = NAMES.index("metadata")
_VALUES: Callable[[AuditEvent], Row] = attrgetter(*NAMES)
