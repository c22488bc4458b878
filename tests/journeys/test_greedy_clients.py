"""Clients that send more than anyone needs, before they have proved anything: it is not kept."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.journeys.served import Served

MIB = 1024 * 1024
GET = b"GET /graphql?query={__typename} HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
ENDLESS = {
    "headers of a megabyte": (LIVE, b"X: " + b"x" * MIB + b"\r\n"),
    "one header": (LIVE + b"X: ", b"x" * MIB),
    "small headers": (LIVE, b"X-A: b\r\n" * (MIB // 8)),
    "an address": (b"GET /", b"x" * MIB),
    "empty lines": (b"", b"\r\n" * (MIB // 2)),
}


def memory(served: Served, measure: str) -> int:
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    [kib] = re.findall(rf"^{measure}:\s+(\d+) kB$", status, re.M)
    return int(kib) * 1024


def connect(served: Served) -> socket.socket:
    return socket.create_connection(served.address, timeout=30)


def send(connection: socket.socket, parts: Iterator[bytes]) -> None:
    """As much as the server takes."""
    try:
        for part in parts:
            connection.sendall(part)
    except ConnectionError:
        return


def receive(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


@pytest.mark.parametrize("what", ENDLESS)
def test_headers_without_end_are_refused_and_not_kept(served_in_memory: Served, what: str) -> None:
    begin, more = ENDLESS[what]
    before = memory(served_in_memory, "VmRSS")
    with connect(served_in_memory) as connection:
        connection.sendall(begin)
        send(connection, repeat(more, 120))
        head, body = receive(connection).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"\r\ncontent-type: application/json\r\n" in head
    assert head.endswith(b"\r\nconnection: close")
    assert json.loads(body)["error"] == "invalid_request"
    assert memory(served_in_memory, "VmHWM") - before < 10 * MIB
    served_in_memory.onboard()


def test_requests_without_end_are_not_queued(served_in_memory: Served) -> None:
    before = memory(served_in_memory, "VmRSS")
    with connect(served_in_memory) as connection:
        send(connection, repeat(GET + b"\r\n", 200_000))
    assert memory(served_in_memory, "VmHWM") - before < 10 * MIB
    served_in_memory.onboard()


def test_those_that_are_queued_are_answered_in_their_order(served_in_memory: Served) -> None:
    body = b'{"query": "{__typename}"}'
    length = b"Content-Length: %d\r\n" % len(body)
    requests = [
        *(GET + b"X-Request-ID: %d\r\n\r\n" % n for n in range(0, 20, 2)),
        *(POST + length + b"X-Request-ID: %d\r\n\r\n" % n + body for n in range(1, 20, 2)),
    ]
    for _ in range(3):
        with connect(served_in_memory) as connection:
            connection.sendall(b"".join(requests) + LIVE + b"Connection: close\r\n\r\n")
            answers = receive(connection)
        ids = [int(each) for each in re.findall(rb"x-request-id: (\d+)\r\n", answers)]
        assert ids == [*range(0, 20, 2), *range(1, 20, 2)]
        assert answers.count(b"HTTP/1.1 200 ") == 21
        assert answers.endswith(b'{"status":"ok"}')


def test_an_offer_to_change_the_protocol_is_passed_over(served_in_memory: Served) -> None:
    offer = LIVE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with connect(served_in_memory) as connection:
        connection.sendall(offer + offer)
        connection.sendall(LIVE + b"Connection: close\r\n\r\n")
        assert receive(connection).count(b'{"status":"ok"}') == 3
    assert [line for line in served_in_memory.log() if line["level"] != "info"] == []


def test_what_is_half_open_does_not_hold_the_process_up(served_in_memory: Served) -> None:
    with (
        connect(served_in_memory) as silent,
        connect(served_in_memory) as begun,
        connect(served_in_memory) as refused,
        connect(served_in_memory) as idle,
    ):
        begun.sendall(LIVE)
        refused.sendall(b"no HTTP at all\r\n\r\n")
        assert receive(refused).startswith(b"HTTP/1.1 400 ")
        idle.sendall(LIVE + b"\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
        served_in_memory.process.terminate()
        assert served_in_memory.process.wait(10) == 0
        assert [receive(each) for each in (silent, begun)] == [b"", b""]
