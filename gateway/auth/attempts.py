"""Failed logins are counted, and beyond a budget nobody's secret is hashed.

There are two budgets: of one client from one address, and of one address whoever it names. A right
secret from elsewhere meets neither, and one that this process has verified before is not even
asked about. What is being hashed counts as failed until it is known, so that a crowd that comes at
once gets no more than its budget. Who is over it is in the trail once a minute and not each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from math import ceil
from types import TracebackType
from typing import Self

from db.budgets import Budget, Budgets, network_of

OF_CLIENT = 30
OF_ADDRESS = 300


class LoginAttempts:
    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._pending: Counter[str] = Counter()

    def by(self, tenant: str, client: str, address: str) -> Attempt:
        """One attempt. `client` is what was presented, whatever that is."""
        network = network_of(address)
        failures = (
            # An id is known in capitals too, and every spelling of it is one client.
            Budget.of(OF_CLIENT, "failed logins", tenant, client.lower(), network),
            Budget.of(OF_ADDRESS, "failed logins", network),
        )
        return Attempt(self._budgets, self._pending, tenant, network, failures)


class Attempt:
    """It is looked at first, and then may begin, with nothing in between for anybody else to have
    begun in. From then on until the block is left it counts as failed, once."""

    def __init__(
        self,
        budgets: Budgets,
        pending: Counter[str],
        tenant: str,
        network: str,
        failures: Sequence[Budget],
    ) -> None:
        self.network = network
        self._budgets = budgets
        self._pending = pending
        self._tenant = tenant
        self._failures = failures
        self._debts: Sequence[float] = ()
        self._begun = False
        self._over: Budget | None = None

    @property
    def has_begun(self) -> bool:
        return self._begun

    async def look(self, now: datetime) -> None:
        self._debts = await self._budgets.debts(self._failures, now)

    def begin(self) -> int:
        """0 when it may be made, otherwise in how many seconds it may."""
        waits = [
            (each.wait(debt, self._pending[each.key]), each)
            for each, debt in zip(self._failures, self._debts, strict=True)
        ]
        seconds, longest = max(waits, key=lambda wait: wait[0])
        if seconds:
            self._over = longest
            return ceil(seconds)
        self._begun = True
        self._pending.update(each.key for each in self._failures)
        return 0

    async def failed(self, now: datetime) -> None:
        await self._budgets.spend(self._failures, now)
        # Whatever is written of it until the block is left, it has been paid for.
        self._end()

    async def is_news(self, now: datetime) -> bool:
        """Whether nobody of this tenant has met the budget that stopped it within a minute."""
        assert self._over is not None, "it was not stopped"
        told = Budget.of(1, "told of", self._tenant, self._over.key)
        return not await self._budgets.take(told, now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if not self._begun:
            return
        self._begun = False
        for each in self._failures:
            self._pending[each.key] -= 1
            if not self._pending[each.key]:
                del self._pending[each.key]
