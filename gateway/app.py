"""The application: Litestar holds the routes and the lifespan, ASGI handlers do the hot work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.config.cors import CORSConfig

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
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
