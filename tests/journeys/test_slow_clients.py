"""Clients that begin something and do not go on: none is waited for beyond its time.

The gateway runs in the test's own process, on an event loop whose time is moved by hand.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.app import create_app
from gateway.auth.secrets import SecretHasher
from gateway.connection import HEAD_SECONDS, LINGER_SECONDS, MAX_HEAD, Connection
from gateway.http import BODY_SECONDS
from tests.gateway import CHEAPEST_BCRYPT, memory_settings

KEEP_ALIVE_SECONDS = 5
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ALIVE = b'{"status":"ok"}'
FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"


def post(path: bytes, media_type: bytes, *headers: bytes) -> bytes:
    """All of a request but its body."""
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Type: " + media_type, *headers]
    return b"\r\n".join([*lines, b"", b""])


def head_of(size: int, begin: bytes = LIVE[:-2]) -> bytes:
    return begin + b"X: " + b"x" * (size - len(begin) - 7) + b"\r\n\r\n"


def parts(answer: bytes) -> tuple[int, list[bytes], Any]:
    head, body = answer.split(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    return int(status.split()[1]), headers, json.loads(body)


class MovableLoop(asyncio.SelectorEventLoop):
    now = 0.0

    def time(self) -> float:
        return self.now


class Client:
    """The other end of a connection. What it sends is there at once: it is a Unix socket."""

    def __init__(self, end: socket.socket, loop: MovableLoop) -> None:
        self._end = end
        self._loop = loop
        end.setblocking(False)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._end, data)
        await self._settle()

    async def let_pass(self, seconds: float) -> None:
        self._loop.now += seconds
        await self._settle()

    async def drip(self, data: bytes, seconds: float) -> None:
        """A byte at the beginning of every second."""
        for second in range(int(seconds)):
            await self.send(data[second : second + 1])
            await self.let_pass(1)

    def hears(self) -> bool:
        """Whether there is anything to receive, be it the end."""
        try:
            self._end.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        return True

    def is_cut_off(self) -> bool:
        try:
            self._end.send(b"x")
        except BrokenPipeError:
            return True
        return False

    async def receive(self, last: bytes) -> bytes:
        received = b""
        while not received.endswith(last):
            part = await self._loop.sock_recv(self._end, 65_536)
            assert part, received
            received += part
        return received

    async def receive_to_the_end(self) -> bytes:
        received = b""
        while part := await self._loop.sock_recv(self._end, 65_536):
            received += part
        return received

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": MovableLoop}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableLoop)
    app = create_app(memory_settings(), hasher=SecretHasher(CHEAPEST_BCRYPT))
    config = uvicorn.Config(
        # Litestar's ASGI types are narrower than the protocol's own.
        cast(Any, app),
        ws="none",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    ours, theirs = socket.socketpair()
    async with app.lifespan():
        transport, _ = await loop.connect_accepted_socket(
            lambda: Connection(config, ServerState(), {}), sock=theirs
        )
        yield Client(ours, loop)
        ours.close()
        transport.abort()


async def test_a_client_that_says_nothing_is_hung_up_on(client: Client) -> None:
    await client.let_pass(HEAD_SECONDS - 1)
    assert not client.hears()
    await client.let_pass(1)
    assert await client.receive_to_the_end() == b""


async def test_a_head_that_drips_is_refused_when_its_time_is_up(client: Client) -> None:
    await client.drip(LIVE, HEAD_SECONDS - 1)
    assert not client.hears()
    await client.let_pass(1)
    status, headers, body = parts(await client.receive_to_the_end())
    assert status == 408
    assert b"content-type: application/json" in headers
    assert b"connection: close" in headers
    assert body["error"] == "invalid_request"


async def test_the_time_of_a_further_head_begins_with_its_first_byte(client: Client) -> None:
    await client.send(LIVE)
    await client.receive(ALIVE)
    await client.let_pass(KEEP_ALIVE_SECONDS - 1)
    await client.send(LIVE[:1])
    await client.drip(LIVE[1:], HEAD_SECONDS - 1)
    assert not client.hears()
    await client.let_pass(1)
    assert parts(await client.receive_to_the_end())[0] == 408


async def test_a_connection_is_kept_between_requests_for_as_long_as_before(client: Client) -> None:
    for _ in range(5):
        await client.let_pass(KEEP_ALIVE_SECONDS - 1)
        await client.send(LIVE)
        assert parts(await client.receive(ALIVE))[0] == 200
    await client.let_pass(KEEP_ALIVE_SECONDS)
    assert await client.receive_to_the_end() == b""


async def test_a_refused_client_that_goes_on_sending_is_cut_off(client: Client) -> None:
    await client.send(b"x" * 10)
    assert parts(await client.receive_to_the_end())[0] == 400
    await client.send(LIVE)
    assert await client.receive_to_the_end() == b""
    assert not client.is_cut_off()
    await client.let_pass(LINGER_SECONDS)
    assert client.is_cut_off()


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (post(b"/t/acme/oauth2/token", FORM), {"error": "invalid_request"}),
        (post(b"/graphql", JSON), {"code": "BAD_REQUEST"}),
    ],
)
@pytest.mark.parametrize("length", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_refused_in_the_form_of_its_endpoint(
    client: Client, head: bytes, error: dict[str, str], length: bytes
) -> None:
    await client.send(head[:-2] + length + b"\r\n\r\n")
    await client.drip(b"3e8\r\n" + b"x" * 100, BODY_SECONDS - 1)
    assert not client.hears()
    await client.let_pass(1)
    status, headers, body = parts(await client.receive_to_the_end())
    assert status == 408
    assert b"connection: close" in headers
    told = body["errors"][0]["extensions"] if "errors" in body else body
    assert error.items() <= told.items()


async def test_a_body_that_takes_less_than_its_time_is_read(client: Client) -> None:
    body = b'{"query": "{__typename}"}'
    await client.send(post(b"/graphql", JSON, b"Content-Length: %d" % len(body)))
    await client.drip(body, len(body))
    assert parts(await client.receive(b"}}"))[2] == {"data": {"__typename": "Query"}}


async def test_a_body_that_nobody_reads_does_not_hold_the_connection(client: Client) -> None:
    """It was answered before it was whole."""
    await client.send(post(b"/nothing", JSON, b"Content-Length: 1000"))
    await client.receive(b"}")
    await client.send(b"x")
    await client.drip(b"x" * 100, HEAD_SECONDS - 1)
    assert not client.hears()
    await client.let_pass(1)
    assert await client.receive_to_the_end() == b""


async def test_a_head_may_fill_the_limit_and_not_pass_it(client: Client) -> None:
    for _ in range(2):
        await client.send(head_of(MAX_HEAD))
        assert parts(await client.receive(ALIVE))[0] == 200
    await client.send(head_of(MAX_HEAD + 1))
    assert parts(await client.receive_to_the_end())[0] == 431


@pytest.mark.parametrize("refused", [head_of(2 * MAX_HEAD), b"no HTTP at all\r\n"])
async def test_a_refusal_is_not_taken_for_the_answer_to_a_request_before(
    client: Client, refused: bytes
) -> None:
    await client.send(LIVE + refused)
    status, headers, _ = parts(await client.receive_to_the_end())
    assert status == 200
    assert b"connection: close" in headers


async def test_trailers_are_no_headers(client: Client) -> None:
    head = post(b"/graphql", JSON, b"Transfer-Encoding: chunked")
    chunk = b'19\r\n{"query": "{__typename}"}\r\n'
    await client.send(head + chunk + b"0\r\nAuthorization: Bearer x\r\n\r\n")
    assert parts(await client.receive(b"}"))[2] == {"data": {"__typename": "Query"}}


async def test_trailers_without_end_are_not_kept(client: Client) -> None:
    await client.send(post(b"/graphql", JSON, b"Transfer-Encoding: chunked") + b"0\r\n")
    trailer = b"X: " + b"x" * 100 + b"\r\n"
    await client.send(trailer * (2 * MAX_HEAD // len(trailer)))
    await client.send(b"\r\n")
    assert not client.hears(), "the end of them was not read"
    await client.let_pass(BODY_SECONDS)
    status, headers, _ = parts(await client.receive_to_the_end())
    assert status == 408
    assert b"connection: close" in headers
