"""Uses of credentials: noted while requests are answered, written down behind them.

A use is worth a row's change once a minute, whoever asks. Losing one is no loss that lasts: the
row still says what it said, so the next use is noted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from db.batching import Batched
from db.contract import UnitOfWork
from db.errors import AgentIdPError, Unavailable
from db.log import log_fault
from db.namespace import TenantPrefix
from db.records import Credential

Unit = Callable[[TenantPrefix], AbstractAsyncContextManager[UnitOfWork]]

GRAIN = timedelta(seconds=60)

_MOST = 500  # in one batch
_ROOM = 10_000
_TRIES = 3

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Use:
    """`at` may still rise until it is `sent`."""

    tenant: TenantPrefix
    credential_id: UUID
    at: datetime
    sent: bool = False
    tries: int = 0


def worth_noting(last_used_at: datetime | None, at: datetime) -> bool:
    """Whether a use at `at` tells more than what is known of the last one."""
    return last_used_at is None or at >= last_used_at + GRAIN


class Uses:
    """Writes in units of its own: what holds a credential's row holds up nobody, and whoever is
    passed over for that is taken along with the next batch."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._batched: Batched[_Use, None] = Batched(self._write, most=_MOST, room=_ROOM)
        self._noted: dict[tuple[TenantPrefix, UUID], _Use] = {}
        self._passed_over: list[_Use] = []
        self._failing = False

    def note(self, tenant: TenantPrefix, credential: Credential, at: datetime) -> None:
        """Never raises and never waits: without room, or after `close`, the use is left out."""
        if not worth_noting(credential.last_used_at, at):
            return
        key = (tenant, credential.credential_id)
        noted = self._noted.get(key)
        if noted is not None and not noted.sent:
            noted.at = max(noted.at, at)
            return
        if noted is not None and not worth_noting(noted.at, at):
            return
        use = _Use(tenant, credential.credential_id, at)
        try:
            self._batched.put(use)
        except Unavailable:
            return
        self._noted[key] = use

    async def close(self) -> None:
        """Returns when all that was noted is written, as far as it can be."""
        await self._batched.close()
        if self._passed_over:
            await self._write([])

    async def _write(self, batch: Sequence[_Use]) -> Sequence[None]:
        uses = [*self._passed_over, *batch]
        self._passed_over = []
        by_tenant: dict[TenantPrefix, list[_Use]] = {}
        for use in uses:
            use.sent = True
            by_tenant.setdefault(use.tenant, []).append(use)
        for tenant, of_tenant in by_tenant.items():
            await self._write_of(tenant, of_tenant)
        for use in uses:
            key = (use.tenant, use.credential_id)
            if self._noted.get(key) is use:
                del self._noted[key]
        return [None] * len(batch)

    async def _write_of(self, tenant: TenantPrefix, uses: Sequence[_Use]) -> None:
        latest: dict[UUID, _Use] = {}
        for use in sorted(uses, key=lambda use: use.at):
            latest[use.credential_id] = use
        try:
            async with self._unit(tenant) as unit:
                passed_over = await unit.credentials.used(
                    {credential_id: use.at for credential_id, use in latest.items()}
                )
        except Exception as error:
            self._complain(tenant, error)
            return
        self._failing = False
        for credential_id in passed_over:
            use = latest[credential_id]
            use.tries += 1
            if use.tries < _TRIES:
                self._passed_over.append(use)

    def _complain(self, tenant: TenantPrefix, error: Exception) -> None:
        """Once, until one succeeds again: no request was told, and each would say the same."""
        if self._failing:
            return
        self._failing = True
        if isinstance(error, AgentIdPError):
            _log.warning("uses not written", tenant=tenant.value, reason=error.message)
        else:
            log_fault(error)
