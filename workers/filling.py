"""Cuts on their way from storage to the cache, for the warm-up and for the tail.

The signing keys that are retired come first; they are few, and no tenant's. Then several tenants at
once, and of each the next stretch is read while the server takes the last one. A tenant that cannot
be read is reported and the others go on: whoever called knows then that something may be missing.
When the cache fails, or the registry cannot be read, everything ends at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from db.contract import RevocationReader
from db.cuts import CLOCK_LEEWAY_SECONDS, CUT_LIFE, LAST_SECOND, LEAST_ID, CutKind, Cuts, cut_until
from db.errors import AgentIdPError, Unavailable
from db.filters import TenantFilter
from db.namespace import retired_key
from db.records import Tenant
from db.warmth import Opening, Warmth
from workers.state import Report, State
from workers.tenants import WITH_TABLES, tenants

_AT_ONCE = 4
_STRETCH = 10_000
_HUNDRED = 100
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LEEWAY = timedelta(seconds=CLOCK_LEEWAY_SECONDS)
_log = structlog.get_logger(__name__)


class _CacheFailed(Exception):
    """The cache took something no more; `Filling` knows why."""


class Filling:
    """One pass over the keys, every tenant whose tables stand, and the generation of those whose
    tables do not: somebody may remember that it was served. `now` is the instant of the run."""

    def __init__(self, state: State, warmth: Warmth, opening: Opening, now: datetime) -> None:
        self._state = state
        self._warmth = warmth
        self._opening = opening
        self._live = now - _LEEWAY
        self._failed: AgentIdPError | None = None
        self._keys = 0

    async def everything(self, since: datetime | None) -> Report:
        """All that is live; made at `since` or later, if it is given. Raises Unavailable and
        Misconfigured for the cache, and Unavailable for the registry."""

        async def fill(tenant: Tenant, told: Callable[[float], None]) -> None:
            await self._to_cache(self._hold())
            if not await self._has_more(tenant, since):
                return
            reader = self._state.storage.read(tenant.prefix).revocations
            for kind in CutKind:
                found = await reader.cuts(kind, self._live, since, LEAST_ID, _STRETCH)
                await self._rest(tenant, reader, found, since, told)

        return await self._each(fill, since)

    async def recent(self, since: datetime) -> Report:
        """What was made at `since` or later: one statement for each tenant that is quiet. Raises
        as `everything`."""

        async def fill(tenant: Tenant, told: Callable[[float], None]) -> None:
            if not await self._has_more(tenant, since):
                return
            reader = self._state.storage.read(tenant.prefix).revocations
            for found in await reader.recent_cuts(self._live, since, _STRETCH):
                await self._rest(tenant, reader, found, since, told)

        return await self._each(fill, since)

    async def _each(
        self,
        fill: Callable[[Tenant, Callable[[float], None]], Awaitable[None]],
        since: datetime | None,
    ) -> Report:
        await self._retired(since)
        waiting = [
            tenant
            async for tenant in tenants(self._state.storage, TenantFilter())
            if _has_tables(tenant) or self._is_cut(tenant, since)
        ]
        total, seen = len(waiting), 0
        waiting.reverse()
        failures: dict[str, str] = {}

        def told(share: float) -> None:
            self._state.advance(seen * _HUNDRED + int(share * _HUNDRED), total * _HUNDRED)

        async def work() -> None:
            nonlocal seen
            while waiting and self._failed is None:
                tenant = waiting.pop()
                try:
                    await fill(tenant, told)
                except _CacheFailed:
                    return
                except AgentIdPError as error:
                    if not await self._is_gone(tenant):
                        _log.warning(
                            "not read for the cache", tenant=tenant.slug, reason=error.message
                        )
                        failures[tenant.slug] = error.message
                seen += 1
                told(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
        if self._failed is not None:
            raise self._failed
        return Report(seen, self._keys, failures)

    async def _rest(
        self,
        tenant: Tenant,
        reader: RevocationReader,
        found: Cuts,
        since: datetime | None,
        told: Callable[[float], None],
    ) -> None:
        """Puts `found`, and whatever comes after it, into the cache."""
        while found:
            putting = self._to_cache(self._warmth.put(self._opening, tenant.prefix, found))
            self._keys += len(found)
            if len(found) < _STRETCH:
                await putting
                return
            told(found.last.int / 2**128)
            following = reader.cuts(found.kind, self._live, since, found.last, _STRETCH)
            # Both to their end: what is left running would outlive the storage that it reads.
            put, read = await asyncio.gather(putting, following, return_exceptions=True)
            if isinstance(put, BaseException):
                raise put
            if isinstance(read, BaseException):
                raise read
            found = read

    async def _retired(self, since: datetime | None) -> None:
        """The keys that are retired, and with each all that it signed, however long ago."""
        keys = self._state.storage.registry.signing_keys
        for key in await keys.retired(since or _BEGINNING):
            if not await self._state.cache.mark(retired_key(key.kid), LAST_SECOND):
                raise _silent()
            self._keys += 1

    async def _has_more(self, tenant: Tenant, since: datetime | None) -> bool:
        """Whether it has tables to be read; its generation is put there first."""
        if self._is_cut(tenant, since):
            await self._to_cache(self._raise(tenant))
            self._keys += 1
        return _has_tables(tenant)

    def _is_cut(self, tenant: Tenant, since: datetime | None) -> bool:
        live = tenant.updated_at > self._live - CUT_LIFE
        recent = since is None or tenant.updated_at >= since
        return tenant.token_generation > 0 and live and recent

    async def _raise(self, tenant: Tenant) -> None:
        key, until = tenant.prefix.tenant_generation_key, cut_until(tenant.updated_at)
        if not await self._state.cache.raise_to(key, tenant.token_generation, until):
            raise _silent()

    async def _hold(self) -> None:
        await self._warmth.hold(self._opening)

    async def _to_cache(self, act: Awaitable[None]) -> None:
        try:
            await act
        except AgentIdPError as error:
            self._failed = self._failed or error
            raise _CacheFailed from error

    async def _is_gone(self, tenant: Tenant) -> bool:
        """Whether its tables were dropped while this ran: then it has nothing to be read."""
        try:
            now = await self._state.storage.registry.tenants.get(tenant.slug)
        except AgentIdPError:
            return False
        return now is None or not _has_tables(now)


def _has_tables(tenant: Tenant) -> bool:
    return tenant.status in (WITH_TABLES.status or ())


def _silent() -> Unavailable:
    return Unavailable("the revocation cache does not answer, or takes nothing more")
