"""The trail, as its tenant may read it: what is older than the retention window is not there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from db.contract import AuditReader, Storage
from db.filters import AuditEventFilter
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import AuditEvent
from gateway.services.call import Call


class AuditService:
    """`retention_days` holds for tenants that have no number of their own."""

    def __init__(self, storage: Storage, retention_days: int) -> None:
        self._storage = storage
        self._retention_days = retention_days

    async def get(self, call: Call, event_id: UUID) -> AuditEvent | None:
        return await self._reader(call).get(event_id, self._since(call))

    async def page(
        self,
        call: Call,
        request: PageRequest,
        filter: AuditEventFilter,
        wanted: Collection[str] | None = None,
    ) -> Page[AuditEvent]:
        """Raises InvalidCursor."""
        return await self._reader(call).page(request, self._since(call), filter, wanted)

    async def pages(
        self,
        call: Call,
        agent_ids: Collection[UUID],
        request: PageRequest,
        filter: AuditEventFilter,
        wanted: Collection[str] | None = None,
    ) -> Mapping[UUID, Page[AuditEvent]]:
        """Raises InvalidCursor."""
        return await self._reader(call).pages(agent_ids, request, self._since(call), filter, wanted)

    async def count(self, call: Call, filter: AuditEventFilter) -> int:
        """As for agents."""
        return await self._reader(call).count(self._since(call), filter, COUNT_CAP)

    def _since(self, call: Call) -> datetime:
        days = call.tenant.retention_days or self._retention_days
        return call.now - timedelta(days=days)

    def _reader(self, call: Call) -> AuditReader:
        return self._storage.read(call.tenant.prefix).audit
