"""A crowd: so many connections, opened first, that all send one request at the same moment.

It runs in a process of its own (`python -m bench.crowd`, a `Crowd` on its standard input, a `Told`
on its output).
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import uvloop


class Crowd(msgspec.Struct):
    """`requests` are whole HTTP/1.1 requests that end their connections, one for each."""

    port: int
    requests: list[bytes]


class Told(msgspec.Struct):
    """How many of each status; of the answers, seconds until the last and, in ms, p50 and p99."""

    statuses: dict[str, int]
    seconds: float
    p50: float
    p99: float


async def told(crowd: Crowd) -> Told:
    opened = [
        await asyncio.open_connection("127.0.0.1", crowd.port) for _ in range(len(crowd.requests))
    ]
    began = time.perf_counter()
    for (_, writer), request in zip(opened, crowd.requests, strict=True):
        writer.write(request)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        said = await reader.read()
        latencies.append((time.perf_counter() - began) * 1000)
        writer.close()
        return said[9:12]

    latencies: list[float] = []
    answers = await asyncio.gather(*(answer(*each) for each in opened))
    seconds = time.perf_counter() - began
    latencies.sort()
    statuses = {each.decode(): answers.count(each) for each in sorted(set(answers))}
    return Told(
        statuses, seconds, latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    )


async def gathered(crowd: Crowd) -> Told:
    """The same in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.crowd",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(msgspec.json.encode(crowd))
    return msgspec.json.decode(said, type=Told)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Crowd)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(told(asked))))
