"""The warm marker against a real server: what sets it, what keeps it, and everything that must not.

Nobody waits for time here: the lease is asked of the server as the instant at which it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import pytest
from redis.asyncio import Redis

from db.cache import RedisRevocations
from db.clock import system_clock
from db.cuts import Cut, CutKind, Cuts, as_text
from db.errors import Misconfigured, Unavailable
from db.warmth import CLAIM, LEASE_SECONDS, MARKER, Opening
from tests.contract.cast import ACME, GLOBEX
from tests.servers.valkey import Valkey

# By the server's own clock, which no test can set, it lies ahead.
FAR = 7_226_582_400


@pytest.fixture
async def own(valkey: Valkey) -> AsyncIterator[RedisRevocations]:
    made = RedisRevocations(valkey.url())
    yield made
    await made.close()


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url()) as made:
        yield made


def marks(*numbers: int, kind: CutKind = CutKind.TOKEN, generation: int | None = None) -> Cuts:
    cuts = (Cut(UUID(int=number), FAR + number % 1000, generation) for number in numbers)
    return Cuts(kind, "".join(map(as_text, cuts)))


def key(number: int) -> str:
    return ACME.revoked_key(UUID(int=number))


async def warm(cache: RedisRevocations) -> Opening:
    """As a warm-up with nothing to load."""
    opening = await cache.warmth.claim()
    await cache.warmth.complete(opening, await cache.warmth.hold(opening))
    assert await is_warm(cache)
    return opening


async def is_warm(cache: RedisRevocations) -> bool:
    return (await cache.read([])).warm


async def end_of(redis: Redis, name: str) -> int:
    async with redis.pipeline() as pipeline:
        pipeline.expiretime(name)
        [end] = await pipeline.execute()
    return int(end)


async def lease_end(redis: Redis) -> int:
    return await end_of(redis, MARKER)


async def with_evictions(client: Redis) -> None:
    """The server forgets keys for lack of room, those that end soon first; then it has room and
    may evict no more."""
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory-policy", "volatile-ttl")
    await client.config_set("maxmemory", used + 300_000)
    for number in range(2000):
        await client.set(f"filler:{number}", "x" * 1000, ex=20)
    await client.config_set("maxmemory", 0)
    await client.config_set("maxmemory-policy", "noeviction")
    assert (await client.info("stats"))["evicted_keys"] > 0


async def test_an_empty_server_is_cold(cache: RedisRevocations) -> None:
    assert not await is_warm(cache)


async def test_the_marker_is_the_run_id_of_the_server_for_a_lease_from_the_second_pass(
    cache: RedisRevocations, redis: Redis
) -> None:
    opening = await cache.warmth.claim()
    assert not await is_warm(cache)
    second = await cache.warmth.hold(opening)
    assert not await is_warm(cache)
    await cache.warmth.complete(opening, replace(second, second=second.second - 20))
    assert await is_warm(cache)
    assert (await redis.get(MARKER)).decode() == (await redis.info("server"))["run_id"]
    assert await lease_end(redis) == second.second - 20 + LEASE_SECONDS
    assert await redis.get(CLAIM) is None


async def test_the_instants_are_of_the_servers_clock(cache: RedisRevocations, redis: Redis) -> None:
    before, _ = await redis.time()
    opening = await cache.warmth.look()
    after, _ = await redis.time()
    assert before <= opening.second <= after
    assert opening.lease_end == opening.second + LEASE_SECONDS


async def test_a_second_pass_longer_than_a_lease_proves_nothing(
    cache: RedisRevocations, redis: Redis
) -> None:
    opening = await cache.warmth.claim()
    with pytest.raises(Unavailable):
        await cache.warmth.complete(
            opening, replace(opening, second=opening.second - LEASE_SECONDS)
        )
    assert await redis.get(MARKER) is None


@pytest.mark.parametrize("value", ["1", "", "0" * 40, "a"])
async def test_a_marker_that_is_not_this_servers_is_none(
    cache: RedisRevocations, redis: Redis, value: str
) -> None:
    await redis.set(MARKER, value, ex=60)
    assert not await is_warm(cache)
    assert not await cache.warmth.renew(await cache.warmth.look())
    assert not await is_warm(cache)
    await warm(cache)


async def test_a_marker_of_a_wrong_type_is_none_and_is_replaced(
    cache: RedisRevocations, redis: Redis
) -> None:
    for name in (MARKER, CLAIM):
        async with redis.pipeline() as pipeline:
            pipeline.rpush(name, "1")
            await pipeline.execute()
    assert not await is_warm(cache)
    assert not await cache.warmth.renew(await cache.warmth.look())
    await warm(cache)


async def test_where_the_run_id_cannot_be_asked_nothing_is_believed(
    valkey: Valkey, client: Redis, own: RedisRevocations
) -> None:
    await warm(own)
    await client.acl_setuser("default", enabled=True, commands=["-info"])
    cache = RedisRevocations(valkey.url())
    assert not await is_warm(cache)
    assert await cache.mark(key(1), FAR)
    assert (await cache.read([key(1)])).values == [b"1"]
    await cache.close()


async def test_a_marker_that_comes_back_with_a_dump_is_another_servers(
    valkey: Valkey, client: Redis, own: RedisRevocations
) -> None:
    """What was cut after the dump is not in it, and its marker is."""
    await warm(own)
    await client.save()
    assert await own.mark(key(1), FAR)
    valkey.kill()
    valkey.start()
    fresh = RedisRevocations(valkey.url())
    found = [await own.read([key(1)]), await own.read([key(1)]), await fresh.read([key(1)])]
    assert await client.get(MARKER) is not None
    assert [(each.values, each.warm) for each in found] == [([None], False)] * 3
    assert not await own.warmth.renew(await own.warmth.look())
    assert not await is_warm(own)
    await warm(own)
    assert await is_warm(fresh)
    await fresh.close()


async def test_a_restart_during_a_warm_up_leaves_no_marker_although_its_claim_comes_back(
    valkey: Valkey, client: Redis, own: RedisRevocations
) -> None:
    opening = await own.warmth.claim()
    await client.save()
    valkey.kill()
    valkey.start()
    with suppress(Unavailable):
        await own.warmth.look()
    assert (await client.get(CLAIM)).decode() == opening.claim
    with pytest.raises(Unavailable, match="restarted"):
        await own.warmth.complete(opening, opening)
    assert await client.exists(MARKER, CLAIM) == 0


async def test_an_emptied_server_ends_the_warm_up(client: Redis, own: RedisRevocations) -> None:
    warmth = own.warmth
    opening = await warmth.claim()
    await warmth.put(opening, ACME, marks(1))
    await client.flushall()
    for act in (
        warmth.hold(opening),
        warmth.put(opening, ACME, marks(2)),
        warmth.put(opening, ACME, marks(3, kind=CutKind.AGENT, generation=1)),
        warmth.complete(opening, opening),
    ):
        with pytest.raises(Unavailable, match="emptied"):
            await act
    assert await client.dbsize() == 0


async def test_of_two_warm_ups_the_later_one_has_the_claim(
    cache: RedisRevocations, redis: Redis
) -> None:
    first, second = await cache.warmth.claim(), await cache.warmth.claim()
    with pytest.raises(Unavailable):
        await cache.warmth.hold(first)
    with pytest.raises(Unavailable):
        await cache.warmth.put(first, ACME, marks(1))
    with pytest.raises(Unavailable):
        await cache.warmth.complete(first, first)
    assert await redis.keys() == [CLAIM.encode()]
    await cache.warmth.complete(second, second)
    assert await is_warm(cache)


async def test_a_claim_lives_as_long_as_it_is_used(cache: RedisRevocations, redis: Redis) -> None:
    opening = await cache.warmth.claim()
    for act in (
        lambda: cache.warmth.hold(opening),
        lambda: cache.warmth.put(opening, ACME, marks(1)),
        lambda: cache.warmth.put(opening, ACME, marks(1, kind=CutKind.AGENT, generation=1)),
    ):
        await redis.expire(CLAIM, 5)
        await act()
        assert 5 < await redis.ttl(CLAIM) <= LEASE_SECONDS
    await redis.delete(CLAIM)
    with pytest.raises(Unavailable):
        await cache.warmth.complete(opening, opening)


async def test_cooling_takes_the_marker_and_any_warm_up_that_may_have_read_before(
    cache: RedisRevocations, redis: Redis
) -> None:
    await warm(cache)
    opening = await cache.warmth.claim()
    assert await cache.cool()
    assert not await is_warm(cache)
    with pytest.raises(Unavailable):
        await cache.warmth.complete(opening, opening)
    assert not await cache.warmth.renew(opening)
    assert await redis.keys(MARKER) == []


async def test_a_renewal_counts_from_its_reads_and_never_shortens(
    cache: RedisRevocations, redis: Redis
) -> None:
    opening = await warm(cache)
    for back in (30, 10, 20):
        begun = replace(opening, second=opening.second - back)
        await redis.expireat(MARKER, opening.second + 15)
        assert await cache.warmth.renew(begun)
        assert await lease_end(redis) == max(begun.lease_end, opening.second + 15)
    over = replace(opening, second=opening.second - 1000)
    before = await lease_end(redis)
    assert await cache.warmth.renew(over)
    assert await lease_end(redis) == before


async def test_what_is_gone_is_not_renewed(cache: RedisRevocations, redis: Redis) -> None:
    opening = await warm(cache)
    await redis.delete(MARKER)
    assert not await cache.warmth.renew(opening)
    assert await redis.get(MARKER) is None


async def test_a_renewal_begun_at_another_run_of_the_server_is_none(
    cache: RedisRevocations, redis: Redis
) -> None:
    opening = await warm(cache)
    before = await lease_end(redis)
    later = replace(opening, run_id="0" * 40, second=opening.second + 5)
    assert not await cache.warmth.renew(later)
    assert await lease_end(redis) == before


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "volatile-lru"])
async def test_a_server_that_may_evict_is_never_warm(
    client: Redis, own: RedisRevocations, policy: str
) -> None:
    opening = await warm(own)
    claimed = await own.warmth.claim()
    await client.config_set("maxmemory-policy", policy)
    assert await own.warmth.renew(opening), "without a limit it evicts nothing"
    await client.config_set("maxmemory", "500mb")
    for act in (
        lambda: own.warmth.renew(opening),
        lambda: own.warmth.complete(claimed, claimed),
        own.warmth.claim,
        own.warmth.look,
    ):
        await client.set(MARKER, opening.run_id, ex=60)
        with pytest.raises(Misconfigured, match="noeviction"):
            await act()
        assert await client.exists(MARKER, CLAIM) == 0
    await client.config_set("maxmemory-policy", "noeviction")
    await warm(own)


async def test_keys_evicted_since_the_warm_up_end_the_marker(
    client: Redis, own: RedisRevocations
) -> None:
    opening = await warm(own)
    await with_evictions(client)
    assert await client.exists(MARKER), "nobody has looked after it yet"
    assert not await is_warm(own)
    with pytest.raises(Unavailable, match="evicted"):
        await own.warmth.renew(await own.warmth.look())
    assert not await is_warm(own)
    assert not await own.warmth.renew(opening)
    await warm(own)
    assert await own.warmth.renew(await own.warmth.look())


async def test_keys_evicted_during_a_warm_up_end_it_and_the_marker_before(
    client: Redis, own: RedisRevocations
) -> None:
    await warm(own)
    opening = await own.warmth.claim()
    await with_evictions(client)
    with pytest.raises(Unavailable, match="evicted"):
        await own.warmth.complete(opening, await own.warmth.hold(opening))
    assert await client.exists(MARKER, CLAIM) == 0


async def test_keys_are_put_with_their_own_ends(cache: RedisRevocations, redis: Redis) -> None:
    numbers = range(1, 2502)
    opening = await cache.warmth.claim()
    await cache.warmth.put(opening, ACME, marks(*numbers))
    await cache.warmth.put(opening, ACME, marks(7000, kind=CutKind.CREDENTIAL))
    await cache.warmth.put(opening, GLOBEX, marks(7000))
    await redis.delete(CLAIM)
    assert await redis.dbsize() == 2503
    for number in (1, 999, 1000, 1001, 2501, 7000):
        assert await redis.get(key(number)) == b"1"
        assert await end_of(redis, key(number)) == FAR + number % 1000
    assert await redis.get(GLOBEX.revoked_key(UUID(int=7000))) == b"1"


async def test_what_has_ended_already_leaves_no_key(cache: RedisRevocations, redis: Redis) -> None:
    ended = Cuts(CutKind.TOKEN, as_text(Cut(UUID(int=1), 1_500_000_000)))
    await cache.warmth.put(await cache.warmth.look(), ACME, ended)
    assert await redis.dbsize() == 0


async def test_a_generation_never_goes_down(cache: RedisRevocations, redis: Redis) -> None:
    opening = await cache.warmth.claim()
    generation_key = ACME.agent_generation_key(UUID(int=1))
    held = []
    for generation in (3, 2, 7, 6, 2**31 - 1, 1):
        cuts = marks(1, 2, kind=CutKind.AGENT, generation=generation)
        await cache.warmth.put(opening, ACME, cuts)
        held.append(int(await redis.get(generation_key)))
    assert held == [3, 3, 7, 7, 2**31 - 1, 2**31 - 1]
    assert await end_of(redis, generation_key) == FAR + 1


async def test_a_tail_puts_without_a_claim(cache: RedisRevocations, redis: Redis) -> None:
    await cache.warmth.put(await cache.warmth.look(), ACME, marks(1))
    assert await redis.get(key(1)) == b"1"


async def test_a_server_without_room_is_not_filled(client: Redis, own: RedisRevocations) -> None:
    opening = await own.warmth.claim()
    await client.config_set("maxmemory", 1)
    for kind, generation in ((CutKind.TOKEN, None), (CutKind.AGENT, 1)):
        for begun in (opening, replace(opening, claim="")):
            with pytest.raises(Unavailable, match="takes nothing more"):
                await own.warmth.put(begun, ACME, marks(1, kind=kind, generation=generation))
    assert await client.keys() == [CLAIM.encode()]
    assert await own.cool(), "it can always be told to forget"
    assert await client.dbsize() == 0


async def test_a_server_that_is_gone_is_unavailable(valkey: Valkey, own: RedisRevocations) -> None:
    opening = await own.warmth.claim()
    valkey.kill()
    for act in (
        own.warmth.look,
        own.warmth.claim,
        lambda: own.warmth.hold(opening),
        lambda: own.warmth.put(opening, ACME, marks(1)),
        lambda: own.warmth.complete(opening, opening),
        lambda: own.warmth.renew(opening),
    ):
        with pytest.raises(Unavailable):
            await act()
    assert not await own.cool()
    assert not await is_warm(own)


async def test_the_clock_of_this_machine_is_the_servers(redis: Redis) -> None:
    """What other tests of the warm-up rest on: both run here."""
    second, _ = await redis.time()
    assert abs(system_clock().timestamp() - second) < 5
