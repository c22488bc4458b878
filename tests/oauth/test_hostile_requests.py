"""Whatever comes in is answered in the endpoint's own form, and never with a fault of ours.

Generated: paths, methods, addresses, headers and bodies, malformed in all the ways that HTTP lets
through, and in some that only a broken server in front could. Of every answer the same is asked:
below 500, JSON unless it is empty, one of OAuth's errors if it is one, and kept by no cache.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.gateway import Client, RunningGateway, running
from tests.oauth.asking import FORM, basic, error_of

EXAMPLES = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
# So many requests to one gateway: its start is dear and a request is cheap.
AT_ONCE = 15

Pairs: TypeAlias = list[tuple[bytes, bytes]]
Request: TypeAlias = tuple[str, bytes, Pairs, bytes]
Scene: TypeAlias = Callable[[RunningGateway, Client, str], Awaitable[None]]

HOSTILE = [
    b"", b"\0", b"%00", b"\xff", b"%ff", b"%", b"%u0000", b"%ED%A0%80", b"\r\nX: y", b"' or 1=1 --",
    b"../../etc/passwd", b"{}", b"[]", b"null", b"*", b"\xf0\x9f\x92\xa3", b"x" * 9000, b"-1",
    b"1e999", b"a.b.c", b"..", b"{{7*7}}", b"<svg onload=1>", b"=", b"&", b";", b"+", b" ", b"\t",
]  # fmt: skip
NAMES = [
    b"grant_type", b"client_id", b"client_secret", b"scope", b"resource", b"token",
    b"token_type_hint", b"client_assertion", b"client_assertion_type", b"access_token", b"nonsense",
]  # fmt: skip
MARKS = [b"{id}", b"{secret}", b"{token}"]

hostile = st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=40))
values = st.one_of(
    hostile,
    st.sampled_from([b"client_credentials", b"agents:read", b"access_token",
                     b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer", *MARKS]),
)  # fmt: skip
# What HTTP itself lets into a header: anything but the ends of a line.
shown = values.map(lambda value: re.sub(rb"[\r\n\0]", b"", value))
pairs = st.tuples(st.one_of(st.sampled_from(NAMES), hostile), values)
well_written = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8).map(
    lambda said: b"&".join(name + b"=" + escaped(value) for name, value in said)
)
badly_written = st.lists(pairs, max_size=8).map(
    lambda said: b"&".join(name + b"=" + value for name, value in said)
)
bodies = st.one_of(well_written, well_written, badly_written, hostile)
authorizations = st.one_of(
    st.sampled_from(
        [b"Basic ", b"Bearer ", b"basic  ", b"Bearer", b"DPoP ", b"", b"Basic"]
    ).flatmap(lambda scheme: shown.map(lambda value: scheme + value)),
    st.tuples(values, values).map(lambda both: b"Basic " + b64encode(both[0] + b":" + both[1])),
    st.just(b"{basic}"),
)
headers = st.lists(
    st.one_of(
        st.tuples(st.just(b"content-type"), st.one_of(st.just(FORM.encode()), shown)),
        st.tuples(st.just(b"authorization"), authorizations),
        st.tuples(
            st.sampled_from([b"accept", b"x-request-id", b"user-agent", b"content-length", b"host",
                             b"x-forwarded-for", b"if-none-match", b"transfer-encoding", b"cookie",
                             b"expect", b"content-encoding", b"origin"]),
            shown,
        ),
    ),
    max_size=5,
)  # fmt: skip
endpoints = st.sampled_from([b"token", b"introspect", b"revoke"])
slugs = st.one_of(st.sampled_from([b"acme", b"acme", b"acme", b"globex", b"ACME"]), hostile)
requests = st.tuples(
    st.sampled_from(["POST", "POST", "POST", "POST", "GET", "PUT", "HEAD", "TRACE"]),
    st.tuples(slugs, endpoints, st.one_of(st.just(b""), hostile, well_written)).map(
        lambda parts: b"/t/" + quoted(parts[0]) + b"/oauth2/" + parts[1] + b"?" + quoted(parts[2])
    ),
    headers,
    bodies,
)
# All is well but for the body, so that it is read to the end.
posted = st.tuples(
    st.just("POST"),
    endpoints.map(lambda endpoint: b"/t/acme/oauth2/" + endpoint),
    authorizations.map(lambda said: [(b"content-type", FORM.encode()), (b"authorization", said)]),
    bodies,
)


def escaped(value: bytes) -> bytes:
    return value if value in MARKS else quote_from_bytes(value, safe="").encode()


def quoted(text: bytes) -> bytes:
    """As clients write it into an address; a server takes the escapes back."""
    return quote_from_bytes(text, safe="=&").encode()


async def send(
    gateway: RunningGateway, client: Client, token: str, request: Request
) -> httpx.Response:
    method, target, said, body = request
    own = basic(client.client_id, client.secret).encode()

    def filled(text: bytes) -> bytes:
        for mark, known in (
            (b"{id}", client.client_id.encode()), (b"{secret}", client.secret.encode()),
            (b"{token}", token.encode()), (b"{basic}", own),
        ):  # fmt: skip
            text = text.replace(mark, known)
        return text

    url = gateway.client.base_url.copy_with(raw_path=target)
    made = httpx.Request(
        method,
        url,
        headers=[(name, filled(value)) for name, value in said],
        stream=httpx.ByteStream(filled(body)),
    )
    return await gateway.client.send(made)


def holds(answer: httpx.Response, method: str) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    if answer.is_success:
        kinds = {"application/json", "text/plain"}
        assert answer.headers["content-type"] in kinds
        assert bool(answer.content) is (answer.headers["content-type"] == "application/json")
    elif method != "HEAD":
        error_of(answer)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"]


def play(scene: Scene) -> None:
    async def act() -> None:
        async with running() as started:
            admin = await started.onboard()
            await scene(started, admin, await started.token(admin))

    asyncio.run(act())


@pytest.mark.parametrize("kind", ["anything", "a form"])
def test_every_answer_is_one_of_the_protocol_s(kind: str) -> None:
    """What is written to the trail meanwhile can be kept, and nobody's live token has ended but by
    whoever could end it."""

    @given(sent=st.lists(requests if kind == "anything" else posted, min_size=1, max_size=AT_ONCE))
    @EXAMPLES
    def check(sent: list[Request]) -> None:
        async def scene(gateway: RunningGateway, client: Client, token: str) -> None:
            with capture_logs() as logs:
                for request in sent:
                    holds(await send(gateway, client, token, request), request[0])
            assert not [entry for entry in logs if entry["log_level"] == "error"]
            for event in await gateway.trail(client):
                assert "\0" not in repr(event.metadata)

        play(scene)

    check()


@pytest.mark.parametrize("path", [
    "/", "/t", "/t/acme", "/t/acme/oauth2", "/t/acme/oauth2/nothing", "/oauth2/token",
    "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/graphql/x",
    "/t/acme/../../etc/passwd", "/t/%2e%2e/oauth2/token", "/metrics/x", "/health",
])  # fmt: skip
async def test_where_there_is_nothing_that_is_said_in_json(
    in_memory: RunningGateway, path: str
) -> None:
    for method in ("GET", "POST"):
        answer = await in_memory.client.request(method, path)
        assert answer.status_code in (400, 404, 405)
        assert answer.headers["cache-control"] == "no-store"
        if path.startswith("/graphql"):
            assert set(answer.json()) == {"errors"}
        else:
            assert error_of(answer) == (answer.status_code, "invalid_request")


@pytest.mark.parametrize("host", [b"\x01", b"a b", b"\xff", b"a/b?c", b"#", b"[", b"", b"x:99999"])
@pytest.mark.parametrize("path", ["/t/acme/oauth2/token", "/graphql", "/nothing"])
async def test_a_host_that_can_be_none_is_refused_alike(
    in_memory: RunningGateway, path: str, host: bytes
) -> None:
    answer = await in_memory.client.post(path, headers=[(b"host", host)], content=b"x")
    assert answer.status_code in (400, 404, 415)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("application/json")


async def test_the_generated_requests_reach_what_they_are_meant_to_reach(
    in_memory: RunningGateway,
) -> None:
    """A generator that only ever made what is refused at the door would prove little."""
    admin = await in_memory.onboard()
    token = await in_memory.token(admin)
    form = [(b"content-type", FORM.encode()), (b"authorization", b"{basic}")]
    reached = [
        (b"token", b"grant_type=client_credentials&nonsense=%2B", 200),
        (b"token", b"grant_type=client_credentials&scope=x", 400),
        (b"introspect", b"token={token}", 200),
        (b"revoke", b"token={token}&token_type_hint=x", 200),
        (b"introspect", b"token=%00", 400),
    ]
    for endpoint, body, status in reached:
        request = ("POST", b"/t/acme/oauth2/" + endpoint, form, body)
        answer = await send(in_memory, admin, token, request)
        holds(answer, "POST")
        assert answer.status_code == status
