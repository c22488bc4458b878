"""POST and GET /graphql, as one ASGI handler.

Source: GraphQL over HTTP, working draft. What it leaves open: a request that is understood as
GraphQL but refused as a whole answers 400 to those who ask for the media type made for that, and
200 to those who ask for plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from graphql import ExecutionResult, OperationType
from litestar import asgi
from litestar.types import Receive, Scope, Send

from db.errors import MalformedAuthorization, Unauthenticated, Unavailable
from db.log import log_fault
from gateway.graphql import ide
from gateway.graphql.context import Context
from gateway.graphql.documents import Documents, RefusedDocument
from gateway.graphql.execution import OPERATION_SECONDS, TimedOut, run
from gateway.graphql.faults import (
    BAD_USER_INPUT,
    INTERNAL,
    entry,
    plain_entry,
    retry_after,
)
from gateway.graphql.requests import (
    MAX_BODY,
    RESPONSE_JSON,
    BadRequest,
    negotiated,
    prefers_html,
    read,
)
from gateway.http import BODY_SECONDS, JSON, BodyTooLarge, BodyTooSlow, Exchange, serve

PATH = "/graphql"
_NO_STORE = (b"cache-control", b"no-store")
_BAD_REQUEST = "BAD_REQUEST"

Headers = Sequence[tuple[bytes, bytes]]

# They depend on the schema alone, which is the process's own: applications share them.
_DOCUMENTS = {allowed: Documents(introspection=allowed) for allowed in (True, False)}


# Mounted, because Litestar finds no ASGI handler at a path with parameters, and the page has
# files of its own.
@asgi([PATH], is_mount=True, copy_scope=False)
async def graphql(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = Exchange(scope, receive, send)
    exchange.path = PATH + exchange.path.removesuffix("/")
    await serve(exchange, _answer, _answer_fault)


async def _answer(exchange: Exchange) -> None:
    gateway = exchange.gateway
    if exchange.path != PATH or (exchange.method == "GET" and _asks_for_page(exchange)):
        if not gateway.settings.serve_graphiql:
            raise BadRequest("there is nothing here but GraphQL, at /graphql", 404)
        await ide.answer(exchange, exchange.path.removeprefix(PATH))
        return
    media_type = negotiated(exchange.headers(b"accept"))
    request = await read(exchange)
    if exchange.has_token_in_uri:
        raise MalformedAuthorization("an access token is sent in the Authorization header")
    call, authorization = exchange.anonymous_call(), exchange.headers(b"authorization")
    principal = await gateway.authenticator.bearer(authorization, call.now)
    exchange.identified(principal)
    document = _DOCUMENTS[gateway.settings.allow_introspection].get(request.query)
    operation = document.operation(request.operation_name)
    if exchange.method == "GET" and operation.node.operation is not OperationType.QUERY:
        raise BadRequest("a mutation is posted", 405, [(b"allow", b"POST")])
    context = Context(gateway, call.by(principal), authorization)
    result = await run(document, operation, request.variables, context)
    await _respond_with(exchange, media_type, result)


def _asks_for_page(exchange: Exchange) -> bool:
    return b"query=" not in exchange.query and prefers_html(exchange.headers(b"accept"))


async def _respond_with(exchange: Exchange, media_type: str, result: ExecutionResult) -> None:
    errors = result.errors or []
    # Before any field was run there is no data, not even null.
    refused = result.data is None and all(error.path is None for error in errors)
    code = BAD_USER_INPUT if refused else None
    body: dict[str, Any] = {} if refused else {"data": result.data}
    if errors:
        body["errors"] = [entry(error, exchange.request_id, code) for error in errors]
    seconds = retry_after(errors)
    await _respond(
        exchange,
        400 if refused and media_type == RESPONSE_JSON else 200,
        media_type,
        body,
        [] if seconds is None else [(b"retry-after", b"%d" % seconds)],
    )


async def _answer_fault(exchange: Exchange, fault: Exception) -> None:
    """The answer to anything that was raised before or around the operation."""
    try:
        media_type = negotiated(exchange.headers(b"accept"))
    except BadRequest:
        media_type = JSON
    if isinstance(fault, RefusedDocument):
        errors = [entry(error, exchange.request_id, fault.code) for error in fault.errors]
        status = 400 if media_type == RESPONSE_JSON else 200
        await _respond(exchange, status, media_type, {"errors": errors})
        return
    status, code, message, headers = _told(fault)
    errors = [plain_entry(message, code, exchange.request_id)]
    await _respond(exchange, status, media_type, {"errors": errors}, headers)


def _told(fault: Exception) -> tuple[int, str, str, Headers]:
    match fault:
        case BadRequest():
            return fault.status, _BAD_REQUEST, fault.message, fault.headers
        case BodyTooLarge():
            # What is left of the body is not read, so the connection can carry nothing after it.
            message = f"the request may hold at most {MAX_BODY} bytes"
            return 413, _BAD_REQUEST, message, [(b"connection", b"close")]
        case BodyTooSlow():
            message = f"the body did not arrive within {BODY_SECONDS:g} s"
            return 408, _BAD_REQUEST, message, [(b"connection", b"close")]
        case MalformedAuthorization():
            challenge = (b"www-authenticate", b'Bearer error="invalid_request"')
            return 400, _BAD_REQUEST, fault.message, [challenge]
        case Unauthenticated():
            challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
            return 401, fault.code, fault.message, [challenge]
        case Unavailable():
            return 503, fault.code, fault.message, [(b"retry-after", b"%d" % fault.retry_after)]
        case TimedOut():
            message = f"the operation took more than {OPERATION_SECONDS:g} s and was cancelled"
            return 504, "TIMEOUT", message, []
    log_fault(fault)
    return 500, INTERNAL, "internal error", []


async def _respond(
    exchange: Exchange,
    status: int,
    media_type: str,
    body: dict[str, Any],
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    await exchange.respond(
        status,
        msgspec.json.encode(body),
        f"{media_type}; charset=utf-8",
        [_NO_STORE, (b"vary", b"Accept, Authorization"), *headers],
    )
