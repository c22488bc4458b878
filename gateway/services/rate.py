"""How often a client may ask: RATE_LIMIT_PER_MINUTE, for each client of each tenant.

Counted after the client is known, so that nobody can use up what belongs to another.
"""

from __future__ import annotations

from math import ceil

from db.budgets import Budget, Budgets
from db.errors import Throttled
from gateway.services.call import Call


class RateLimit:
    """`per_minute` 0 stands for no limit, and asks nobody."""

    def __init__(self, budgets: Budgets, per_minute: int) -> None:
        self._budgets = budgets
        self._per_minute = per_minute

    async def require(self, call: Call) -> None:
        """Raises Throttled for a caller that has had its share."""
        if not self._per_minute:
            return
        agent = call.agent
        share = Budget.of(self._per_minute, "requests", agent.tenant.slug, str(agent.agent_id))
        if wait := await self._budgets.take(share, call.now):
            raise Throttled("the client asks too often; try again later", ceil(wait))
