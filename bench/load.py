"""The load: so many connections that each send a request as soon as the last is answered.

It runs in a process of its own (`python -m bench.load`, a `Plan` on its standard input, a
`Measured` on its output), so that what it costs is not counted as the server's.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import cycle
from typing import cast

import msgspec
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TICKS = os.sysconf("SC_CLK_TCK")


class Plan(msgspec.Struct):
    """`requests` are whole HTTP/1.1 requests, sent in turn over `connections` to `port`; `status`
    is what they are to be answered with."""

    port: int
    requests: list[bytes]
    connections: int
    seconds: float
    status: int = 200


class Measured(msgspec.Struct):
    """`p50` and `p99` are in ms; `refused` counts the answers with another status."""

    answers: int
    refused: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class _Connection(asyncio.Protocol):
    """One at a time: sends, waits for the whole answer, sends the next."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._answer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by their class.
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._answer, 0, head + 2)
        if length is None or len(self._answer) < head + 4 + int(length[1]):
            return
        self._run.answered(self._answer[9:12], time.perf_counter() - self._sent)
        self._answer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(exc)

    def _next(self) -> None:
        if self._run.over:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(next(self._run.requests))


class _Run:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.requests = cycle(plan.requests)
        self.over = False
        self._statuses: Counter[bytes] = Counter()
        self._latencies: list[float] = []
        self._open = plan.connections
        self._done = asyncio.get_running_loop().create_future()

    def answered(self, status: bytes, seconds: float) -> None:
        self._statuses[status] += 1
        self._latencies.append(seconds)

    def lost(self, error: Exception | None) -> None:
        self._open -= 1
        if not self.over:
            self._done.set_exception(error or ConnectionError("the server closed a connection"))
            self.over = True
        elif self._open == 0 and not self._done.done():
            self._done.set_result(None)

    async def measure(self) -> Measured:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        for _ in range(self._plan.connections):
            await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._plan.port)
        await asyncio.sleep(self._plan.seconds)
        self.over = True
        seconds = time.perf_counter() - began
        await self._done
        ordered = sorted(self._latencies)
        answers = len(ordered)
        return Measured(
            answers,
            answers - self._statuses[b"%d" % self._plan.status],
            seconds,
            ordered[answers // 2] * 1000,
            ordered[answers * 99 // 100] * 1000,
        )


def put_under_load(plan: Plan, core: int | None = None) -> Measured:
    """Runs the plan in a process of its own, on `core` where one is given."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    done = subprocess.run(
        [*pinned, sys.executable, "-m", "bench.load"],
        input=msgspec.json.encode(plan),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Measured)


def cpu_seconds(pid: int) -> float:
    """What a process has spent by now, in and out of the kernel, all its threads."""
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def post(path: str, form: bytes, authorization: str) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: %b\r\n"
        b"content-type: application/x-www-form-urlencoded\r\ncontent-length: %d\r\n\r\n%b"
        % (path.encode(), authorization.encode(), len(form), form)
    )


async def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    measured = await _Run(plan).measure()
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    uvloop.run(_main())
