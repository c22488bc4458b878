"""An agent that is full is told so before anything is hashed, and a crowd makes it no fuller."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import anyio
import pytest

from db.errors import TooManyCredentials
from gateway.services.minting import MAX_USABLE
from gateway.settings import GatewaySettings
from tests.gateway import RunningGateway, running
from tests.services.logins import Counting


@pytest.fixture
def hasher() -> Counting:
    return Counting()


@pytest.fixture
async def gateway(backend: GatewaySettings, hasher: Counting) -> AsyncIterator[RunningGateway]:
    async with running(backend, hasher=hasher) as started:
        yield started


async def test_an_agent_that_is_full_costs_no_hash(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    call, agent_id = await gateway.as_caller(worker), UUID(worker.client_id)
    credentials = gateway.gateway.credentials
    for _ in range(MAX_USABLE - 1):
        newest = (await credentials.generate(call, agent_id)).credential.credential_id
    before, said = hasher.runs, await gateway.actions(admin)

    for _ in range(3):
        with pytest.raises(TooManyCredentials) as generated:
            await credentials.generate(call, agent_id)
        assert generated.value.path == ("agentId",)
        with pytest.raises(TooManyCredentials) as rotated:
            await credentials.rotate(call, newest, overlap_seconds=60)
        assert rotated.value.path == ("overlapSeconds",)

    assert hasher.runs == before
    assert await gateway.actions(admin) == said
    # Without an overlap one takes the place of another.
    await credentials.rotate(call, newest)
    assert hasher.runs == before + 1


@pytest.mark.parametrize("act", ["generate", "rotate"])
async def test_many_that_find_room_for_one_make_one(gateway: RunningGateway, act: str) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    call, agent_id = await gateway.as_caller(worker), UUID(worker.client_id)
    credentials = gateway.gateway.credentials
    reader = gateway.gateway.storage.read(worker.prefix).credentials
    for _ in range(MAX_USABLE - 2):
        await credentials.generate(call, agent_id)
    held = await reader.of_client(agent_id, gateway.clock.now)
    assert len(held) == MAX_USABLE - 1
    outcomes: Counter[str] = Counter()

    async def make(which: UUID) -> None:
        try:
            if act == "generate":
                await credentials.generate(call, agent_id)
            else:
                await credentials.rotate(call, which, overlap_seconds=60)
        except TooManyCredentials:
            outcomes["full"] += 1
        else:
            outcomes["made"] += 1

    async with anyio.create_task_group() as group:
        for each in held[:5]:
            group.start_soon(make, each.credential_id)

    assert outcomes == {"made": 1, "full": 4}
    assert len(await reader.of_client(agent_id, gateway.clock.now)) == MAX_USABLE
