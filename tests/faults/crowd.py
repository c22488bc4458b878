"""Those who revoke, those who check, and those who only want to be let in, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from tests.faults.client import VIEWER, WAYS, Gateways
from tests.faults.cuts import Cutting, Maker
from tests.faults.ledger import Cut, Ledger, Token, Verdict, Wait
from tests.gateway import Client

_CHECKERS = 3
_RECENT = 30
_PAUSE = (0.05, 0.3)  # seconds between two cuts of one kind
_AGAIN = 1.0  # seconds before a cut that was put off is asked for again
_MOST_PUT_OFF = 40
_AT_ONCE = 8
_STEP = 0.05  # seconds between two checks of one that is let in
_SAMPLE = 0.2  # seconds between two looks at the health
_PROMPT = 5  # seconds: less than anything waits for a database
_STUCK = 100  # seconds: more than any cut may be put off for
_EVER = 0.4  # of the checks: of any token that was ever cut, not of the last ones


class Crowd:
    """`good` are tokens that nobody ever cuts."""

    def __init__(
        self, gateways: Gateways, random: Random, good: list[Token], makers: list[Maker]
    ) -> None:
        self.ledger: Ledger = gateways.ledger
        self._gateways = gateways
        self._random = random
        self._good = good
        self._makers = makers
        self._gone: list[Token] = []
        self._put_off: set[asyncio.Task[None]] = set()
        self._cutting_is_over = False
        self._over = False

    async def run(self) -> None:
        """Until `end`. Whatever fails in here fails it all."""
        async with asyncio.TaskGroup() as group:
            for make in self._makers:
                group.create_task(self._cut_with(make, group))
            for _ in range(_CHECKERS):
                group.create_task(self._check())
            for gateway in self._gateways.numbers:
                group.create_task(self._be_let_in(gateway))
                group.create_task(self._look_at_health(gateway))

    async def settle(self) -> None:
        """Nothing new is cut, and every cut that was put off is acknowledged."""
        self._cutting_is_over = True
        async with asyncio.timeout(_STUCK):
            while True:
                # One that is still cutting may put off another.
                await asyncio.sleep(_AGAIN)
                if not self._put_off or self.ledger.unexpected:
                    return

    async def let_in_everywhere(self) -> list[Verdict]:
        """What every gateway says of a good token, by both ways."""
        async with asyncio.timeout(_PROMPT):
            checks = await asyncio.gather(
                *(
                    self._gateways.check(self._good[0], gateway, way)
                    for gateway in self._gateways.numbers
                    for way in WAYS
                )
            )
        return [check.verdict for check in checks]

    async def sweep(self) -> None:
        """Everybody is asked once more for every token that was cut."""
        for first in range(0, len(self._gone), _AT_ONCE):
            some = self._gone[first : first + _AT_ONCE]
            await asyncio.gather(
                *(
                    self._gateways.check(token, gateway, VIEWER)
                    for token in some
                    for gateway in self._gateways.numbers
                )
            )

    async def end(self) -> None:
        self._over = True

    async def _cut_with(self, make: Maker, group: asyncio.TaskGroup) -> None:
        while not self._cutting_is_over:
            if len(self._put_off) < _MOST_PUT_OFF and (cut := await make()) is not None:
                await self._cut(cut, group)
            await asyncio.sleep(self._random.uniform(*_PAUSE))

    async def _cut(self, cut: Cut, group: asyncio.TaskGroup) -> None:
        for token in cut.tokens:
            # Or it would be refused afterwards for another reason.
            if (await self._anywhere(token)) is not Verdict.ACCEPTED:
                return
        cut.asked = True
        asked = cut.ask(self._gateways.any(), False)
        if cut.race is None:
            done = await asked
        else:
            done, raced = await asyncio.gather(asked, cut.race(self._gateways.any()))
            if raced is not None:
                # Its request began before anybody knew of the end of the others.
                self.ledger.raced += 1
                cut.add(raced)
        if done:
            await self._known(cut)
        else:
            self.ledger.put_off[cut.kind] += 1
            later = group.create_task(self._ask_until_known(cut))
            self._put_off.add(later)
            later.add_done_callback(self._put_off.discard)
            if cut.undo is not None:
                await asyncio.wait([later])

    async def _ask_until_known(self, cut: Cut) -> None:
        while not self._over:
            await asyncio.sleep(_AGAIN)
            if await cut.ask(self._gateways.any(), True):
                await self._known(cut)
                return

    async def _known(self, cut: Cut) -> None:
        self.ledger.acknowledge(cut)
        for token in cut.tokens:
            # At once, on every one of them, by both ways.
            await asyncio.gather(
                *(
                    self._gateways.check(token, gateway, way)
                    for gateway in self._gateways.numbers
                    for way in WAYS
                )
            )
        if cut.undo is not None:
            await cut.undo()
        self._gone += cut.tokens

    async def _check(self) -> None:
        while not self._cutting_is_over:
            some = self._gone if self._random.random() < _EVER else self._gone[-_RECENT:]
            if some:
                await self._anywhere(self._random.choice(some))
            await asyncio.sleep(0 if some else _STEP)

    async def _anywhere(self, token: Token) -> Verdict:
        way = self._random.choice(WAYS)
        return (await self._gateways.check(token, self._gateways.any(), way)).verdict

    async def _be_let_in(self, gateway: int) -> None:
        turn = 0
        since: float | None = None
        while not self._over:
            turn += 1
            token = self._good[turn % len(self._good)]
            check = await self._gateways.check(token, gateway, WAYS[turn // 2 % 2])
            if check.verdict is not Verdict.ACCEPTED:
                since = check.began if since is None else since
            elif since is not None:
                self.ledger.waits.append(Wait(gateway, since, time.monotonic()))
                since = None
            await asyncio.sleep(_STEP)
        assert since is None, f"gateway {gateway} does not accept what is good"

    async def _look_at_health(self, gateway: int) -> None:
        while not self._over:
            self.ledger.warmth[await self._gateways.readiness(gateway)] += 1
            await asyncio.sleep(_SAMPLE)


async def makers_of_every_kind(cutting: Cutting, tenants: list[Client]) -> list[Maker]:
    """A maker for each thing that can be cut on its own, and can be again."""

    def of(make: Callable[[Client], Awaitable[Cut | None]], client: Client) -> Maker:
        return lambda: make(client)

    makers: list[Maker] = [cutting.retirement]
    for make in (
        cutting.token_at_oauth,
        cutting.token_at_graphql,
        cutting.credential,
        cutting.suspension,
        cutting.switch,
    ):
        agent = await cutting.agent()
        assert agent is not None, cutting.gateways.ledger.unexpected
        makers.append(of(make, agent))
    for client, cut in zip(tenants, (cutting.tenant, cutting.fleet), strict=True):
        makers.append(of(cut, client))
    return makers
