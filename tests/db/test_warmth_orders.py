"""The warm marker under events in any order: each of them by itself is tried in `test_warmth`."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
from db.errors import AgentIdPError
from db.warmth import Opening
from tests.contract.cast import ACME
from tests.db.test_warmth import FAR, client, key, marks
from tests.servers.valkey import Valkey

__all__ = ["client"]


@dataclass
class Filler:
    """A warm-up or a tail, a step at a time; any other thing may happen between two steps."""

    cache: RedisRevocations
    committed: list[int]
    warm_up: bool
    steps: list[object] = field(default_factory=list)

    async def step(self) -> None:
        try:
            await self._go_on()
        except AgentIdPError:
            self.steps = []

    async def _go_on(self) -> None:
        warmth = self.cache.warmth
        match self.steps:
            case []:
                self.steps = [await (warmth.claim() if self.warm_up else warmth.look())]
            case [Opening()] | [Opening(), list(), Opening()]:
                self.steps.append(list(self.committed))
            case [Opening() as opening, list() as read] if self.warm_up:
                await self._put(opening, read)
                self.steps.append(await warmth.hold(opening))
            case [Opening() as opening, list() as read]:
                await self._put(opening, read)
                await warmth.renew(opening)
                self.steps = []
            case [Opening() as opening, list(), Opening() as second, list() as read]:
                await self._put(opening, read)
                await warmth.complete(opening, second)
                self.steps = []

    async def _put(self, opening: Opening, read: list[int]) -> None:
        await self.cache.warmth.put(opening, ACME, marks(*read))


@pytest.mark.parametrize("seed", range(10))
async def test_in_any_order_of_events_no_acknowledged_cut_is_believed_away(
    valkey: Valkey, client: Redis, seed: int
) -> None:
    """Commits, publications, two warm-ups and two tails, each step for itself, between flushes and
    restarts with an old dump. What is acknowledged is there, or the cache is cold."""
    chance = random.Random(seed)
    caches = [RedisRevocations(valkey.url()) for _ in range(2)]
    committed: list[int] = []
    acknowledged: list[int] = []
    fillers = [Filler(cache, committed, warm_up) for cache in caches for warm_up in (True, False)]
    warm_checks = 0
    for _ in range(400):
        event = chance.choices(
            ["fill", "commit", "publish", "cool", "flush", "save", "restart"],
            [60, 8, 8, 8, 1, 2, 0.7],
        )[0]
        cache = chance.choice(caches)
        if event == "fill":
            filler = chance.choice(fillers)
            for _ in range(chance.randint(1, 5)):
                await filler.step()
        elif event in ("commit", "publish", "cool"):
            committed.append(len(committed) + 1)
            # When the key cannot be written, the marker can be taken away.
            if (event == "publish" and await cache.mark(key(committed[-1]), FAR)) or (
                event == "cool" and await cache.cool()
            ):
                acknowledged.append(committed[-1])
        elif event == "flush":
            await client.flushall()
        elif event == "save":
            await client.save()
        elif event == "restart":
            valkey.kill()
            valkey.start()
        for cache in caches:
            found = await cache.read([key(number) for number in acknowledged])
            assert not found.warm or None not in found.values
            warm_checks += found.warm
    assert warm_checks > 20, "it was never believed, and nothing was tried"
    for cache in caches:
        await cache.close()
