"""Many at once: one hash for all of them, and a gateway that answers others meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter

import anyio
import pytest

from gateway.settings import GatewaySettings
from tests.gateway import CHEAPEST_BCRYPT, running
from tests.oauth.asking import GRANT, Asking
from tests.services.logins import Counting

CROWD = 500


class Gated(Counting):
    """Compares when the test lets it, and not on the event loop until then either."""

    def __init__(self) -> None:
        super().__init__(CHEAPEST_BCRYPT)
        self.let = asyncio.Event()

    async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
        await self.let.wait()
        return await super().matches(secret, secret_hash, whence)


@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
async def test_five_hundred_logins_of_one_client_with_one_secret_are_one_hash(
    backend: GatewaySettings, right: bool
) -> None:
    hasher = Gated()
    async with running(backend, hasher=hasher) as started:
        asking = Asking(started, await started.onboard("acme"))
        before = hasher.runs
        form = {**GRANT, "client_id": asking.admin.client_id}
        form["client_secret"] = asking.admin.secret if right else "sk_live_" + "0" * 64
        async with anyio.create_task_group() as tasks:
            answers: list[int] = []

            async def one() -> None:
                answers.append((await asking.token(form, authorization=None)).status_code)

            for _ in range(CROWD):
                tasks.start_soon(one)
            # They wait; whoever asks for something else does not.
            for _ in range(3):
                alive = await started.client.get("/health/live")
                assert alive.status_code == 200
                assert not answers
            hasher.let.set()
        if right:
            assert Counter(answers) == {200: CROWD}
            assert hasher.runs - before == 1
        else:
            # A tag that no credential has is worth a decoy each, so the budget is what bounds it.
            assert set(answers) <= {401, 429}
            assert answers.count(401) <= 30
            assert hasher.runs - before <= 30
