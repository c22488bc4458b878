"""What a login costs tells nothing: one hash, whoever it names and whatever is wrong.

Counted first, which is exact, and then measured, because a clock is what an attacker has.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import count
from math import sqrt
from time import perf_counter
from uuid import UUID, uuid4

import pytest

from db.records import AuditAction, Credential
from gateway.auth.principal import Operator
from gateway.auth.secrets import new_secret, tag_of
from gateway.settings import GatewaySettings
from tests.contract.cast import ACME
from tests.gateway import CHEAPEST_BCRYPT, Client, RunningGateway, running
from tests.oauth.signing import jwk_of, new_key
from tests.services.logins import Counting, log_in, outcome

REFUSED = "INVALID_CLIENT"


async def usable(gateway: RunningGateway, client: Client) -> Sequence[Credential]:
    reader = gateway.gateway.storage.read(client.prefix).credentials
    return await reader.of_client(UUID(client.client_id), gateway.clock.now)


async def cast(gateway: RunningGateway) -> Mapping[str, Client]:
    """Everybody who is refused, by the reason that the trail gives, with what tells them apart."""
    admin, other = await gateway.onboard(), await gateway.onboard("globex")
    call = await gateway.as_caller(admin)
    parts = gateway.gateway

    async def member(name: str) -> Client:
        return await gateway.client_of(admin, email=f"{name}@agents.example")

    several, suspended, gone, revoked, killed, keyed = [
        await member(name)
        for name in ("several", "suspended", "gone", "revoked", "killed", "keyed")
    ]
    for _ in range(9):
        await parts.credentials.generate(call, UUID(several.client_id))
    for client in (revoked, keyed):
        [credential] = await usable(gateway, client)
        if client is keyed:
            key = jwk_of(new_key("ES256"))
            await parts.credentials.enrol(call, UUID(client.client_id), key)
        await parts.credentials.revoke(call, credential.credential_id)
    await parts.agents.suspend(call, UUID(suspended.client_id))
    await parts.agents.decommission(call, UUID(gone.client_id))
    await parts.kill_switch.engage(call, "it went astray", agent_id=UUID(killed.client_id))
    return {
        "unknown_client": Client("acme", str(uuid4()), new_secret()),
        "unknown_client, no id at all": Client("acme", "x", new_secret()),
        "unknown_client, another tenant's": replace(other, slug="acme"),
        "wrong_secret": replace(admin, secret=new_secret()),
        "wrong_secret, of ten credentials": replace(several, secret=new_secret()),
        "wrong_secret, there is a key alone": keyed,
        "no_credential, it was revoked": revoked,
        "no_credential, the agent is gone": gone,
        "agent_suspended": suspended,
        "wrong_secret, and suspended": replace(suspended, secret=new_secret()),
        "kill_switch": killed,
    }


@pytest.fixture
def hasher() -> Counting:
    return Counting()


@pytest.fixture
async def gateway(backend: GatewaySettings, hasher: Counting) -> AsyncIterator[RunningGateway]:
    async with running(backend, hasher=hasher) as started:
        yield started


async def test_whatever_is_wrong_is_one_hash(gateway: RunningGateway, hasher: Counting) -> None:
    everybody = await cast(gateway)
    admin = replace(everybody["wrong_secret"])
    before = len(await gateway.trail(admin))
    for name, client in everybody.items():
        runs = hasher.runs
        assert await outcome(gateway, client) == REFUSED
        assert hasher.runs - runs == 1, name
    events = (await gateway.trail(admin))[before:]
    assert [event.action for event in events] == [AuditAction.AUTH_FAILED] * len(everybody)
    assert [event.metadata["reason"] for event in events] == [
        name.split(",")[0] for name in everybody
    ]


async def test_so_it_is_with_a_tenant_whose_switch_is_engaged(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    await log_in(gateway, admin)
    operator = gateway.call(Operator())
    await gateway.gateway.kill_switch.engage(operator, "it went astray", slug="acme")
    reasons = []
    for client in (admin, admin, replace(admin, secret=new_secret())):
        runs = hasher.runs
        assert await outcome(gateway, client) == REFUSED
        assert hasher.runs - runs == 1
        [*_, event] = await gateway.trail(admin, AuditAction.AUTH_FAILED)
        reasons.append(event.metadata["reason"])
    assert reasons == ["kill_switch", "kill_switch", "wrong_secret"]


@pytest.mark.parametrize("secret", ["x" * 73, "x" * 60_000, "a\0b", "é" * 40])
async def test_what_is_no_secret_costs_nobody_anything(
    gateway: RunningGateway, hasher: Counting, secret: str
) -> None:
    everybody = await cast(gateway)
    runs = hasher.runs
    for client in everybody.values():
        assert await outcome(gateway, replace(client, secret=secret)) == REFUSED
    assert hasher.runs == runs


async def test_a_right_secret_is_one_hash_the_first_time_and_none_afterwards(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    call = await gateway.as_caller(admin)
    made = [
        await gateway.gateway.credentials.generate(call, UUID(admin.client_id)) for _ in range(9)
    ]
    for fresh in made:
        runs = hasher.runs
        client = replace(admin, secret=fresh.secret)
        known = [await log_in(gateway, client) for _ in range(3)]
        assert hasher.runs - runs == 1
        assert {each.credential.credential_id for each in known} == {fresh.credential.credential_id}


async def test_what_was_verified_is_refused_as_soon_as_it_is_over(
    gateway: RunningGateway,
) -> None:
    """The rows are read each time."""
    admin = await gateway.onboard()
    clients = {
        name: await gateway.client_of(admin, email=f"{name}@agents.example")
        for name in ("revoked", "rotated", "expired", "suspended")
    }
    call = await gateway.as_caller(admin)
    ids = {name: UUID(client.client_id) for name, client in clients.items()}
    held = {name: (await usable(gateway, client))[0] for name, client in clients.items()}
    end = gateway.clock.now + timedelta(hours=1)
    fresh = await gateway.gateway.credentials.generate(call, ids["expired"], expires_at=end)
    clients["expired"] = replace(clients["expired"], secret=fresh.secret)
    for client in clients.values():
        assert [await outcome(gateway, client) for _ in range(2)] == ["OK"] * 2
    await gateway.gateway.credentials.revoke(call, held["revoked"].credential_id)
    rotated = await gateway.gateway.credentials.rotate(call, held["rotated"].credential_id)
    await gateway.gateway.agents.suspend(call, ids["suspended"])
    for name in ("revoked", "rotated", "suspended"):
        assert await outcome(gateway, clients[name]) == REFUSED
    assert await outcome(gateway, clients["expired"]) == "OK"
    assert await outcome(gateway, replace(clients["rotated"], secret=rotated.secret)) == "OK"
    gateway.clock.now = end
    assert await outcome(gateway, clients["expired"]) == REFUSED


async def test_credentials_without_a_tag_are_compared_one_after_the_other_until_they_have_one(
    gateway: RunningGateway, hasher: Counting
) -> None:
    """An older version made them; there are no more of them than a client may have."""
    admin = await gateway.onboard()
    [tagged] = await usable(gateway, admin)
    secrets = [new_secret() for _ in range(3)]
    async with gateway.gateway.storage.unit(ACME) as unit:
        for secret in secrets:
            hashed = await hasher.hash(secret)
            await unit.credentials.add(
                replace(
                    tagged,
                    credential_id=uuid4(),
                    secret_hash=hashed.hash,
                    secret_tag=None,
                )
            )

    async def cost(secret: str) -> int:
        before = hasher.runs
        client = replace(admin, secret=secret)
        assert await outcome(gateway, client) in (REFUSED, "OK")
        await gateway.gateway.clients.close()
        return hasher.runs - before

    assert await cost(new_secret()) == 3
    for secret in secrets:
        assert await cost(secret) <= 3
    assert await cost(new_secret()) == 1
    assert [await cost(secret) for secret in [*secrets, admin.secret]] == [0, 0, 0, 1]


async def test_secrets_with_one_tag_are_told_apart_all_the_same(
    gateway: RunningGateway, hasher: Counting
) -> None:
    admin = await gateway.onboard()
    [first] = await usable(gateway, admin)
    twin = next(each for each in iter(new_secret, "") if tag_of(each) == first.secret_tag)
    hashed = await hasher.hash(twin)
    async with gateway.gateway.storage.unit(ACME) as unit:
        await unit.credentials.add(replace(first, credential_id=uuid4(), secret_hash=hashed.hash))
    assert (await log_in(gateway, admin)).credential.credential_id == first.credential_id
    other = await log_in(gateway, replace(admin, secret=twin))
    assert other.credential.credential_id != first.credential_id
    before = hasher.runs
    for secret in (admin.secret, twin, admin.secret):
        assert await outcome(gateway, replace(admin, secret=secret)) == "OK"
    assert hasher.runs == before


# From here on by the clock. The hash is dear enough to be most of a login.
DEAR = CHEAPEST_BCRYPT + 2
SAMPLES = 80


async def measured(hasher: Counting) -> Mapping[str, Sequence[float]]:
    """Seconds of each kind of failing login, taken in turns, in a new order each time."""
    async with running(hasher=hasher) as gateway:
        everybody = await cast(gateway)
        seconds: dict[str, list[float]] = {name: [] for name in everybody}
        addresses = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in count())
        order = list(everybody)
        for _ in range(SAMPLES):
            random.shuffle(order)
            for name in order:
                # From everywhere, so that no budget is met.
                address = next(addresses)
                started = perf_counter()
                assert await outcome(gateway, everybody[name], address) == REFUSED
                seconds[name].append(perf_counter() - started)
        return seconds


def told_apart(seconds: Mapping[str, Sequence[float]]) -> set[str]:
    """Those whose times are others than those of all the rest: surely (their ranks among all would
    come about by chance less than once in a million times) and by more than a fifth."""
    found = set()
    for name, own in seconds.items():
        rest = [each for other, times in seconds.items() if other != name for each in times]
        ratio = statistics.median(own) / statistics.median(rest)
        if abs(_rank_score(own, rest)) > 5 and not 0.8 < ratio < 1.25:
            found.add(name)
    return found


def _rank_score(one: Sequence[float], other: Sequence[float]) -> float:
    """Mann and Whitney's U, in standard deviations from what it would be without a difference."""
    ranks = {id(each): rank for rank, each in enumerate(sorted([*one, *other]), 1)}
    m, n = len(one), len(other)
    u = sum(ranks[id(each)] for each in one) - m * (m + 1) / 2
    return (u - m * n / 2) / sqrt(m * n * (m + n + 1) / 12)


async def test_nobody_is_told_apart_by_the_clock() -> None:
    assert told_apart(await measured(Counting(DEAR))) == set()


async def test_a_hash_that_is_left_out_is_seen() -> None:
    """The test before can fail: whoever is compared with nothing is quicker."""

    class Hurried(Counting):
        async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
            return secret_hash is not None and await super().matches(secret, secret_hash, whence)

    hasty = told_apart(await measured(Hurried(DEAR)))
    # Compared with a hash of their own, so slower than the rest by now.
    assert {"agent_suspended", "kill_switch"} <= hasty


async def test_a_hash_that_is_cheaper_is_seen() -> None:
    class Cheaper(Counting):
        unknown = Counting(CHEAPEST_BCRYPT)

        async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
            if secret_hash is None:
                return await self.unknown.matches(secret, None)
            return await super().matches(secret, secret_hash, whence)

    assert {"agent_suspended", "kill_switch"} <= told_apart(await measured(Cheaper(DEAR)))
