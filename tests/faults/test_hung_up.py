"""A Redis that hangs up on everybody who comes, in the loop that a gateway runs in."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import pytest
import uvloop

from db.budgets import Budget, open_budgets
from db.cache import Found, open_cache
from db.clock import system_clock
from workers.bell import ArqQueue

TIMES = 60  # the instant decides between which two writes it happens
_AT_ONCE = struct.pack("ii", 1, 0)

Asking: TypeAlias = Callable[[str], Awaitable[None]]


@pytest.fixture
def rude() -> Iterator[str]:
    """The URL of one that resets a connection as soon as it is made, or after a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        going = True

        def hang_up() -> None:
            number = 0
            while True:
                connection, _ = listening.accept()
                with connection:
                    number += 1
                    if not going:
                        return
                    if number % 3:
                        connection.recv(16)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = listening.getsockname()
        yield f"redis://127.0.0.1:{address[1]}/0"
        going = False
        socket.create_connection(address).close()
        thread.join()


async def read(url: str) -> None:
    cache = open_cache(url)
    assert await cache.read(["key"]) == Found([None], warm=False)
    assert not await cache.mark("key", 2**31)
    assert not await cache.cool()
    await cache.close()


async def spend(url: str) -> None:
    budgets = open_budgets(url)
    await budgets.spend([Budget("test", 1)], system_clock())
    await budgets.close()


async def ring(url: str) -> None:
    queue = ArqQueue(url, system_clock)
    await queue.ring("tail_revocations")
    await queue.close()


@pytest.mark.parametrize("ask", [read, spend, ring])
def test_is_a_redis_that_does_not_answer(rude: str, ask: Asking) -> None:
    async def often() -> None:
        for _ in range(TIMES):
            await ask(rude)

    uvloop.run(often())
