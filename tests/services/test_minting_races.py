"""What becomes of an agent while its new secret is being hashed decides whether it gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from db.errors import AgentIdPError, AgentNotActive, ScopeExceeded
from gateway.auth.secrets import HashedSecret
from gateway.services.profiles import AgentChanges
from gateway.settings import GatewaySettings
from tests.gateway import RunningGateway, but_for_uses, running
from tests.services.logins import Counting


class Watched(Counting):
    """Tells when a new hash is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def hash(self, secret: str, whence: str = "") -> HashedSecret:
        self.asked.set()
        return await super().hash(secret, whence)


@pytest.fixture
def hasher() -> Watched:
    return Watched()


@pytest.fixture
async def gateway(backend: GatewaySettings, hasher: Watched) -> AsyncIterator[RunningGateway]:
    async with running(backend, hasher=hasher) as started:
        yield started


@pytest.mark.parametrize("overlap", [None, 0, 60], ids=["generate", "rotate", "overlap"])
@pytest.mark.parametrize(
    ("change", "refusal"),
    [("suspended", AgentNotActive), ("stopped", AgentNotActive), ("widened", ScopeExceeded)],
)
async def test_it_is_looked_at_again_when_its_row_is_held(
    gateway: RunningGateway,
    hasher: Watched,
    overlap: int | None,
    change: str,
    refusal: type[AgentIdPError],
) -> None:
    admin = await gateway.onboard()
    worker = await gateway.client_of(admin)
    maker = await gateway.client_of(admin, ["credentials:write"], email="maker@agents.example")
    agent_id = UUID(worker.client_id)
    parts, making = gateway.gateway, await gateway.as_caller(maker)
    reader = parts.storage.read(worker.prefix).credentials
    held = but_for_uses(await reader.of_client(agent_id, gateway.clock.now))
    [only] = held
    call = await gateway.as_caller(admin)

    hasher.asked.clear()
    with hasher.held():
        made = asyncio.create_task(
            parts.credentials.generate(making, agent_id)
            if overlap is None
            else parts.credentials.rotate(making, only.credential_id, overlap_seconds=overlap)
        )
        async with asyncio.timeout(10):
            await hasher.asked.wait()
        match change:
            case "suspended":
                await parts.agents.suspend(call, agent_id)
            case "stopped":
                await parts.kill_switch.engage(call, "it runs wild", agent_id=agent_id)
            case _:
                wider = AgentChanges(capabilities=["billing:read", "agents:write"])
                await parts.agents.update(call, agent_id, wider)
        said = await gateway.actions(admin)

    with pytest.raises(refusal):
        await made
    assert but_for_uses(await reader.of_client(agent_id, gateway.clock.now)) == held
    assert await gateway.actions(admin) == said
