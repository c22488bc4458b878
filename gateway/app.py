"""The application: Litestar holds the routes and the lifespan, ASGI handlers do the hot work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.config.cors import CORSConfig
from sqlalchemy.ext.asyncio import AsyncEngine

from db.clock import Clock, system_clock
from gateway.auth.secrets import SecretHasher
from gateway.graphql.controller import graphql
from gateway.health import live, ready
from gateway.oauth.endpoints import introspect, jwks, metadata, revoke, token
from gateway.settings import GatewaySettings
from gateway.wiring import assemble


def create_app(
    settings: GatewaySettings,
    *,
    clock: Clock = system_clock,
    engine: AsyncEngine | None = None,
    hasher: SecretHasher | None = None,
) -> Litestar:
    """An application that opens its stores when it starts and closes them when it stops."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        gateway = await assemble(settings, clock=clock, engine=engine, hasher=hasher)
        app.state.gateway = gateway
        try:
            yield
        finally:
            await gateway.close()

    return Litestar(
        route_handlers=[graphql, token, introspect, revoke, jwks, metadata, live, ready],
        lifespan=[lifespan],
        cors_config=CORSConfig(
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "Accept", "X-Request-ID"],
        )
        if settings.cors_origins
        else None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
