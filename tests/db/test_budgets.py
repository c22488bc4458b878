"""Budgets: what is left in a minute, wherever it is counted, and when there is nobody to count."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from redis.asyncio import Redis

from db.budgets import MINUTE, Budget, Budgets, LocalBudgets, RedisBudgets, network_of, open_budgets
from tests.servers.valkey import Valkey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
THIRTY, SEVEN = Budget.of(30, "thirty"), Budget.of(7, "seven")


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture(params=["local", "redis"])
async def budgets(
    request: pytest.FixtureRequest, redis: Redis, redis_url: str
) -> AsyncIterator[Budgets]:
    if request.param == "local":
        yield LocalBudgets()
        return
    async with counting(redis_url) as made:
        yield made


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[RedisBudgets]:
    made = RedisBudgets(url)
    try:
        yield made
    finally:
        await made.close()


async def age(redis: Redis, budget: Budget, seconds: float) -> None:
    """As if so many seconds had passed for the server."""
    full_at = await redis.get(budget.key)
    await redis.set(budget.key, int(full_at) - int(seconds * 1_000_000), keepttl=True)


@pytest.mark.parametrize("budget", [THIRTY, SEVEN, Budget.of(1, "one"), Budget.of(400, "many")])
async def test_so_many_at_once_and_the_next_is_told_how_long_to_wait(
    budgets: Budgets, budget: Budget
) -> None:
    waits = [await budgets.take(budget, NOW) for _ in range(budget.per_minute)]
    assert waits == [0] * budget.per_minute
    for _ in range(3):
        # The server's clock goes on.
        assert budget.interval - 1 < await budgets.take(budget, NOW) <= budget.interval + 0.001


async def test_one_comes_back_after_its_part_of_a_minute_and_all_after_a_minute() -> None:
    local = LocalBudgets()
    for _ in range(30):
        assert not await local.take(THIRTY, NOW)
    assert await local.take(THIRTY, later(1.9)) == pytest.approx(0.1)
    assert not await local.take(THIRTY, later(2))
    assert await local.take(THIRTY, later(2)) == pytest.approx(2)
    waits = [await local.take(THIRTY, later(62)) for _ in range(31)]
    assert waits == [*[0] * 30, pytest.approx(2)]


async def test_the_server_s_clock_brings_them_back_too(redis: Redis, redis_url: str) -> None:
    async with counting(redis_url) as budgets:
        for _ in range(30):
            assert not await budgets.take(THIRTY, NOW)
        assert await budgets.take(THIRTY, later(3600)) > 0
        await age(redis, THIRTY, 2)
        assert not await budgets.take(THIRTY, NOW)
        assert await budgets.take(THIRTY, NOW) > 0
        await age(redis, THIRTY, 60)
        assert [await budgets.take(THIRTY, NOW) for _ in range(30)] == [0] * 30


async def test_spending_goes_on_beyond_the_end_but_never_for_more_than_a_minute(
    budgets: Budgets,
) -> None:
    for _ in range(40):
        await budgets.spend([THIRTY, SEVEN], NOW)
    debts = await budgets.debts([THIRTY, SEVEN, Budget.of(5, "untouched")], NOW)
    assert debts[0] == pytest.approx(MINUTE, abs=1)
    assert debts[1] == pytest.approx(MINUTE, abs=1)
    assert debts[2] == 0
    assert THIRTY.wait(debts[0]) <= THIRTY.interval
    assert THIRTY.wait(MINUTE) == pytest.approx(THIRTY.interval)


async def test_whatever_was_spent_is_forgotten_a_minute_later() -> None:
    local = LocalBudgets()
    for _ in range(40):
        await local.spend([THIRTY, Budget.of(1, "one")], NOW)
    assert list(await local.debts([THIRTY, Budget.of(1, "one")], later(MINUTE))) == [0, 0]


async def test_looking_costs_nothing(budgets: Budgets) -> None:
    for _ in range(100):
        assert list(await budgets.debts([THIRTY], NOW)) == [0]
    await budgets.spend([THIRTY], NOW)
    for _ in range(100):
        [debt] = await budgets.debts([THIRTY], NOW)
        assert 0 < debt <= THIRTY.interval


async def test_what_is_under_way_counts_as_if_it_were_spent() -> None:
    assert THIRTY.wait(0, besides=29) == 0
    assert THIRTY.wait(0, besides=30) == pytest.approx(2)
    assert THIRTY.wait(10, besides=25) == pytest.approx(2)


async def test_a_crowd_takes_no_more_than_there_is(budgets: Budgets) -> None:
    waits = await asyncio.gather(*(budgets.take(THIRTY, NOW) for _ in range(300)))
    assert waits.count(0) == 30


def test_whose_budget_it_is_cannot_be_read_from_its_key() -> None:
    budget = Budget.of(30, "acme", "canary-secret", "192.0.2.1")
    assert "canary" not in budget.key
    assert "192" not in budget.key
    others = [
        Budget.of(30, "acmec", "anary-secret", "192.0.2.1"),
        Budget.of(30, "acme", "canary-secret", "192.0.2.2"),
        Budget.of(31, "acme", "canary-secret", "192.0.2.1"),
        Budget.of(30, "acme", "\ud800", ""),
    ]
    assert len({budget.key, *(each.key for each in others)}) == 5
    assert budget == Budget.of(30, "acme", "canary-secret", "192.0.2.1")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
        ("999.1.1.1", "999.1.1.1"),
    ],
)
def test_an_ipv6_address_stands_for_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


class TestShared:
    async def test_processes_count_together(self, redis: Redis, redis_url: str) -> None:
        async with counting(redis_url) as one, counting(redis_url) as other:
            for number in range(30):
                assert not await (one, other)[number % 2].take(THIRTY, NOW)
            for each in (one, other):
                assert await each.take(THIRTY, NOW) > 0

    async def test_a_key_lives_as_long_as_there_is_something_to_remember(
        self, redis: Redis, redis_url: str
    ) -> None:
        async with counting(redis_url) as budgets:
            await budgets.spend([THIRTY], NOW)
            assert 0 < await redis.pttl(THIRTY.key) <= 2000
            for _ in range(99):
                await budgets.spend([THIRTY], NOW)
            assert 55_000 < await redis.pttl(THIRTY.key) <= 60_000
            assert await redis.dbsize() == 1

    @pytest.mark.parametrize("held", ["nonsense", "", "9" * 30, "-1", "nan", "inf"])
    async def test_what_is_none_of_ours_is_written_over(
        self, redis: Redis, redis_url: str, held: str
    ) -> None:
        await redis.set(THIRTY.key, held)
        async with counting(redis_url) as budgets:
            await budgets.spend([THIRTY], NOW)
            assert 0 < (await budgets.debts([THIRTY], NOW))[0] <= MINUTE
        await redis.delete(THIRTY.key)
        await cast(Awaitable[int], redis.rpush(THIRTY.key, held))
        async with counting(redis_url) as budgets:
            assert not await budgets.take(THIRTY, NOW)
            assert await redis.type(THIRTY.key) == b"string"


class TestAlone:
    async def test_where_there_is_no_server_the_process_counts(self) -> None:
        assert isinstance(open_budgets("memory://"), LocalBudgets)

    async def test_a_silent_server_is_no_fault_and_what_was_counted_here_is_remembered(
        self, valkey: Valkey
    ) -> None:
        async with counting(valkey.url()) as budgets:
            for _ in range(20):
                assert not await budgets.take(THIRTY, NOW)
            valkey.kill()
            for _ in range(10):
                assert not await budgets.take(THIRTY, NOW)
            assert await budgets.take(THIRTY, NOW) == pytest.approx(2)
            await budgets.spend([SEVEN], NOW)
            assert (await budgets.debts([SEVEN], NOW))[0] == pytest.approx(MINUTE / 7)

            valkey.start()
            # Not asked yet: an outage costs one question its time, not each.
            assert await budgets.take(THIRTY, later(1)) == pytest.approx(1)
            assert not await budgets.take(THIRTY, later(6))
            async with Redis.from_url(valkey.url()) as client:
                assert await client.exists(THIRTY.key)

    async def test_a_server_that_hangs_holds_up_no_more_than_one_crowd(
        self, valkey: Valkey
    ) -> None:
        async with counting(valkey.url()) as budgets:
            valkey.process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(10):
                    waits = await asyncio.gather(*(budgets.take(THIRTY, NOW) for _ in range(100)))
                    for _ in range(100):
                        assert await budgets.take(THIRTY, later(0.1)) > 0
            finally:
                valkey.process.send_signal(signal.SIGCONT)
            assert waits.count(0) == 30

    async def test_it_counts_no_more_of_them_than_there_is_room_for(self) -> None:
        small = LocalBudgets(room=3)
        budgets = [Budget.of(1, str(number)) for number in range(4)]
        for each in budgets:
            assert not await small.take(each, NOW)
        assert [debt > 0 for debt in await small.debts(budgets, NOW)] == [False, True, True, True]

    async def test_a_clock_that_was_set_back_locks_nobody_out_for_long(self) -> None:
        local = LocalBudgets()
        await local.spend([SEVEN], NOW)
        [debt] = await local.debts([SEVEN], NOW - timedelta(days=1))
        assert debt == MINUTE
