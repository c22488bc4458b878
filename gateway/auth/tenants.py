"""The rows of active tenants, remembered for a moment, so that a request need not read them.

A remembered row alone proves nothing: whoever wants to serve it has the revocation cache say, in
the question that it asks about the token anyway, that the tenant's generation is still the row's.
Every way out of `active`, and the kill switch, raises that, and counts as made only when the cache
says so to everybody (`db.revocations`). There is one way that does not: a tenant without a single
agent is onboarded again, and has no token that could be accepted.

So a token may be issued from a remembered row, too. If the tenant was cut off since the row was
proven, the token carries the generation from before, and is refused wherever it is shown.

What changes without a cut is the name, the retention, the resource servers. For these a row is
read again after a second; the process that changes them forgets it at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from db.contract import Storage
from db.namespace import prefix_problem
from db.records import Tenant

MOMENT = timedelta(seconds=1)
_MOST = 4096


class Tenants:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._rows: dict[str, tuple[datetime, Tenant]] = {}

    async def read(self, slug: str, now: datetime) -> Tenant | None:
        """From storage: the tenant of a slug from a path, an argument or a token, if it may be
        served. Remembered are those whose agents may act. Raises Unavailable."""
        if prefix_problem(slug) is not None:
            return None
        tenant = await self._storage.registry.tenants.get(slug)
        self.forget(slug)
        if tenant is None or not tenant.is_active:
            return None
        if not tenant.is_killed:
            while len(self._rows) >= _MOST:
                del self._rows[next(iter(self._rows))]
            self._rows[slug] = now, tenant
        return tenant

    def recall(self, slug: str, now: datetime, generation: int = 0) -> Tenant | None:
        """The row as it was at most a moment before `now`; None too for one that is older than
        a token of that `generation`."""
        found = self._rows.get(slug)
        if found is None:
            return None
        at, tenant = found
        # A request that was held up is older than the row, and no worse for it.
        old = now - at > MOMENT or tenant.token_generation < generation
        return None if old else tenant

    def forget(self, slug: str) -> None:
        self._rows.pop(slug, None)
