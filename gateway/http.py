"""One HTTP exchange over raw ASGI: what both transports share, and nothing of either.

The hot endpoints are ASGI handlers inside the Litestar application, so they read and answer here
instead of through its dependency injection and response classes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from uuid import uuid4

import structlog
from litestar.types import Receive, Scope, Send

from gateway.auth.principal import AgentPrincipal, Anonymous, Operator, Principal
from gateway.services.call import Call
from gateway.wiring import Gateway

JSON = "application/json"
BODY_SECONDS = 30.0
_log = structlog.get_logger(__name__)
_TOKEN_IN_URI = re.compile(rb"(?:^|&)access_token=")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class BodyTooLarge(Exception):
    """The request has more than the endpoint reads; what is left of it was not read."""


class BodyTooSlow(Exception):
    """The body was not whole in time; what is left of it was not read."""


class ClientGone(Exception):
    """The client hung up before its request was whole: there is nobody to answer."""


class Exchange:
    """A request and the one answer to it. `request_id` is the client's own if it is sound."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]  # type: ignore[typeddict-item]  # handlers are HTTP only
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.gateway: Gateway = scope["litestar_app"].state.gateway
        self.status: int | None = None
        self.caller: dict[str, str] = {}
        sent = self.header(b"x-request-id")
        self.request_id = sent if sent and _REQUEST_ID.fullmatch(sent) else uuid4().hex

    def header(self, name: bytes) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next(iter(self.headers(name)), None)

    @property
    def has_token_in_uri(self) -> bool:
        """Where it is not read, because URIs are kept in logs (RFC 6750 §2.3 and §5.3)."""
        return bool(self.query) and _TOKEN_IN_URI.search(self.query) is not None

    def headers(self, name: bytes) -> list[str]:
        return [v.decode("latin-1") for n, v in self.scope["headers"] if n == name]

    def identified(self, principal: Principal) -> None:
        """The log's line names the caller, once it is known who that is."""
        match principal:
            case AgentPrincipal():
                slug = principal.tenant.slug
                self.caller = {"tenant": slug, "agent": str(principal.agent_id)}
            case Operator():
                self.caller = {"agent": "operator"}
            case Anonymous():
                self.caller = {}

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge beyond `limit` bytes, BodyTooSlow and ClientGone."""
        declared = self.header(b"content-length")
        if declared and declared.isdigit() and int(declared[:20]) > limit:
            raise BodyTooLarge
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._received(limit)
        except TimeoutError:
            raise BodyTooSlow from None

    async def _received(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            assert message["type"] == "http.request"
            size += len(message["body"])
            if size > limit:
                raise BodyTooLarge
            parts.append(message["body"])
            if not message["more_body"]:
                return b"".join(parts)

    def anonymous_call(self) -> Call:
        """The call before anyone has proved anything; its instant is read here, once."""
        client = self.scope["client"]
        return Call.make(
            Anonymous(),
            self.gateway.clock(),
            client[0] if client else "",
            self.header(b"user-agent") or "",
            self.request_id,
        )

    async def respond(
        self,
        status: int,
        body: bytes,
        content_type: str | None = JSON,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Without a `content_type` there is no content, and nothing is said of it."""
        self.status = status
        content = [] if content_type is None else [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ]  # fmt: skip
        await self._send({
            "type": "http.response.start",
            "status": status,
            "headers": [*content, (b"x-request-id", self.request_id.encode()), *headers],
        })  # fmt: skip
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def has_it(if_none_match: Iterable[str], etag: str) -> bool:
    """Whether the client keeps what it asks for. Source: RFC 9110 §13.1.2."""
    kept = [each.strip().removeprefix("W/") for value in if_none_match for each in value.split(",")]
    return "*" in kept or etag in kept


async def serve(
    exchange: Exchange,
    answer: Callable[[Exchange], Awaitable[None]],
    on_fault: Callable[[Exchange, Exception], Awaitable[None]],
) -> None:
    """Answers, and logs the exchange in one line. No fault leaves here: `on_fault` answers for it
    in the transport's own form, and the log has the traceback under the same request id."""
    started = time.perf_counter()
    with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
        try:
            await answer(exchange)
        except ClientGone:
            return
        except Exception as error:
            if exchange.status is not None:
                raise
            await on_fault(exchange, error)
        _log.info(
            "request",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            **exchange.caller,
            ms=round((time.perf_counter() - started) * 1000, 2),
        )
