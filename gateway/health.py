"""Two questions of whoever runs the process: does it live, and can it serve.

The answers are fixed words, because addresses, roles and reasons belong in the log.
"""

from __future__ import annotations

from typing import Literal, TypedDict

import anyio
import structlog
from litestar import HttpMethod, Response, route
from litestar.datastructures import State

from db.errors import AgentIdPError
from gateway.wiring import Gateway

_READING = [HttpMethod.GET, HttpMethod.HEAD]
_PATIENCE = 3  # seconds: an answer that comes after the prober has left is none
_log = structlog.get_logger(__name__)


class Alive(TypedDict):
    status: Literal["ok"]


class Readiness(TypedDict):
    """`revocations` says whether the cache is believed when it has not heard of a token; where it
    is not, storage decides, which takes longer and is no error."""

    status: Literal["ready", "unavailable"]
    storage: Literal["ready", "unavailable"]
    cache: Literal["ready", "unavailable", "none"]
    revocations: Literal["warm", "cold"]


@route("/health/live", http_method=_READING, sync_to_thread=False)
def live() -> Alive:
    return {"status": "ok"}


@route("/health/ready", http_method=_READING)
async def ready(state: State) -> Response[Readiness]:
    """503 when storage cannot serve. Without the cache everything works, only slower."""
    gateway: Gateway = state.gateway
    serves = await _storage_serves(gateway)
    readiness = Readiness(
        status="ready" if serves else "unavailable",
        storage="ready" if serves else "unavailable",
        cache=await _cache(gateway),
        revocations="warm" if await gateway.revocations.is_warm() else "cold",
    )
    return Response(readiness, status_code=200 if serves else 503)


async def _storage_serves(gateway: Gateway) -> bool:
    try:
        with anyio.fail_after(_PATIENCE):
            await gateway.storage.check()
    except (AgentIdPError, TimeoutError) as error:
        _log.warning("storage is not ready", reason=str(error) or type(error).__name__)
        return False
    return True


async def _cache(gateway: Gateway) -> Literal["ready", "unavailable", "none"]:
    answers = await gateway.revocations.cache_answers()
    if answers is None:
        return "none"
    return "ready" if answers else "unavailable"
