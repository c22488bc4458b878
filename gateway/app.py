"""The application: Litestar holds the routes and the lifespan, ASGI handlers do the hot work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from litestar import Litestar, Request, Response
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from db.clock import Clock, system_clock
from gateway.auth.secrets import SecretHasher
from gateway.graphql.controller import graphql
from gateway.health import live, ready
from gateway.metrics import metrics
from gateway.oauth.endpoints import metadata, oauth
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway, QueueOpener, started

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def create_app(
    settings: GatewaySettings,
    *,
    clock: Clock = system_clock,
    engine: AsyncEngine | None = None,
    hasher: SecretHasher | None = None,
    queue: QueueOpener | None = None,
) -> Litestar:
    """An application that opens its stores when it starts and closes them when it stops."""

    def opened() -> AbstractAsyncContextManager[Gateway]:
        return started(settings, clock=clock, engine=engine, hasher=hasher, queue=queue)

    return application(settings, opened)


def application(
    settings: GatewaySettings, opened: Callable[[], AbstractAsyncContextManager[Gateway]]
) -> Litestar:
    """The routes, around a gateway that lives as long as the application does."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with opened() as gateway:
            app.state.gateway = gateway
            yield

    cors = CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["Authorization", "Content-Type", "Accept", "X-Request-ID"],
    )
    return Litestar(
        route_handlers=[graphql, oauth, metadata, live, ready, metrics],
        lifespan=[lifespan],
        cors_config=cors if settings.cors_origins else None,
        exception_handlers={HTTPException: _answer_refusal},
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _answer_refusal(_: Request[object, object, State], refused: HTTPException) -> Response[bytes]:
    """The answer to what never came as far as an endpoint: a path that there is none for, a method
    that it does not have, a Host that can be none. In the form that the server's own refusals have
    and OAuth's, which clients can read."""
    said = HTTPStatus(refused.status_code).phrase.lower()
    body = msgspec.json.encode({"error": "invalid_request", "error_description": said})
    return Response(
        body,
        status_code=refused.status_code,
        media_type="application/json",
        headers={**(refused.headers or {}), "cache-control": "no-store", "pragma": "no-cache"},
    )
