"""A token that is being issued while its cut is made is refused once the cut is acknowledged.

By the gateway that issues it and by another one, whatever they remember, with a warm cache, and
with one that has forgotten everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from redis.asyncio import Redis

from db.errors import Unauthenticated
from db.records import SigningAlgorithm
from gateway.auth.clients import ClientSecret, KnownClient
from gateway.auth.principal import Anonymous, Operator
from gateway.services.call import Call
from gateway.services.profiles import AgentChanges
from tests.db.catalog import session, wait_for_waiting
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database


@dataclass
class Scene:
    """`issuer` gives a worker its tokens; the cuts are made by `cutter`, on the same servers."""

    issuer: RunningGateway
    cutter: RunningGateway
    admin: Client
    worker: Client
    bystander: Call
    database: Database
    redis: Redis

    @property
    def gateways(self) -> tuple[RunningGateway, RunningGateway]:
        return self.issuer, self.cutter

    @property
    def agent_id(self) -> UUID:
        return UUID(self.worker.client_id)

    async def read(self) -> tuple[Call, KnownClient]:
        """As the issuer's token endpoint does it: the tenant's row and the client's are read."""
        gateway, now = self.issuer.gateway, self.issuer.clock.now
        tenant = await gateway.authenticator.active_tenant(self.worker.slug, now)
        proof = ClientSecret(self.worker.client_id, self.worker.secret)
        return await gateway.clients.authenticate(self.issuer.call(Anonymous()), tenant, proof)

    async def issue(self, read: tuple[Call, KnownClient]) -> str:
        """What comes after: the token is signed, its event written, and the client has it."""
        issued = await self.issuer.gateway.tokens.issue(*read, scope=None)
        return issued.access_token

    async def verdicts(self, *tokens: str) -> list[set[bool]]:
        """Whether each token is accepted, by each gateway and in each way; with the cache warm, and
        then without what was in it."""
        assert await self.cutter.gateway.revocations.is_warm()
        warm = [await self._verdicts(token) for token in tokens]
        await self.redis.flushdb()
        assert not await self.cutter.gateway.revocations.is_warm()
        cold = [await self._verdicts(token) for token in tokens]
        return [with_it | without for with_it, without in zip(warm, cold, strict=True)]

    async def _verdicts(self, token: str) -> set[bool]:
        said = set()
        for gateway in self.gateways:
            authenticator = gateway.gateway.authenticator
            for _ in range(2):
                try:
                    await authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
                    said.add(True)
                except Unauthenticated:
                    said.add(False)
            said.add(await self._is_active(gateway, token))
        return said

    async def accepted(self, token: str) -> bool:
        """By everybody."""
        return await self._verdicts(token) == {True}

    async def _is_active(self, gateway: RunningGateway, token: str) -> bool:
        """By introspection, as somebody of the tenant who was there before the cut."""
        bystander = replace(self.bystander, now=gateway.clock.now)
        return (await gateway.gateway.tokens.introspect(bystander, token)).active


@pytest.fixture
async def scene(empty_database: Database, redis_url: str, redis: Redis) -> AsyncIterator[Scene]:
    settings = postgres_settings(empty_database, redis_url)
    async with running(settings) as issuer, running(settings, clock=issuer.clock) as cutter:
        admin = await issuer.onboard()
        worker = await issuer.client_of(admin, ("billing:read", "billing:write"))
        await issuer.warm_up()
        # Both have served the tenant just now, and remember it.
        bystander = await issuer.as_caller(admin)
        await cutter.as_caller(admin)
        yield Scene(issuer, cutter, admin, worker, bystander, empty_database, redis)


async def suspend(scene: Scene) -> None:
    await scene.cutter.gateway.agents.suspend(await _admin(scene), scene.agent_id)


async def suspend_and_reactivate(scene: Scene) -> None:
    await suspend(scene)
    await scene.cutter.gateway.agents.reactivate(await _admin(scene), scene.agent_id)


async def decommission(scene: Scene) -> None:
    await scene.cutter.gateway.agents.decommission(await _admin(scene), scene.agent_id)


async def take_a_capability(scene: Scene) -> None:
    changes: AgentChanges = {"capabilities": ["billing:read"]}
    await scene.cutter.gateway.agents.update(await _admin(scene), scene.agent_id, changes)


async def revoke_credential(scene: Scene) -> None:
    now = scene.cutter.clock.now
    reader = scene.cutter.gateway.storage.read(scene.worker.prefix).credentials
    [credential] = await reader.of_client(scene.agent_id, now)
    await scene.cutter.gateway.credentials.revoke(await _admin(scene), credential.credential_id)


async def kill(scene: Scene) -> None:
    await scene.cutter.gateway.kill_switch.engage(
        await _admin(scene), "it went wild", agent_id=scene.agent_id
    )


async def kill_and_release(scene: Scene) -> None:
    await kill(scene)
    await scene.cutter.gateway.kill_switch.release(await _admin(scene), agent_id=scene.agent_id)


async def kill_the_fleet(scene: Scene) -> None:
    await scene.cutter.gateway.kill_switch.engage(_operator(scene), "all of them", slug="acme")


async def kill_and_release_the_fleet(scene: Scene) -> None:
    await kill_the_fleet(scene)
    await scene.cutter.gateway.kill_switch.release(_operator(scene), slug="acme")


async def suspend_the_tenant(scene: Scene) -> None:
    await scene.cutter.gateway.tenants.suspend(_operator(scene), "acme")


async def suspend_and_reactivate_the_tenant(scene: Scene) -> None:
    await suspend_the_tenant(scene)
    await scene.cutter.gateway.tenants.reactivate(_operator(scene), "acme")


async def remove_the_tenant(scene: Scene) -> None:
    await scene.cutter.gateway.tenants.remove(_operator(scene), "acme")


async def _admin(scene: Scene) -> Call:
    return await scene.cutter.as_caller(scene.admin)


def _operator(scene: Scene) -> Call:
    return scene.cutter.call(Operator())


CUTS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "its agent is suspended": suspend,
    "its agent is suspended, and back": suspend_and_reactivate,
    "its agent is decommissioned": decommission,
    "its agent loses a capability": take_a_capability,
    "its credential is revoked": revoke_credential,
    "its agent is killed": kill,
    "its agent is killed, and released": kill_and_release,
    "its fleet is killed": kill_the_fleet,
    "its fleet is killed, and released": kill_and_release_the_fleet,
    "its tenant is suspended": suspend_the_tenant,
    "its tenant is suspended, and back": suspend_and_reactivate_the_tenant,
    "its tenant is removed": remove_the_tenant,
}


@pytest.mark.parametrize("cut", CUTS)
async def test_a_token_is_refused_that_was_signed_after_the_cut_from_what_was_read_before(
    scene: Scene, cut: str
) -> None:
    held = await scene.issue(await scene.read())
    assert await scene.accepted(held)
    read = await scene.read()

    await CUTS[cut](scene)

    assert await scene.verdicts(await scene.issue(read), held) == [{False}, {False}]


@pytest.mark.parametrize("cut", [each for each in CUTS if each.endswith(("back", "released"))])
async def test_who_is_back_is_given_tokens_that_are_good_at_once(scene: Scene, cut: str) -> None:
    """Also by a gateway that remembers how it was before."""
    await CUTS[cut](scene)
    assert await scene.verdicts(await scene.issue(await scene.read())) == [{True}]


async def test_a_revoked_token_is_refused_everywhere_as_soon_as_that_is_acknowledged(
    scene: Scene,
) -> None:
    revoked, other = [await scene.issue(await scene.read()) for _ in range(2)]
    await scene.cutter.gateway.tokens.revoke(await _admin(scene), revoked)
    assert await scene.verdicts(revoked, other) == [{False}, {True}]


async def test_a_token_is_refused_whose_key_is_retired_while_its_event_is_written(
    scene: Scene,
) -> None:
    keys, operator = scene.cutter.gateway.keys, _operator(scene)
    [signing] = await keys.all()
    successor = await keys.publish(operator, SigningAlgorithm.ES256)
    read = await scene.read()
    async with session(scene.database.owner_url) as connection:
        owner = await connection.execution_options(isolation_level="READ COMMITTED")
        async with owner.begin():
            # The token is signed by then, and the client does not have it yet.
            await owner.exec_driver_sql("LOCK TABLE acme_audit_events")
            issuing = asyncio.create_task(scene.issue(read))
            await wait_for_waiting(scene.database.owner_url, 1)
            await keys.activate(operator, successor.kid, immediately=True)
            await keys.retire(operator, signing.kid)
            assert not issuing.done()
        token = await issuing
    assert await scene.verdicts(token) == [{False}]
