"""A cut is made at once, and acknowledged when nobody can think otherwise: while the cache's server
is away, that is when every lease is over. Until then asking again is harmless, and is the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from db.cuts import CLOCK_LEEWAY_SECONDS
from db.errors import (
    CredentialNotActive,
    InvalidTransition,
    Refused,
    Unauthenticated,
    Unavailable,
)
from db.filters import CredentialFilter
from db.pages import PageRequest
from db.records import AuditAction, CredentialStatus
from db.warmth import LEASE_SECONDS
from gateway.services.call import Call
from gateway.services.profiles import AgentChanges
from tests.gateway import Client, RunningGateway, postgres_settings, profile, running
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey

OVER = LEASE_SECONDS + CLOCK_LEEWAY_SECONDS


@dataclass
class Scene:
    """An administrator, a worker with a token, and a cache whose server can go away."""

    gateway: RunningGateway
    valkey: Valkey
    admin: Client
    worker: Client
    token: str
    call: Call

    @property
    def agent_id(self) -> UUID:
        return UUID(self.worker.client_id)

    def at(self, seconds: float) -> Call:
        """The administrator's call so long after the first."""
        return replace(self.call, now=self.call.now + timedelta(seconds=seconds))


@pytest.fixture
async def scene(empty_database: Database) -> AsyncIterator[Scene]:
    with temporary_place() as room:
        valkey = Valkey(room / "valkey")
        valkey.start()
        try:
            async with running(postgres_settings(empty_database, valkey.url())) as gateway:
                admin = await gateway.onboard()
                worker = await gateway.client_of(admin, ("billing:read", "billing:write"))
                token = await gateway.token(worker)
                call = await gateway.as_caller(admin)
                yield Scene(gateway, valkey, admin, worker, token, call)
        finally:
            valkey.stop()


async def revoke_token(scene: Scene, call: Call) -> None:
    await scene.gateway.gateway.tokens.revoke(call, scene.token)


async def suspend(scene: Scene, call: Call) -> None:
    await scene.gateway.gateway.agents.suspend(call, scene.agent_id)


async def decommission(scene: Scene, call: Call) -> None:
    await scene.gateway.gateway.agents.decommission(call, scene.agent_id)


async def take_a_capability(scene: Scene, call: Call) -> None:
    changes: AgentChanges = {"capabilities": ["billing:read"]}
    await scene.gateway.gateway.agents.update(call, scene.agent_id, changes)


async def revoke_credential(scene: Scene, call: Call) -> None:
    reader = scene.gateway.gateway.storage.read(scene.worker.prefix).credentials
    [credential] = (await reader.page(PageRequest(), CredentialFilter(scene.agent_id))).items
    await scene.gateway.gateway.credentials.revoke(call, credential.credential_id)


@dataclass(frozen=True)
class Cut:
    """What is asked for, its event, and how it is refused once everybody knows that it was done;
    None when it is answered as the first time."""

    ask: Callable[[Scene, Call], Awaitable[None]]
    event: AuditAction
    refusal: type[Refused] | None = None

    async def acknowledged(self, scene: Scene, call: Call) -> None:
        if self.refusal is None:
            await self.ask(scene, call)
            return
        with pytest.raises(self.refusal):
            await self.ask(scene, call)


CUTS = {
    "a token": Cut(revoke_token, AuditAction.TOKEN_REVOKED),
    "a suspension": Cut(suspend, AuditAction.AGENT_SUSPENDED, InvalidTransition),
    "an end": Cut(decommission, AuditAction.AGENT_DECOMMISSIONED, InvalidTransition),
    "a capability": Cut(take_a_capability, AuditAction.AGENT_UPDATED),
    "a credential": Cut(revoke_credential, AuditAction.CREDENTIAL_REVOKED, CredentialNotActive),
}


async def refused(scene: Scene) -> bool:
    """Whether the worker's token is, by a gateway that asks storage."""
    try:
        await scene.gateway.gateway.authenticator.bearer(
            [f"Bearer {scene.token}"], scene.gateway.clock.now
        )
    except Unauthenticated:
        return True
    return False


@pytest.mark.parametrize("name", CUTS)
async def test_while_the_cache_is_away_a_cut_is_made_at_once_and_acknowledged_in_the_end(
    scene: Scene, name: str
) -> None:
    cut = CUTS[name]
    scene.valkey.kill()
    assert not await refused(scene)
    for passed in (0, 1, OVER - 1):
        with pytest.raises(Unavailable) as told:
            await cut.ask(scene, scene.at(passed))
        assert told.value.retry_after == OVER - passed
        assert await refused(scene)
    await cut.acknowledged(scene, scene.at(OVER))
    # Asked for four times, and made once.
    assert len(await scene.gateway.trail(scene.admin, cut.event)) == 1
    agent = await scene.gateway.agent(scene.worker)
    assert agent.token_generation == (name in ("a suspension", "an end", "a capability"))


@pytest.mark.parametrize("name", CUTS)
async def test_when_the_cache_is_back_the_repetition_reaches_it_and_is_acknowledged(
    scene: Scene, name: str
) -> None:
    cut = CUTS[name]
    scene.valkey.kill()
    with pytest.raises(Unavailable):
        await cut.ask(scene, scene.call)
    scene.valkey.start()
    with suppress(Unavailable):
        # On a connection that went with the old server.
        await cut.acknowledged(scene, scene.at(1))
    await cut.acknowledged(scene, scene.at(2))
    async with Redis.from_url(scene.valkey.url()) as client:
        assert len(await client.keys("{acme}*")) == 1
    assert len(await scene.gateway.trail(scene.admin, cut.event)) == 1


@pytest.mark.parametrize("name", CUTS)
async def test_with_the_cache_there_a_cut_is_acknowledged_and_repeating_it_changes_nothing(
    scene: Scene, name: str
) -> None:
    cut = CUTS[name]
    await cut.ask(scene, scene.call)
    await cut.acknowledged(scene, scene.at(1))
    assert len(await scene.gateway.trail(scene.admin, cut.event)) == 1


async def test_a_secret_is_not_exchanged_for_one_that_would_be_lost(scene: Scene) -> None:
    gateway = scene.gateway.gateway
    reader = gateway.storage.read(scene.worker.prefix).credentials
    before = (await reader.page(PageRequest(), CredentialFilter(scene.agent_id))).items
    trail = await scene.gateway.actions(scene.admin)
    scene.valkey.kill()
    with pytest.raises(Unavailable):
        await gateway.credentials.rotate(scene.call, before[0].credential_id)
    assert (await reader.page(PageRequest(), CredentialFilter(scene.agent_id))).items == before
    assert await scene.gateway.actions(scene.admin) == trail
    # What loses nothing goes on: a second secret, and then the end of the first.
    fresh = await gateway.credentials.generate(scene.call, scene.agent_id)
    assert fresh.credential.status is CredentialStatus.ACTIVE
    with pytest.raises(Unavailable):
        await gateway.credentials.revoke(scene.call, before[0].credential_id)
    # Rotating what has ended waits for everybody to know, as revoking it does.
    with pytest.raises(Unavailable):
        await gateway.credentials.rotate(scene.at(OVER - 1), before[0].credential_id)
    with pytest.raises(CredentialNotActive):
        await gateway.credentials.rotate(scene.at(OVER), before[0].credential_id)


async def test_a_change_that_takes_nothing_away_needs_no_cache(scene: Scene) -> None:
    scene.valkey.kill()
    agents = scene.gateway.gateway.agents
    more: AgentChanges = {"capabilities": ["billing:read", "billing:write", "billing:audit"]}
    assert await agents.update(scene.call, scene.agent_id, {"owner": "finance"})
    assert await agents.update(scene.call, scene.agent_id, more)
    await agents.register(scene.call, profile("another@agents.example", ["a:b"]))


async def test_the_endpoint_says_when_to_come_again(scene: Scene) -> None:
    scene.valkey.kill()

    async def revoke() -> httpx.Response:
        return await scene.gateway.client.post(
            "/t/acme/oauth2/revoke",
            data={"token": scene.token},
            auth=(scene.worker.client_id, scene.worker.secret),
        )

    answer = await revoke()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == str(OVER)
    scene.gateway.clock.advance(OVER)
    assert (await revoke()).status_code == 200
