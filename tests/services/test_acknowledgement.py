"""A cut is made at once, and acknowledged when nobody can think otherwise: while the cache's server
is away, that is when every lease is over. Until then asking again is harmless, and is the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
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
from db.warmth import LEASE_SECONDS, MARKER
from db.work import JobName
from gateway.auth.principal import Operator
from gateway.services.call import Call
from gateway.services.profiles import AgentChanges
from tests.gateway import (
    Client,
    RunningGateway,
    but_for_uses,
    postgres_settings,
    profile,
    running,
)
from tests.servers.databases import Database
from tests.servers.places import temporary_place
from tests.servers.valkey import Valkey
from tests.workers.harness import perform

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


async def stop_agent(scene: Scene, call: Call) -> None:
    switch = scene.gateway.gateway.kill_switch
    await switch.engage(call, "it misbehaves", agent_id=scene.agent_id)


async def stop_fleet(scene: Scene, call: Call) -> None:
    """By the operator, whom it does not cut off."""
    switch = scene.gateway.gateway.kill_switch
    await switch.engage(call.by(Operator()), "they misbehave", slug=scene.admin.slug)


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
    "a kill switch": Cut(stop_agent, AuditAction.KILL_SWITCH_ENGAGED, InvalidTransition),
    "the fleet's kill switch": Cut(stop_fleet, AuditAction.KILL_SWITCH_ENGAGED, InvalidTransition),
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
    assert agent.token_generation == (
        name in ("a suspension", "an end", "a capability", "a kill switch")
    )


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
    its = CredentialFilter(scene.agent_id)
    before = but_for_uses((await reader.page(PageRequest(), its)).items)
    trail = await scene.gateway.actions(scene.admin)
    scene.valkey.kill()
    with pytest.raises(Unavailable):
        await gateway.credentials.rotate(scene.call, before[0].credential_id)
    assert but_for_uses((await reader.page(PageRequest(), its)).items) == before
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
    # Nobody has to hear of a secret that works on for a while.
    storage = scene.gateway.gateway.storage.read(scene.worker.prefix)
    [old] = await storage.credentials.of_client(scene.agent_id, scene.call.now)
    fresh = await scene.gateway.gateway.credentials.rotate(
        scene.call, old.credential_id, overlap_seconds=60
    )
    for secret in (scene.worker.secret, fresh.secret):
        assert await scene.gateway.token(replace(scene.worker, secret=secret))


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


# When only one process has lost the cache.


@dataclass
class Split:
    """`checker` and a worker have the cache, which is warm; `revoker` never reached it."""

    checker: RunningGateway
    revoker: RunningGateway
    admin: Client
    token: str
    redis: Redis

    async def revoke(self, seconds: float) -> None:
        """By the revoker, so long after the beginning."""
        call = replace(self._call, now=self._call.now + timedelta(seconds=seconds))
        await self.revoker.gateway.tokens.revoke(call, self.token)

    async def begin(self) -> None:
        self._call = await self.revoker.as_caller(self.admin)

    async def accepts(self, gateway: RunningGateway) -> bool:
        authenticator = gateway.gateway.authenticator
        try:
            await authenticator.bearer([f"Bearer {self.token}"], gateway.clock.now)
        except Unauthenticated:
            return False
        return True


@pytest.fixture
async def split(
    empty_database: Database, redis_url: str, redis: Redis, place: Path
) -> AsyncIterator[Split]:
    settings = postgres_settings(empty_database, redis_url)
    lost = postgres_settings(empty_database, f"unix://{place}/nothing.sock")
    async with running(settings) as checker, running(lost, clock=checker.clock) as revoker:
        admin = await checker.onboard()
        await checker.warm_up()
        made = Split(checker, revoker, admin, await checker.token(admin), redis)
        await made.begin()
        yield made


async def test_a_process_without_the_cache_acknowledges_nothing_that_another_may_not_know(
    split: Split,
) -> None:
    with pytest.raises(Unavailable) as told:
        await split.revoke(0)
    assert told.value.retry_after == OVER
    # It is committed, and refused where storage is asked. This is why it is not acknowledged:
    assert not await split.accepts(split.revoker)
    assert await split.accepts(split.checker)


async def test_the_lease_of_a_cache_that_nobody_renews_is_over_before_that_is_acknowledged(
    split: Split,
) -> None:
    with pytest.raises(Unavailable):
        await split.revoke(0)
    second, _ = await split.redis.time()
    assert await split.redis.ttl(MARKER) <= LEASE_SECONDS < OVER
    # As if that time had passed: by the server's clock, which no test can set.
    await split.redis.expireat(MARKER, second - 1)
    for seconds in (1, OVER - 1):
        with pytest.raises(Unavailable):
            await split.revoke(seconds)
    await split.revoke(OVER)
    assert not await split.accepts(split.checker)
    assert len(await split.checker.trail(split.admin, AuditAction.TOKEN_REVOKED)) == 1


async def test_a_worker_that_renews_the_lease_brings_the_cut_with_it(split: Split) -> None:
    with pytest.raises(Unavailable):
        await split.revoke(0)
    assert await split.accepts(split.checker)
    gateway, now = split.checker.gateway, split.checker.clock.now
    cache = RedisRevocations(gateway.settings.redis_url)
    await perform(gateway.storage, gateway.settings, JobName.TAIL_REVOCATIONS, now, cache=cache)
    await cache.close()
    assert await gateway.revocations.is_warm()
    assert not await split.accepts(split.checker)
    await split.revoke(OVER)
    assert not await split.accepts(split.checker)


async def test_a_process_that_has_the_cache_acknowledges_at_once_what_the_other_did(
    split: Split,
) -> None:
    with pytest.raises(Unavailable):
        await split.revoke(0)
    await split.checker.gateway.tokens.revoke(
        await split.checker.as_caller(split.admin), split.token
    )
    assert not await split.accepts(split.checker)
    assert not await split.accepts(split.revoker)
