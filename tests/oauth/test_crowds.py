"""Five hundred logins at once: one hash, and a server that answers others meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import anyio
import httpx

from db.filters import AuditEventFilter
from db.records import AuditAction
from gateway.auth.secrets import SecretHasher, new_secret
from gateway.settings import GatewaySettings
from tests.gateway import CHEAPEST_BCRYPT, running
from tests.oauth.asking import GRANT, Asking, error_of

CROWD = 500


class Held(SecretHasher):
    """Compares when the test lets it, and knows how often it did."""

    def __init__(self, **how: int) -> None:
        super().__init__(CHEAPEST_BCRYPT, **how)
        self.let = asyncio.Event()
        self.let.set()
        self.wanted = asyncio.Event()
        self.compared = 0

    async def matches(self, secret: str, secret_hash: str | None) -> bool:
        self.compared += 1
        self.wanted.set()
        await self.let.wait()
        return await super().matches(secret, secret_hash)


async def all_waiting(tasks: list[asyncio.Task[httpx.Response]], hasher: Held) -> None:
    """Until a comparison is wanted, and the rest has come as far as it can."""
    async with asyncio.timeout(30):
        await hasher.wanted.wait()
        await anyio.wait_all_tasks_blocked()
    assert not any(task.done() for task in tasks)


async def test_of_one_client_they_are_one_hash_and_the_server_lives_meanwhile(
    backend: GatewaySettings,
) -> None:
    hasher = Held()
    async with running(backend, hasher=hasher) as started:
        asking = Asking(started, await started.onboard("acme"))
        hasher.let.clear()
        tasks = [asyncio.create_task(asking.token(GRANT)) for _ in range(CROWD)]
        await all_waiting(tasks, hasher)
        assert (await started.client.get("/health/live")).json() == {"status": "ok"}
        hasher.let.set()
        answers = await asyncio.gather(*tasks)
        assert Counter(answer.status_code for answer in answers) == {200: CROWD}
        assert hasher.compared == 1
        assert len({answer.json()["access_token"] for answer in answers}) == CROWD
        assert await _count(asking, AuditAction.TOKEN_ISSUED) == CROWD
        # And afterwards none.
        assert (await asking.token(GRANT)).status_code == 200
        assert hasher.compared == 1


async def test_of_many_wrong_ones_no_more_are_hashed_than_the_budget_allows(
    backend: GatewaySettings,
) -> None:
    hasher = Held()
    async with running(backend, hasher=hasher) as started:
        asking = Asking(started, await started.onboard("acme"))
        wrong = [replace(asking.admin, secret=new_secret()) for _ in range(CROWD)]
        answers = await asyncio.gather(*(asking.token(GRANT, client=each) for each in wrong))
        counted = Counter(error_of(answer)[0] for answer in answers)
        assert set(counted) == {401, 429}
        assert hasher.compared == counted[401] < 60
        # What was not looked at is told once.
        assert await _count(asking, AuditAction.AUTH_FAILED) == counted[401] + 1


async def test_when_there_is_no_room_to_hash_they_are_told_to_come_again(
    backend: GatewaySettings,
) -> None:
    hasher = SecretHasher(CHEAPEST_BCRYPT + 4, threads=1, room=3)
    async with running(backend, hasher=hasher) as started:
        asking = Asking(started, await started.onboard("acme"))
        wrong = [replace(asking.admin, secret=new_secret()) for _ in range(20)]
        answers = await asyncio.gather(*(asking.token(GRANT, client=each) for each in wrong))
        counted = Counter(error_of(answer) for answer in answers)
        assert set(counted) == {(401, "invalid_client"), (503, "temporarily_unavailable")}
        for answer in answers:
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1
        assert await _count(asking, AuditAction.AUTH_FAILED) == counted[401, "invalid_client"]
        assert (await asking.token(GRANT)).status_code == 200


async def _count(asking: Asking, action: AuditAction) -> int:
    started = asking.running
    return await started.gateway.storage.read(asking.admin.prefix).audit.count(
        started.clock.now - timedelta(days=1),
        AuditEventFilter(action=(action,)),
    )
