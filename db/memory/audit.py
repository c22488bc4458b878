"""The trail in memory: every event stays until its month is purged, or the process ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from db import lists
from db.clock import event_id_floor
from db.contract import Wanted
from db.filters import AuditEventFilter
from db.memory.copies import fresh, showing, stored
from db.memory.drafts import Draft
from db.memory.rows import Rows, Selection
from db.memory.units import Life
from db.months import following, missing
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import AuditEvent

_EVERY = AuditEventFilter()


class AuditEvents(Rows[AuditEvent, lists.ById]):
    """The table; `months` are those that it is kept by, oldest first, and `until` is where the last
    that there ever was ends. The first of all has no lower end."""

    def __init__(self) -> None:
        super().__init__(lists.audit_event_position, lambda event: event.agent_id)
        self.months: list[datetime] = []
        self.until: datetime | None = None

    def extend(self, now: datetime) -> Sequence[datetime]:
        """Adds the months that are missing; which these are."""
        made = list(missing(self.until, now))
        self.months += made
        self.until = following(made[-1]) if made else self.until
        return made

    def cut(self, month: datetime) -> Sequence[AuditEvent]:
        """Takes away the first month with its events, which are returned in order."""
        assert self.months[:1] == [month], "months go in their order"
        del self.months[0]
        return self.take_before((event_id_floor(following(month)),))


class MemoryAudit:
    def __init__(self, tenant: TenantPrefix, rows: AuditEvents) -> None:
        self._tenant = tenant
        self._rows = rows

    async def get(self, event_id: UUID, since: datetime) -> AuditEvent | None:
        event = self._rows.get(event_id)
        return None if event is None or event_id < event_id_floor(since) else fresh(event)

    async def page(
        self,
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = _EVERY,
        wanted: Wanted = None,
    ) -> Page[AuditEvent]:
        return self._select(since, filter).page(
            lists.audit_events(self._tenant, filter),
            request,
            descending=True,
            show=showing(AuditEvent, wanted, lists.AUDIT_EVENT_KEYS) or fresh,
        )

    async def pages(
        self,
        agent_ids: Collection[UUID],
        request: PageRequest,
        since: datetime,
        filter: AuditEventFilter = _EVERY,
        wanted: Wanted = None,
    ) -> Mapping[UUID, Page[AuditEvent]]:
        return {
            agent_id: await self.page(request, since, replace(filter, agent_id=agent_id), wanted)
            for agent_id in dict.fromkeys(agent_ids)
        }

    async def count(
        self, since: datetime, filter: AuditEventFilter = _EVERY, cap: int = 10_000
    ) -> int:
        return self._select(since, filter).count(cap)

    def _select(
        self, since: datetime, filter: AuditEventFilter
    ) -> Selection[AuditEvent, lists.ById]:
        span = filter.timestamp
        start = since if span.gte is None else max(since, span.gte)
        return self._rows.select(
            group=filter.agent_id,
            start=(event_id_floor(start),),
            end=None if span.lt is None else (event_id_floor(span.lt),),
            matches=None if replace(filter, agent_id=None) == _EVERY else filter.matches,
        )


class MemoryAuditStore:
    def __init__(self, rows: AuditEvents, life: Life) -> None:
        self._draft = Draft(rows, "event", life)

    async def append(self, *events: AuditEvent) -> None:
        for event in events:
            if self._draft.get(event.event_id) is None:
                self._draft.put(stored(event))

    def keep(self) -> None:
        self._draft.keep()
