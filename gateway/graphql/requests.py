"""What an HTTP request asks, before GraphQL looks at it: GraphQL over HTTP, to the letter.

Source: GraphQL over HTTP, working draft, §4–6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from gateway.http import JSON, Exchange

RESPONSE_JSON = "application/graphql-response+json"
HTML = "text/html"
MAX_BODY = 256 * 1024
MAX_ADDRESS = 32 * 1024

_MEMBERS = frozenset({"query", "operationName", "variables", "extensions"})
_IN_JSON = frozenset({"variables", "extensions"})
_MAX_RANGES = 32

T = TypeVar("T")


class BadRequest(Exception):
    """The request cannot be understood as GraphQL; `status` and `headers` say why to HTTP."""

    def __init__(
        self, message: str, status: int = 400, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = headers


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """`extensions` must be well formed; none has a meaning here yet."""

    query: str = msgspec.field()
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


_REQUEST = msgspec.json.Decoder(Request)
_ANY = msgspec.json.Decoder()


async def read(exchange: Exchange) -> Request:
    """Raises BadRequest, BodyTooLarge."""
    match exchange.method:
        case "POST":
            return await _posted(exchange)
        case "GET":
            return _in_address(exchange.query)
    raise BadRequest("ask with POST or GET", 405, [(b"allow", b"GET, POST")])


async def _posted(exchange: Exchange) -> Request:
    media_type, *parameters = (
        part.strip().lower() for part in (exchange.header(b"content-type") or "").split(";")
    )
    charset = next((p[8:].strip('"') for p in parameters if p.startswith("charset=")), "utf-8")
    if media_type != JSON or charset not in ("utf-8", "utf8"):
        raise BadRequest(f"post the request as {JSON} in UTF-8", 415)
    return _decoded(_REQUEST, await exchange.body(MAX_BODY))


def _in_address(query: bytes) -> Request:
    if len(query) > MAX_ADDRESS:
        raise BadRequest(f"the address may hold at most {MAX_ADDRESS} bytes; post the query", 414)
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32
        )
    except ValueError:
        raise BadRequest("the parameters in the address are malformed") from None
    given: dict[str, object] = {}
    for name, text in pairs:
        if name not in _MEMBERS:
            continue
        if name in given:
            raise BadRequest(f"{name} is given twice")
        given[name] = _decoded(_ANY, text.encode()) if name in _IN_JSON else text
    try:
        return msgspec.convert(given, Request)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        # Its messages name places and types, never values.
        raise BadRequest(str(error)) from None
    except UnicodeDecodeError:
        raise BadRequest("the JSON is not UTF-8") from None
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None


def negotiated(accept: Sequence[str]) -> str:
    """Which of the two media types to answer in: by weight, then by the order asked for.

    Raises BadRequest. Source: RFC 9110 §12.5.1.
    """
    ranges = list(_ranges(accept))
    if not ranges:
        return JSON
    offers = [(*_weighed(ranges, media_type), media_type) for media_type in (JSON, RESPONSE_JSON)]
    weight, _, media_type = max(offers, key=lambda offer: (offer[0], -offer[1]))
    if weight == 0:
        raise BadRequest(f"the answer is {RESPONSE_JSON} or {JSON}", 406)
    return media_type


def prefers_html(accept: Sequence[str]) -> bool:
    """Whether a browser's person is asking, and no program."""
    ranges = list(_ranges(accept))
    weight, place = _weighed(ranges, HTML)
    of_json, then = _weighed(ranges, JSON)
    named = any(range_ == HTML for range_, _ in ranges)
    return named and (weight, -place) > (of_json, -then)


def _weighed(ranges: Sequence[tuple[str, float]], media_type: str) -> tuple[float, int]:
    """The weight of a media type, and the place where it is asked for."""
    for name in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for place, (range_, weight) in enumerate(ranges):
            if range_ == name:
                return weight, place
    return 0.0, len(ranges)


def _ranges(accept: Sequence[str]) -> Iterator[tuple[str, float]]:
    for value in ",".join(accept).split(",", _MAX_RANGES)[:_MAX_RANGES]:
        name, *parameters = (part.strip().lower() for part in value.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if name:
            yield name, _weight(weight)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    # NaN is within no bounds.
    return weight if 0 <= weight <= 1 else 0.0
