"""Logins that fail too often are not looked at, and nobody else is kept out by them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from db.budgets import Budget, LocalBudgets, network_of
from db.clock import system_clock
from db.errors import Throttled, Unavailable
from db.records import NIL_AGENT, AuditAction
from db.settings import MEMORY
from gateway.auth.attempts import OF_ADDRESS, OF_CLIENT, LoginAttempts
from gateway.auth.secrets import new_secret
from gateway.settings import GatewaySettings
from tests.gateway import Client, RunningGateway, postgres_settings, running
from tests.servers.databases import Database
from tests.servers.valkey import Valkey
from tests.services.logins import ELSEWHERE, HERE, Counting, log_in, outcome

REFUSED, THROTTLED, OK = "INVALID_CLIENT", "THROTTLED", "OK"


def wrong(client: Client) -> Client:
    return replace(client, secret=new_secret())


def unknown() -> Client:
    return Client("acme", str(uuid4()), new_secret())


async def exhaust(gateway: RunningGateway, client: Client, address: str = HERE) -> None:
    """All that one client may get wrong from one address."""
    for _ in range(OF_CLIENT):
        assert await outcome(gateway, wrong(client), address) == REFUSED
    url = gateway.gateway.settings.redis_url
    if url != MEMORY:
        # The server's clock goes on, however busy this machine is: none comes back for an hour.
        whose = (client.slug, client.client_id.lower(), network_of(address))
        key = Budget.of(OF_CLIENT, "failed logins", *whose).key
        async with Redis.from_url(url) as redis:
            assert await redis.incrby(key, 3600 * 1_000_000)
            assert await redis.expire(key, 3600)


@pytest.fixture
def hasher() -> Counting:
    return Counting()


@pytest.fixture
async def gateway(backend: GatewaySettings, hasher: Counting) -> AsyncIterator[RunningGateway]:
    async with running(backend, hasher=hasher) as started:
        yield started


class TestOfOneClientFromOneAddress:
    async def test_so_many_are_refused_and_the_next_is_not_looked_at(
        self, gateway: RunningGateway, hasher: Counting
    ) -> None:
        admin = await gateway.onboard()
        await exhaust(gateway, admin)
        before = hasher.runs
        for client in (wrong(admin), replace(admin, secret="x" * 1000), admin):
            with pytest.raises(Throttled) as throttled:
                await log_in(gateway, client)
            assert throttled.value.retry_after in (1, 2)
        assert hasher.runs == before

    async def test_a_thousand_cost_thirty(self, gateway: RunningGateway, hasher: Counting) -> None:
        admin = await gateway.onboard()
        before = hasher.runs
        outcomes = await asyncio.gather(*(outcome(gateway, wrong(admin)) for _ in range(1000)))
        # The server's clock goes on and gives one back every two seconds.
        counted = Counter(outcomes)
        assert counted[REFUSED] + counted[THROTTLED] == 1000
        assert OF_CLIENT <= counted[REFUSED] <= OF_CLIENT + 10
        assert hasher.runs - before == counted[REFUSED]

    async def test_a_right_secret_from_elsewhere_works(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        await exhaust(gateway, admin)
        assert await outcome(gateway, admin) == THROTTLED
        assert await outcome(gateway, admin, ELSEWHERE) == OK

    async def test_one_that_was_verified_before_works_from_there_too(
        self, gateway: RunningGateway, hasher: Counting
    ) -> None:
        """Behind one address there are colleagues of whoever gets it wrong."""
        admin = await gateway.onboard()
        assert await outcome(gateway, admin) == OK
        await exhaust(gateway, admin)
        before = hasher.runs
        for _ in range(3):
            assert await outcome(gateway, admin) == OK
        assert await outcome(gateway, wrong(admin)) == THROTTLED
        assert hasher.runs == before

    async def test_others_there_are_looked_at(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        other = await gateway.client_of(admin)
        globex = await gateway.onboard("globex")
        await exhaust(gateway, admin)
        assert await outcome(gateway, other) == OK
        assert await outcome(gateway, globex) == OK
        assert await outcome(gateway, replace(admin, slug="globex")) == REFUSED

    async def test_success_costs_nothing(self, gateway: RunningGateway) -> None:
        admin = await gateway.onboard()
        for _ in range(OF_CLIENT + 5):
            assert await outcome(gateway, admin) == OK
        await exhaust(gateway, admin)

    async def test_who_names_nobody_is_counted_alike(self, gateway: RunningGateway) -> None:
        await gateway.onboard()
        for client in (unknown(), Client("acme", "pasted-canary", "x")):
            await exhaust(gateway, client)
            assert await outcome(gateway, wrong(client)) == THROTTLED

    async def test_one_id_in_many_spellings_is_one_client(
        self, gateway: RunningGateway, hasher: Counting
    ) -> None:
        """Hexadecimal digits are the same in capitals, so an id is known by any of them."""
        admin = await gateway.onboard()
        shouted = replace(admin, client_id=admin.client_id.upper())
        assert shouted.client_id != admin.client_id
        for number in range(OF_CLIENT):
            assert await outcome(gateway, wrong(shouted if number % 2 else admin)) == REFUSED
        before = hasher.runs
        for each in (shouted, admin, replace(admin, client_id=admin.client_id.capitalize())):
            assert await outcome(gateway, wrong(each)) == THROTTLED
        assert hasher.runs == before
        assert await outcome(gateway, shouted, ELSEWHERE) == OK

    async def test_a_suspended_client_s_right_secret_is_counted_alike(
        self, gateway: RunningGateway, hasher: Counting
    ) -> None:
        admin = await gateway.onboard()
        worker = await gateway.client_of(admin)
        known = await log_in(gateway, worker)
        await gateway.gateway.agents.suspend(await gateway.as_caller(admin), known.agent.agent_id)
        before = hasher.runs
        for _ in range(OF_CLIENT):
            assert await outcome(gateway, worker) == REFUSED
        assert await outcome(gateway, worker) == THROTTLED
        assert hasher.runs - before == OF_CLIENT


async def test_one_comes_back_every_other_second() -> None:
    async with running(hasher=Counting()) as gateway:
        admin = await gateway.onboard()
        await exhaust(gateway, admin)
        assert await outcome(gateway, admin) == THROTTLED
        gateway.clock.advance(2)
        assert await outcome(gateway, wrong(admin)) == REFUSED
        # Whoever does not wait so long is not made to wait for longer.
        assert await outcome(gateway, admin) == THROTTLED
        gateway.clock.advance(1)
        assert await outcome(gateway, admin) == THROTTLED
        gateway.clock.advance(1)
        assert await outcome(gateway, admin) == OK


async def test_what_was_counted_is_not_under_way_any_more() -> None:
    """Its event is written after it was counted, and meanwhile others have what is left."""
    local = LocalBudgets()
    attempts, now = LoginAttempts(local), system_clock()
    with attempts.by("acme", "somebody", HERE) as first:
        await first.look(now)
        assert not first.begin()
        await first.failed(now)
        with ExitStack() as others:
            begun = 0
            while True:
                each = others.enter_context(attempts.by("acme", "somebody", HERE))
                await each.look(now)
                if each.begin():
                    break
                begun += 1
            assert begun == OF_CLIENT - 1
    # Once, and not again when the block is left.
    with attempts.by("acme", "somebody", HERE) as last:
        await last.look(now)
        assert not last.begin()
    [debt] = await local.debts(
        [Budget.of(OF_CLIENT, "failed logins", "acme", "somebody", HERE)], now
    )
    assert debt == pytest.approx(2)


class TestOfOneAddress:
    async def test_it_may_name_so_many_and_no_more(
        self, gateway: RunningGateway, hasher: Counting
    ) -> None:
        admin = await gateway.onboard()
        before = hasher.runs
        crowd = (outcome(gateway, unknown()) for _ in range(OF_ADDRESS + 100))
        counted = Counter(await asyncio.gather(*crowd))
        # Five come back each second.
        assert OF_ADDRESS <= counted[REFUSED] < OF_ADDRESS + 100
        assert counted[REFUSED] + counted[THROTTLED] == OF_ADDRESS + 100
        assert hasher.runs - before == counted[REFUSED]
        assert await outcome(gateway, admin, ELSEWHERE) == OK

    async def test_of_ipv6_a_whole_network_is_one(self) -> None:
        async with running(hasher=Counting()) as gateway:
            admin = await gateway.onboard()
            for number in range(OF_CLIENT):
                address = f"2001:db8:1:2:{number:x}::1"
                assert await outcome(gateway, wrong(admin), address) == REFUSED
            assert await outcome(gateway, admin, "2001:db8:1:2:ffff::9") == THROTTLED
            assert await outcome(gateway, admin, "2001:db8:1:3::9") == OK


class TestWhatTheTrailLearns:
    async def test_each_failure_and_of_those_that_are_not_looked_at_one_a_minute(
        self, gateway: RunningGateway
    ) -> None:
        admin = await gateway.onboard()
        await exhaust(gateway, admin)
        for _ in range(20):
            assert await outcome(gateway, wrong(admin)) == THROTTLED
        events = await gateway.trail(admin, AuditAction.AUTH_FAILED)
        reasons = [event.metadata["reason"] for event in events]
        assert reasons == ["wrong_secret"] * OF_CLIENT + ["throttled"]
        assert {str(event.agent_id) for event in events} == {admin.client_id}

    async def test_naming_others_from_an_address_that_has_had_its_share_fills_nothing(self) -> None:
        async with running(hasher=Counting()) as gateway:
            admin = await gateway.onboard()
            for _ in range(OF_ADDRESS):
                assert await outcome(gateway, unknown()) == REFUSED
            for _ in range(100):
                assert await outcome(gateway, unknown()) == THROTTLED
            told = await gateway.trail(admin, AuditAction.AUTH_FAILED)
            assert [event.metadata["reason"] for event in told].count("throttled") == 1
            [event] = [each for each in told if each.metadata["reason"] == "throttled"]
            assert event.agent_id == NIL_AGENT
            gateway.clock.advance(59)
            await exhaust(gateway, admin)
            assert await outcome(gateway, admin) == THROTTLED
            # Another budget, so it is said again.
            *_, last = await gateway.trail(admin, AuditAction.AUTH_FAILED)
            assert (str(last.agent_id), last.metadata["reason"]) == (admin.client_id, "throttled")

    async def test_each_tenant_is_told_of_an_address_that_has_had_its_share(self) -> None:
        """Or whoever had it told to one of them could try the others unseen."""
        async with running(hasher=Counting()) as gateway:
            admin, other = await gateway.onboard(), await gateway.onboard("globex")
            for _ in range(OF_ADDRESS):
                assert await outcome(gateway, unknown()) == REFUSED
            for client in (admin, other):
                for _ in range(3):
                    assert await outcome(gateway, wrong(client)) == THROTTLED
                *_, last = await gateway.trail(client, AuditAction.AUTH_FAILED)
                told = (str(last.agent_id), last.metadata["reason"])
                assert told == (client.client_id, "throttled")


async def test_what_is_counted_names_nobody(
    empty_database: Database, redis: Redis, redis_url: str
) -> None:
    async with running(postgres_settings(empty_database, redis_url)) as gateway:
        await gateway.onboard()
        assert await outcome(gateway, Client("acme", "pasted-canary", "x")) == REFUSED
        keys = [key.decode() async for key in redis.scan_iter("budget:*")]
        assert len(keys) == 2
        for key in keys:
            assert "canary" not in key
            assert "acme" not in key
            assert HERE not in key


async def test_a_login_that_succeeds_asks_redis_about_no_budget_once_it_is_known(
    empty_database: Database, valkey: Valkey
) -> None:
    async with (
        running(postgres_settings(empty_database, valkey.url())) as gateway,
        Redis.from_url(valkey.url()) as redis,
    ):
        admin = await gateway.onboard()
        assert await outcome(gateway, admin) == OK
        before = (await redis.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
        for _ in range(20):
            assert await outcome(gateway, admin) == OK
        after = (await redis.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
        assert after == before
        assert await outcome(gateway, wrong(admin)) == REFUSED
        after = (await redis.info("commandstats"))["cmdstat_eval"]["calls"]
        assert after == before + 2


async def test_without_redis_the_process_counts_and_nobody_is_failed_by_it(
    empty_database: Database, valkey: Valkey
) -> None:
    async with running(postgres_settings(empty_database, valkey.url())) as gateway:
        admin = await gateway.onboard()
        for _ in range(10):
            assert await outcome(gateway, wrong(admin)) == REFUSED
        valkey.kill()
        for _ in range(OF_CLIENT - 10):
            assert await outcome(gateway, wrong(admin)) == REFUSED
        assert await outcome(gateway, wrong(admin)) == THROTTLED
        assert await outcome(gateway, admin, ELSEWHERE) == OK


async def test_processes_share_their_counts(
    empty_database: Database, redis: Redis, redis_url: str
) -> None:
    settings = postgres_settings(empty_database, redis_url)
    async with running(settings) as one, running(settings, hasher=Counting()) as other:
        admin = await one.onboard()
        await exhaust(one, admin)
        assert await outcome(other, admin) == THROTTLED
        assert await outcome(other, admin, ELSEWHERE) == OK


async def test_where_there_is_no_room_to_hash_nothing_is_counted(
    backend: GatewaySettings,
) -> None:
    class Full(Counting):
        full = False

        async def matches(self, secret: str, secret_hash: str | None, whence: str = "") -> bool:
            if self.full:
                raise Unavailable("too many secrets are being hashed", 3)
            return await super().matches(secret, secret_hash, whence)

    hasher = Full()
    async with running(backend, hasher=hasher) as gateway:
        admin = await gateway.onboard()
        hasher.full = True
        before = await gateway.trail(admin)
        for _ in range(OF_CLIENT + 5):
            assert await outcome(gateway, wrong(admin)) == "UNAVAILABLE"
        assert await gateway.trail(admin) == before
        hasher.full = False
        await exhaust(gateway, admin)
