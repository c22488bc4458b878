"""Budgets: how often something may go wrong, or be asked for, in a minute.

A budget is a bucket. After a quiet minute it holds `per_minute`; each one that is spent comes back
by itself, the next after a `per_minute`th of a minute, so that whoever is told to wait is told for
how long, and a mistake that ends is over soon. What is kept of a bucket is its **debt**: the
seconds until it is full again. It is no more than a minute, and where there is none there is
nothing to keep.

Counting is for keeping a crowd away and proves nothing, so nothing here ever raises: a count that
cannot be had from Redis is had from this process alone. Keys say nothing of whom they count,
because people paste secrets where a client's id belongs.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol

from redis.asyncio import Redis

from db.batching import Batched
from db.cache import GONE
from db.errors import Unavailable
from db.namespace import budget_key
from db.settings import MEMORY

MINUTE = 60.0
_ROOM = 50_000
_MICRO = 1_000_000
_GRAIN = 1e-6  # seconds: what a sum of two fractions may be wrong by
_TIMEOUT = 0.5  # seconds
_SILENCE = 5.0  # seconds
_AT_ONCE = 64
_WAITING = 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Budget:
    key: str
    per_minute: int

    @classmethod
    def of(cls, per_minute: int, *whose: str) -> Budget:
        """The one of `whose` texts, which the key holds a digest of and not themselves."""
        digest = hashlib.sha256()
        for text in (str(per_minute), *whose):
            part = text.encode("utf-8", "surrogatepass")
            digest.update(len(part).to_bytes(8, "big") + part)
        return cls(budget_key(digest.hexdigest()), per_minute)

    @property
    def microseconds(self) -> int:
        """Until one that was spent is back: counted in whole ones, for sums of fractions drift."""
        return int(MINUTE * _MICRO) // self.per_minute

    @property
    def interval(self) -> float:
        """The same in seconds."""
        return self.microseconds / _MICRO

    def wait(self, debt: float, besides: int = 0) -> float:
        """Seconds until there is one to spend, were `besides` more spent by now; 0 for now."""
        seconds = debt - MINUTE + (besides + 1) * self.interval
        return seconds if seconds > _GRAIN else 0.0


class Budgets(Protocol):
    """Never raises. `now` counts where no server does."""

    async def debts(self, budgets: Sequence[Budget], now: datetime) -> Sequence[float]:
        """Of each its debt, in the same order; in one round trip."""
        ...

    async def spend(self, budgets: Sequence[Budget], now: datetime) -> None:
        """One of each, whether there is one or not: an empty one stays empty for longer, but never
        for more than the minute."""
        ...

    async def take(self, budget: Budget, now: datetime) -> float:
        """One, if there is one: 0 then, and the seconds until there is otherwise."""
        ...

    async def close(self) -> None: ...


class LocalBudgets:
    """This process's own counts, of the `room` that were spent from last."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._full_at: OrderedDict[str, int] = OrderedDict()

    async def debts(self, budgets: Sequence[Budget], now: datetime) -> Sequence[float]:
        return [self._debt(each, now) for each in budgets]

    async def spend(self, budgets: Sequence[Budget], now: datetime) -> None:
        for each in budgets:
            self._spend(each, now)

    async def take(self, budget: Budget, now: datetime) -> float:
        wait = budget.wait(self._debt(budget, now))
        if not wait:
            self._spend(budget, now)
        return wait

    async def close(self) -> None:
        """Nothing to give back."""

    def _debt(self, budget: Budget, now: datetime) -> float:
        left = (self._full_at.get(budget.key, 0) - _instant(now)) / _MICRO
        # A clock that was set back makes no debt longer than it can be.
        return min(max(left, 0.0), MINUTE)

    def _spend(self, budget: Budget, now: datetime) -> None:
        debt = min(self._debt(budget, now) + budget.interval, MINUTE)
        self._full_at[budget.key] = _instant(now) + round(debt * _MICRO)
        self._full_at.move_to_end(budget.key)
        if len(self._full_at) > self._room:
            self._full_at.popitem(last=False)


class RedisBudgets:
    """Counts that all processes share, by the clock of the server that keeps them.

    Every count is this process's own as well. That one is asked while the server is silent, and
    for some seconds more, so that an outage costs one request its timeout and not each of them.
    """

    def __init__(self, url: str) -> None:
        self._local = LocalBudgets()
        self._redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, max_connections=2
        )
        self._asked: Batched[_Question, Sequence[float]] = Batched(
            self._run, most=_AT_ONCE, room=_WAITING
        )
        self._silent_until: datetime | None = None

    async def debts(self, budgets: Sequence[Budget], now: datetime) -> Sequence[float]:
        told = await self._ask(_Question(_LOOK, budgets), now)
        return await self._local.debts(budgets, now) if told is None else told

    async def spend(self, budgets: Sequence[Budget], now: datetime) -> None:
        await self._local.spend(budgets, now)
        await self._ask(_Question(_SPEND, budgets), now)

    async def take(self, budget: Budget, now: datetime) -> float:
        told = await self._ask(_Question(_TAKE, [budget]), now)
        if told is None:
            return await self._local.take(budget, now)
        wait = budget.wait(told[0])
        if not wait:
            await self._local.spend([budget], now)
        return wait

    async def close(self) -> None:
        await self._asked.drain()
        await self._redis.aclose()

    async def _ask(self, question: _Question, now: datetime) -> Sequence[float] | None:
        if self._silent_until is not None and now < self._silent_until:
            return None
        try:
            told = await self._asked.ask(question)
        except (*GONE, Unavailable) as error:
            if self._silent_until is None:
                # The address may hold a password: the kind says enough.
                _log.warning("failures are counted here alone: %s", type(error).__name__)
            self._silent_until = now + timedelta(seconds=_SILENCE)
            return None
        if self._silent_until is not None:
            _log.info("failures are counted with the others again")
            self._silent_until = None
        return told

    async def _run(self, questions: Sequence[_Question]) -> Sequence[Sequence[float]]:
        keys: list[str] = []
        arguments: list[Any] = []
        for question in questions:
            for budget in question.budgets:
                keys.append(budget.key)
                arguments += [question.act, budget.microseconds]
        told = iter(await self._redis.eval(_SCRIPT, len(keys), *keys, *arguments))
        return [[next(told) / _MICRO for _ in each.budgets] for each in questions]


_LOOK, _SPEND, _TAKE = "look", "spend", "take"

# In microseconds. The value is the instant at which the bucket is full again, and the key ends
# with it; the debt that is told is the one before.
_SCRIPT = """
local clock = redis.call('TIME')
local now, minute, debts = clock[1] * 1000000 + clock[2], 60000000, {}
for i, key in ipairs(KEYS) do
  local act, interval = ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  local held = redis.pcall('GET', key)
  local full = type(held) == 'string' and tonumber(held) or 0
  local debt = math.min(math.max(full - now, 0), minute)
  debts[i] = debt
  if act == 'spend' or (act == 'take' and debt + interval <= minute) then
    debt = math.min(debt + interval, minute)
    redis.call('SET', key, string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
  end
end
return debts
"""


@dataclass(frozen=True, slots=True)
class _Question:
    act: str
    budgets: Sequence[Budget]


def open_budgets(redis_url: str) -> Budgets:
    """The counts that REDIS_URL says."""
    return LocalBudgets() if redis_url == MEMORY else RedisBudgets(redis_url)


def _instant(now: datetime) -> int:
    return (now - _EPOCH) // _MICROSECOND


def network_of(address: str) -> str:
    """Whom an address stands for: of IPv6 a /64, which is what one customer is given at least."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
