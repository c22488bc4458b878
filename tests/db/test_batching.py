"""Everything that is asked for is answered once, in batches that nobody waits for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.batching import Batched
from db.errors import Misused, NotFound, Unavailable

_whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Doubling:
    """Answers with twice what it is asked, once `gate` lets it go on."""

    def __init__(self, most: int = 3, room: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.at_once = 0
        self.rested = 0
        self.gate = asyncio.Event()
        self.batched: Batched[int, int] = Batched(self._run, most=most, room=room, rest=self._rest)

    async def _run(self, items: Sequence[int]) -> list[int]:
        self.at_once += 1
        assert self.at_once == 1
        self.batches.append([*items])
        await self.gate.wait()
        self.at_once -= 1
        return [2 * item for item in items]

    async def _rest(self) -> None:
        assert self.at_once == 0
        self.rested += 1

    def asked(self, *items: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.batched.ask(item)) for item in items]


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_is_alone_is_answered_alone_and_at_once() -> None:
    doubling = Doubling()
    doubling.gate.set()
    assert [await doubling.batched.ask(number) for number in range(3)] == [0, 2, 4]
    assert doubling.batches == [[0], [1], [2]]


async def test_what_comes_while_a_batch_is_on_its_way_goes_together_with_the_next() -> None:
    doubling = Doubling()
    first = doubling.asked(0)
    await _turns()
    others = doubling.asked(1, 2, 3, 4, 5)
    await _turns()
    assert doubling.batches == [[0]]
    doubling.gate.set()
    assert await asyncio.gather(*first, *others) == [0, 2, 4, 6, 8, 10]
    assert doubling.batches == [[0], [1, 2, 3], [4, 5]]


async def test_beyond_its_room_it_refuses_at_once_and_the_others_are_answered() -> None:
    doubling = Doubling(room=2)
    waiting = [*doubling.asked(0)]
    await _turns()
    waiting += doubling.asked(1, 2)
    await _turns()
    with pytest.raises(Unavailable) as refused:
        await doubling.batched.ask(3)
    assert refused.value.retry_after == 1
    doubling.gate.set()
    assert await asyncio.gather(*waiting) == [0, 2, 4]
    assert doubling.batches == [[0], [1, 2]]
    assert await doubling.batched.ask(3) == 6


async def test_a_caller_cancelled_while_it_waits_is_left_out() -> None:
    doubling = Doubling()
    [first] = doubling.asked(0)
    await _turns()
    others = doubling.asked(1, 2, 3)
    await _turns()
    others[1].cancel()
    doubling.gate.set()
    assert [await caller for caller in (first, others[0], others[2])] == [0, 2, 6]
    assert others[1].cancelled()
    assert doubling.batches == [[0], [1, 3]]


async def test_a_batch_goes_on_without_the_callers_that_are_cancelled_meanwhile() -> None:
    doubling = Doubling()
    callers = doubling.asked(0, 1)
    await _turns()
    callers[0].cancel()
    await _turns()
    doubling.gate.set()
    assert await callers[1] == 2
    assert callers[0].cancelled()
    assert doubling.batches == [[0, 1]]


async def test_when_all_who_wait_are_cancelled_nothing_more_is_run() -> None:
    doubling = Doubling()
    first = doubling.asked(0)
    await _turns()
    others = doubling.asked(1, 2)
    await _turns()
    for other in others:
        other.cancel()
    await _turns()
    assert doubling.batched.idle
    doubling.gate.set()
    assert await first[0] == 0
    await doubling.batched.drain()
    assert doubling.batches == [[0]]
    assert await doubling.batched.ask(3) == 6


async def test_what_a_batch_raises_all_of_it_hear_and_the_next_is_tried() -> None:
    async def run(items: Sequence[int]) -> Sequence[int]:
        if 1 in items:
            raise NotFound("there is no such item")
        return items

    batched: Batched[int, int] = Batched(run, most=2, room=9)
    answers = await asyncio.gather(
        *(batched.ask(item) for item in (0, 1, 2, 3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [NotFound, NotFound, int, int]


async def test_an_exception_among_the_results_is_raised_to_one_alone() -> None:
    async def run(items: Sequence[int]) -> Sequence[int | Exception]:
        return [NotFound("odd") if item % 2 else item for item in items]

    batched: Batched[int, int] = Batched(run, most=9, room=9)
    answers = await asyncio.gather(
        *(batched.ask(item) for item in range(4)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [int, NotFound, int, NotFound]


@pytest.mark.parametrize("results", [[], [1], [1, 2, 3]])
async def test_a_batch_that_is_not_answered_item_by_item_is_answered_to_nobody(
    results: list[int],
) -> None:
    async def run(items: Sequence[int]) -> Sequence[int]:
        return results

    batched: Batched[int, int] = Batched(run, most=9, room=9)
    answers = await asyncio.gather(batched.ask(1), batched.ask(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Misused, Misused]


async def test_a_batch_belongs_to_no_request() -> None:
    seen = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        seen.append(_whose.get())
        return items

    batched: Batched[int, int] = Batched(run, most=9, room=9)
    _whose.set("mine")
    assert await batched.ask(1) == 1
    assert seen == ["nobody's"]


async def test_it_rests_when_there_is_nothing_to_do_and_not_between_two_batches() -> None:
    doubling = Doubling()
    callers = doubling.asked(*range(7))
    await _turns()
    doubling.gate.set()
    await asyncio.gather(*callers)
    await doubling.batched.drain()
    assert len(doubling.batches) == 3
    assert doubling.rested == 1


async def test_what_is_asked_while_it_comes_to_rest_is_answered() -> None:
    resting, rested = asyncio.Event(), asyncio.Event()

    async def run(items: Sequence[int]) -> Sequence[int]:
        return items

    async def rest() -> None:
        resting.set()
        await rested.wait()

    batched: Batched[int, int] = Batched(run, most=9, room=9, rest=rest)
    assert await batched.ask(1) == 1
    await resting.wait()
    late = asyncio.create_task(batched.ask(2))
    await _turns()
    rested.set()
    assert await late == 2


async def test_closing_answers_what_was_asked_and_refuses_the_rest() -> None:
    doubling = Doubling()
    callers = doubling.asked(0, 1, 2, 3)
    await _turns()
    closing = asyncio.create_task(doubling.batched.close())
    await _turns()
    with pytest.raises(Unavailable):
        await doubling.batched.ask(4)
    assert not closing.done()
    doubling.gate.set()
    await closing
    assert all(caller.done() for caller in callers)
    assert await asyncio.gather(*callers) == [0, 2, 4, 6]
    assert doubling.batches == [[0, 1, 2], [3]]


@pytest.mark.parametrize("begun", [False, True])
async def test_when_the_loop_ends_nobody_waits_for_what_will_not_come(begun: bool) -> None:
    doubling = Doubling(most=1)
    before = asyncio.all_tasks()
    futures = [doubling.batched.put(0), doubling.batched.put(1)]
    [runner] = asyncio.all_tasks() - before
    if begun:
        await _turns()
    runner.cancel()
    await doubling.batched.drain()
    for future in futures:
        with pytest.raises(Unavailable):
            await future
    assert doubling.batches == ([[0]] if begun else [])


async def test_after_its_task_was_cancelled_it_is_as_good_as_new() -> None:
    doubling = Doubling()
    before = asyncio.all_tasks()
    lost = doubling.batched.put(0)
    [runner] = asyncio.all_tasks() - before
    runner.cancel()
    with pytest.raises(Unavailable):
        await lost
    doubling.gate.set()
    assert await doubling.batched.ask(1) == 2


_Act = Callable[[Doubling, list[asyncio.Task[int]]], Awaitable[None]]


async def _ask(doubling: Doubling, callers: list[asyncio.Task[int]]) -> None:
    callers += doubling.asked(len(callers))


async def _cancel_first(doubling: Doubling, callers: list[asyncio.Task[int]]) -> None:
    for caller in callers:
        if not caller.done() and not caller.cancelling():
            caller.cancel()
            return


async def _cancel_last(doubling: Doubling, callers: list[asyncio.Task[int]]) -> None:
    await _cancel_first(doubling, callers[::-1])


async def _turn(doubling: Doubling, callers: list[asyncio.Task[int]]) -> None:
    await asyncio.sleep(0)


async def _let_one_through(doubling: Doubling, callers: list[asyncio.Task[int]]) -> None:
    doubling.gate.set()
    await asyncio.sleep(0)
    doubling.gate.clear()


_ACTS: list[_Act] = [_ask, _ask, _ask, _cancel_first, _cancel_last, _turn, _turn, _let_one_through]


@given(st.lists(st.sampled_from(_ACTS), max_size=60), st.integers(1, 4))
def test_whatever_happens_each_is_answered_once_in_the_order_of_asking(
    acts: list[_Act], most: int
) -> None:
    async def live() -> None:
        doubling = Doubling(most=most)
        callers: list[asyncio.Task[int]] = []
        for act in acts:
            await act(doubling, callers)
        doubling.gate.set()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        await doubling.batched.drain()
        ran = [item for batch in doubling.batches for item in batch]
        assert ran == sorted(set(ran))
        assert all(1 <= len(batch) <= most for batch in doubling.batches)
        for item, (caller, answer) in enumerate(zip(callers, answers, strict=True)):
            assert caller.cancelled() or (answer == 2 * item and item in ran)
            assert caller.cancelled() or not caller.cancelling()
        assert doubling.batched.idle

    asyncio.run(live())


async def test_a_large_batch_is_told_a_few_at_a_time() -> None:
    """Whoever is answered goes on at once, so that all of them together would hold up the loop."""
    doubling = Doubling(most=500, room=500)
    told = 0
    rounds: list[int] = []

    async def one(number: int) -> None:
        nonlocal told
        assert await doubling.batched.ask(number) == 2 * number
        told += 1

    tasks = [asyncio.create_task(one(number)) for number in range(200)]
    await _turns()
    doubling.gate.set()
    while told < len(tasks):
        before = told
        await asyncio.sleep(0)
        rounds.append(told - before)
    assert max(rounds) <= 32
    await asyncio.gather(*tasks)


async def test_who_is_not_told_yet_when_the_loop_ends_is_told_that() -> None:
    doubling = Doubling(most=500, room=500)
    tasks = doubling.asked(*range(200))
    await _turns()
    doubling.gate.set()
    await tasks[0]
    running = doubling.batched._running
    assert running is not None
    running.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    answered = [each for each in outcomes if isinstance(each, int)]
    assert 0 < len(answered) < 200
    assert {type(each) for each in outcomes} == {int, Unavailable}
