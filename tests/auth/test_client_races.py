"""Clients that come at once, where one of them is the first by a hair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import anyio
import pytest

from db.budgets import Budget, LocalBudgets
from db.errors import Unavailable
from db.memory.storage import MemoryStorage
from db.records import Tenant
from gateway.auth.attempts import OF_CLIENT, LoginAttempts
from gateway.auth.clients import ClientAuthenticator, ClientSecret, KnownClient, RefusedClient
from gateway.auth.secrets import new_secret
from tests.contract.cast import ACME, NOW, new_agent, new_credential, new_tenant, put
from tests.services.logins import Counting

CROWD = 200


class Slow(LocalBudgets):
    """Says what is spent only when the test lets it, to all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def debts(self, budgets: Sequence[Budget], now: datetime) -> Sequence[float]:
        await self.let.wait()
        return await super().debts(budgets, now)


class Scene:
    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.budgets = Slow()
        self.hasher = Counting()
        self.clients = ClientAuthenticator(self.storage, self.hasher)
        self.attempts = LoginAttempts(self.budgets)
        self.tenant: Tenant = new_tenant("acme")
        self.agent = new_agent()
        self.secret = new_secret()

    async def furnish(self) -> None:
        hashed = await self.hasher.hash(self.secret)
        credential = new_credential(
            self.agent.agent_id, secret_hash=hashed.hash, secret_tag=hashed.tag
        )
        async with self.storage.registry_unit() as registry:
            await registry.tenants.add(self.tenant)
        await self.storage.upkeep.provision(ACME, NOW)
        await put(self.storage, ACME, self.agent, credential)
        self.hasher.runs = 0

    async def log_in(self, secret: str, address: str) -> KnownClient | RefusedClient:
        proof = ClientSecret(str(self.agent.agent_id), secret)
        with self.attempts.by("acme", proof.client_id, address) as attempt:
            client = await self.clients.by_secret(self.tenant, proof, attempt, NOW)
            if isinstance(client, RefusedClient) and not client.wait:
                await attempt.failed(NOW)
        return client

    async def crowd(
        self, secrets: Sequence[str], address: str = "192.0.2.1"
    ) -> list[asyncio.Task[KnownClient | RefusedClient]]:
        tasks = [asyncio.create_task(self.log_in(secret, address)) for secret in secrets]
        await anyio.wait_all_tasks_blocked()
        assert not any(task.done() for task in tasks)
        return tasks


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    await made.furnish()
    yield made
    await made.clients.close()


async def test_all_who_ask_before_the_first_has_begun_share_its_hash_and_its_budget(
    scene: Scene,
) -> None:
    """None of them may take the others, who cost nothing, for so many failures."""
    tasks = await scene.crowd([scene.secret] * CROWD)
    scene.budgets.let.set()
    found = await asyncio.gather(*tasks)
    assert {type(each) for each in found} == {KnownClient}
    assert scene.hasher.runs == 1


async def test_different_wrong_secrets_at_once_get_no_more_than_the_budget(scene: Scene) -> None:
    tasks = await scene.crowd([new_secret() for _ in range(CROWD)])
    scene.budgets.let.set()
    found = await asyncio.gather(*tasks)
    refused = [each for each in found if isinstance(each, RefusedClient)]
    assert len(refused) == CROWD
    assert [each.reason for each in refused].count("wrong_secret") == OF_CLIENT
    assert [each.reason for each in refused].count("throttled") == CROWD - OF_CLIENT
    assert scene.hasher.runs == OF_CLIENT


async def test_what_is_under_way_counts_until_it_is_known_and_not_afterwards(
    scene: Scene,
) -> None:
    """A right secret gives its place back; so does one that was given up, or could not be had."""
    scene.budgets.let.set()
    for _ in range(OF_CLIENT * 2):
        assert isinstance(await scene.log_in(scene.secret, "192.0.2.1"), KnownClient)
    full = [asyncio.create_task(scene.log_in(new_secret(), "192.0.2.1")) for _ in range(OF_CLIENT)]
    await asyncio.sleep(0)
    for task in full:
        task.cancel()
    await asyncio.gather(*full, return_exceptions=True)
    refused = [await scene.log_in(new_secret(), "192.0.2.1") for _ in range(OF_CLIENT)]
    assert {each.reason for each in refused if isinstance(each, RefusedClient)} == {"wrong_secret"}


async def test_who_is_over_the_budget_keeps_nobody_elsewhere_from_the_same_hash(
    scene: Scene,
) -> None:
    scene.budgets.let.set()
    for _ in range(OF_CLIENT):
        await scene.log_in(new_secret(), "192.0.2.1")
    scene.budgets.let.clear()
    over = await scene.crowd([scene.secret] * 5)
    elsewhere = await scene.crowd([scene.secret] * 5, "198.51.100.7")
    scene.budgets.let.set()
    found = await asyncio.gather(*over, *elsewhere)
    assert [type(each) for each in found[5:]] == [KnownClient] * 5
    # From now on it is known, from wherever it comes.
    assert isinstance(await scene.log_in(scene.secret, "192.0.2.1"), KnownClient)


async def test_a_first_one_that_is_given_up_leaves_the_others_their_login(scene: Scene) -> None:
    scene.budgets.let.set()
    let = asyncio.Event()
    matches = scene.hasher.matches

    async def held(secret: str, secret_hash: str | None, whence: str = "") -> bool:
        await let.wait()
        return await matches(secret, secret_hash, whence)

    scene.hasher.matches = held  # type: ignore[method-assign]  # of this one hasher
    first, *others = await scene.crowd([scene.secret] * 20)
    first.cancel()
    await anyio.wait_all_tasks_blocked()
    let.set()
    found = await asyncio.gather(*others)
    assert {type(each) for each in found} == {KnownClient}
    assert first.cancelled()
    assert scene.hasher.runs == 1


async def test_no_room_to_hash_is_told_to_all_who_wait_for_it(scene: Scene) -> None:
    scene.budgets.let.set()

    async def full(secret: str, secret_hash: str | None, whence: str = "") -> bool:
        raise Unavailable("too many secrets are being hashed", 3)

    scene.hasher.matches = full  # type: ignore[method-assign]  # of this one hasher
    found = await asyncio.gather(
        *(scene.log_in(scene.secret, "192.0.2.1") for _ in range(10)), return_exceptions=True
    )
    assert {type(each) for each in found} == {Unavailable}


async def test_who_comes_between_two_hashes_of_one_login_pays_for_what_is_hashed_again(
    scene: Scene,
) -> None:
    """Of a client whose hashes have no tags. Those who only ever come while their secret is being
    compared with another of them would have it hashed without end otherwise."""
    for _ in range(3):
        hashed = await scene.hasher.hash(new_secret())
        untagged = new_credential(scene.agent.agent_id, secret_hash=hashed.hash, secret_tag=None)
        await put(scene.storage, ACME, untagged)
    scene.budgets.let.set()
    for _ in range(OF_CLIENT - 1):
        with scene.attempts.by("acme", str(scene.agent.agent_id), "192.0.2.1") as failed:
            await failed.failed(NOW)
    compared: list[str | None] = []
    second, let = asyncio.Event(), asyncio.Event()
    matches = scene.hasher.matches

    async def held(secret: str, secret_hash: str | None, whence: str = "") -> bool:
        compared.append(secret_hash)
        if len(compared) == 2:
            second.set()
            await let.wait()
        return await matches(secret, secret_hash, whence)

    scene.hasher.matches = held  # type: ignore[method-assign]  # of this one hasher
    wrong = new_secret()
    first = asyncio.create_task(scene.log_in(wrong, "192.0.2.1"))
    await second.wait()
    async with asyncio.timeout(10):
        between = await scene.log_in(wrong, "192.0.2.1")
    let.set()
    outcomes = [between, await first]
    assert [getattr(each, "reason", "") for each in outcomes] == ["throttled", "wrong_secret"]
    assert len(compared) == len(set(compared)) == 3
