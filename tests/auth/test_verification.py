"""What was verified is not hashed again: by whom, for how long, and what of it is kept."""

from __future__ import annotations

import asyncio
import gc
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import Unavailable
from gateway.auth.secrets import new_secret
from gateway.auth.verification import Verifications

CREDENTIAL = UUID("5f0c1d9e-6b7a-4c1d-8e2f-0123456789ab")
HASH = "$2b$12$hash"


class Comparison:
    """One that is made when the test says so, and that ends, when it is given up, when `ends` says
    so: a hash that has begun is not stopped."""

    def __init__(self, answer: bool | Exception = True) -> None:
        self.answer = answer
        self.made = 0
        self.cancelled = 0
        self.let = asyncio.Event()
        self.ends = asyncio.Event()
        self.ends.set()

    async def __call__(self) -> bool:
        self.made += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.ends.wait()
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def crowd(
    verifications: Verifications, key: bytes, comparison: Comparison, size: int
) -> list[asyncio.Task[bool]]:
    """All of them waiting."""
    tasks = [asyncio.create_task(verifications.verify(key, comparison)) for _ in range(size)]
    await anyio.wait_all_tasks_blocked()
    return tasks


@pytest.fixture
def verifications() -> Verifications:
    return Verifications()


@pytest.fixture
def key(verifications: Verifications) -> bytes:
    return verifications.key("acme", CREDENTIAL, HASH, "secret")


class TestKey:
    def test_every_part_counts(self, verifications: Verifications, key: bytes) -> None:
        others = [
            verifications.key("globex", CREDENTIAL, HASH, "secret"),
            verifications.key("acme", uuid4(), HASH, "secret"),
            verifications.key("acme", CREDENTIAL, "$2b$12$other", "secret"),
            verifications.key("acme", CREDENTIAL, HASH, "Secret"),
        ]
        assert len({key, *others}) == 5
        assert key == verifications.key("acme", CREDENTIAL, HASH, "secret")

    def test_what_one_part_ends_with_is_not_what_the_next_begins_with(
        self, verifications: Verifications
    ) -> None:
        whole = HASH + "secret"
        keys = {
            verifications.key("acme", CREDENTIAL, whole[:cut], whole[cut:])
            for cut in range(len(whole) + 1)
        }
        assert len(keys) == len(whole) + 1

    def test_another_process_would_make_another(self, key: bytes) -> None:
        assert Verifications().key("acme", CREDENTIAL, HASH, "secret") != key

    def test_any_text_has_one(self, verifications: Verifications) -> None:
        texts = ["", "\x00", "\ud800", "é", "x" * 100_000]
        assert len({verifications.key("acme", CREDENTIAL, HASH, each) for each in texts}) == 5


class TestRemembering:
    async def test_a_success_is_remembered_and_a_failure_is_not(
        self, verifications: Verifications, key: bytes
    ) -> None:
        for answer, made in ((False, 2), (True, 1)):
            comparison = Comparison(answer)
            comparison.let.set()
            assert [await verifications.verify(key, comparison) for _ in range(2)] == [answer] * 2
            assert comparison.made == made
            assert verifications.knows(key) is answer

    async def test_an_error_is_nothing_to_remember(
        self, verifications: Verifications, key: bytes
    ) -> None:
        failing = Comparison(Unavailable("too much is waiting"))
        failing.let.set()
        with pytest.raises(Unavailable):
            await verifications.verify(key, failing)
        assert not verifications.knows(key)
        assert not verifications.under_way(key)

    def test_the_one_not_asked_about_for_longest_goes_first(self) -> None:
        small = Verifications(room=3)
        keys = [small.key("acme", CREDENTIAL, HASH, str(number)) for number in range(4)]
        for each in keys[:3]:
            small.remember(each)
        assert small.knows(keys[0])
        small.remember(keys[3])
        assert [small.knows(each) for each in keys] == [True, False, True, True]

    async def test_nothing_of_the_secret_stays(self, verifications: Verifications) -> None:
        secret = new_secret()
        comparison = Comparison()
        comparison.let.set()
        key = verifications.key("acme", CREDENTIAL, HASH, secret)
        assert await verifications.verify(key, comparison)
        seen: set[int] = set()
        held: list[object] = [verifications]
        while held:
            each = held.pop()
            # Not beyond what it holds itself: a class or a module leads everywhere.
            if id(each) in seen or isinstance(each, type) or callable(each):
                continue
            seen.add(id(each))
            assert each not in (secret, secret.encode())
            held += gc.get_referents(each)
        assert id(key) in seen


class TestOneComparisonForAll:
    async def test_a_crowd_makes_one_and_all_are_told(self, key: bytes) -> None:
        for answer in (True, False):
            comparison = Comparison(answer)
            tasks = await crowd(Verifications(), key, comparison, 500)
            comparison.let.set()
            assert await asyncio.gather(*tasks) == [answer] * 500
            assert comparison.made == 1

    async def test_an_error_is_everybody_s(self, verifications: Verifications, key: bytes) -> None:
        comparison = Comparison(Unavailable("too much is waiting"))
        tasks = await crowd(verifications, key, comparison, 40)
        comparison.let.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors] == [Unavailable] * 40

    async def test_different_secrets_wait_for_nobody_but_their_own(
        self, verifications: Verifications
    ) -> None:
        slow, quick = Comparison(True), Comparison(False)
        [first] = await crowd(
            verifications, verifications.key("acme", CREDENTIAL, HASH, "a"), slow, 1
        )
        quick.let.set()
        other = verifications.key("acme", CREDENTIAL, HASH, "b")
        assert not await verifications.verify(other, quick)
        assert not first.done()
        slow.let.set()
        assert await first

    async def test_the_first_one_can_go_and_the_others_are_told_all_the_same(
        self, verifications: Verifications, key: bytes
    ) -> None:
        comparison = Comparison()
        first, *others = await crowd(verifications, key, comparison, 5)
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert first.cancelled()
        assert verifications.under_way(key)
        comparison.let.set()
        assert await asyncio.gather(*others) == [True] * 4
        assert (comparison.made, comparison.cancelled) == (1, 0)

    async def test_when_nobody_is_left_it_is_given_up_and_whoever_comes_next_begins_anew(
        self, verifications: Verifications, key: bytes
    ) -> None:
        given_up = Comparison()
        given_up.ends.clear()
        tasks = await crowd(verifications, key, given_up, 3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        anew = Comparison()
        anew.let.set()
        assert await verifications.verify(key, anew)
        given_up.ends.set()
        await anyio.wait_all_tasks_blocked()
        assert (given_up.made, given_up.cancelled, anew.made) == (1, 1, 1)
        assert verifications.knows(key)
        assert not verifications.under_way(key)

    async def test_the_loop_goes_round_while_a_crowd_is_told(
        self, verifications: Verifications, key: bytes
    ) -> None:
        """Each of a crowd goes on with its request at once, so they are let go a few at a time."""
        comparison = Comparison()
        loose = 0
        rounds: list[int] = []

        async def one() -> None:
            nonlocal loose
            await verifications.verify(key, comparison)
            loose += 1

        tasks = [asyncio.create_task(one()) for _ in range(500)]
        await anyio.wait_all_tasks_blocked()
        comparison.let.set()
        while loose < 500:
            before = loose
            await asyncio.sleep(0)
            rounds.append(loose - before)
        assert max(rounds) <= 16
        await asyncio.gather(*tasks)

    async def test_closing_ends_what_is_on_its_way(
        self, verifications: Verifications, key: bytes
    ) -> None:
        comparison = Comparison()
        tasks = await crowd(verifications, key, comparison, 3)
        await verifications.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert comparison.cancelled == 1
