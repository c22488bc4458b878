"""A whole gateway within the test's process: its HTTP surface, its parts, and a clock set by hand.

`running` is for tests that choose the settings. The fixtures `backend` and `gateway` run a test on
both backends, `in_memory` on one of them; a folder's conftest imports those that it wants.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import redis

from db.clock import system_clock
from db.filters import AuditEventFilter
from db.namespace import TenantPrefix
from db.pages import MAX_PAGE, PageRequest
from db.records import Agent, AgentType, AuditAction, AuditEvent, Credential, DeploymentEnv
from db.revocations import open_cache
from db.work import JobName
from gateway.app import create_app
from gateway.auth.principal import Operator, Principal
from gateway.auth.secrets import SecretHasher
from gateway.services.call import Call
from gateway.services.profiles import NewAgent
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway
from tests.prompt import PromptQueue
from tests.servers.databases import Database
from tests.workers.harness import perform

OPERATOR_TOKEN = "the-operator-of-this-suite-and-nobody-else"
KEY_ENCRYPTION_SECRET = "what-opens-the-signing-keys-of-this-suite"
PUBLIC_URL = "https://id.example.com"
CHEAPEST_BCRYPT = 4


class ManualClock:
    """Stands still until it is moved. It starts at the machine's time, because a Redis server
    ends its keys by that."""

    def __init__(self) -> None:
        self.now = system_clock().replace(microsecond=250_000)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Client:
    """An agent that can prove itself."""

    slug: str
    client_id: str
    secret: str = field(repr=False)

    @property
    def prefix(self) -> TenantPrefix:
        return TenantPrefix(self.slug)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    client: httpx.AsyncClient
    gateway: Gateway
    clock: ManualClock
    queue: PromptQueue
    operator_token: str = OPERATOR_TOKEN

    async def onboard(self, slug: str = "acme") -> Client:
        """A new tenant, which is active by now; the client is its first administrator."""
        made = await self.gateway.onboarding.onboard(
            self.call(Operator()), slug, f"{slug} at work", f"admin@{slug}.example"
        )
        assert made.secret is not None
        tenant = await self.gateway.tenants.get(slug)
        assert tenant is not None
        assert tenant.is_active, tenant.status_reason
        return Client(slug, str(made.client_id), made.secret)

    async def client_of(
        self,
        admin: Client,
        capabilities: Sequence[str] = ("billing:read",),
        *,
        email: str = "worker@agents.example",
    ) -> Client:
        """A further agent of the administrator's tenant, with a credential."""
        call = await self.as_caller(admin)
        agent = await self.gateway.agents.register(call, profile(email, capabilities))
        fresh = await self.gateway.credentials.generate(call, agent.agent_id)
        return Client(admin.slug, str(agent.agent_id), fresh.secret)

    async def token(self, client: Client, scope: str | None = None) -> str:
        """An access token, by way of the token endpoint."""
        form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        answer = await self.client.post(
            f"/t/{client.slug}/oauth2/token", data=form, auth=(client.client_id, client.secret)
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def graphql(
        self,
        document: str,
        variables: Mapping[str, Any] | None = None,
        token: str | None = None,
    ) -> dict[str, Any]:
        """The answer's whole body; with a `token`, as its holder."""
        answer = await self.client.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"authorization": f"Bearer {token}"} if token else {},
        )
        body: dict[str, Any] = answer.json()
        return body

    def call(self, principal: Principal) -> Call:
        """What the transports hand to a service."""
        return Call.make(principal, self.clock.now, "192.0.2.1", "the suite", "test")

    async def as_caller(self, client: Client, scope: str | None = None) -> Call:
        """The call of the holder of a token of `client`."""
        token = await self.token(client, scope)
        return self.call(
            await self.gateway.authenticator.bearer([f"Bearer {token}"], self.clock.now)
        )

    async def warm_up(self) -> None:
        """As a worker does: from now on the cache is believed about what it has not heard of."""
        cache = open_cache(self.gateway.settings.redis_url)
        try:
            storage, settings = self.gateway.storage, self.gateway.settings
            job = JobName.WARM_REVOCATIONS
            await perform(storage, settings, job, self.clock.now, cache=cache)
        finally:
            await cache.close()
        assert await self.gateway.revocations.is_warm()

    async def agent(self, client: Client) -> Agent:
        """The client's record as it is stored."""
        found = await self.gateway.storage.read(client.prefix).agents.get(UUID(client.client_id))
        assert found is not None
        return found

    async def trail(self, client: Client, *actions: AuditAction) -> list[AuditEvent]:
        """The tenant's last hundred events, oldest first, as they are stored."""
        page = await self.gateway.storage.read(client.prefix).audit.page(
            PageRequest(first=MAX_PAGE),
            self.clock.now - timedelta(days=365),
            AuditEventFilter(action=actions or None),
        )
        return list(reversed(page.items))

    async def actions(self, client: Client) -> list[str]:
        return [event.action.value for event in await self.trail(client)]


def but_for_uses(credentials: Iterable[Credential]) -> list[Credential]:
    """Without what is written behind the requests, whenever that may be."""
    return [replace(each, last_used_at=None) for each in credentials]


def profile(email: str, capabilities: Sequence[str]) -> NewAgent:
    """The least that a registration says."""
    return NewAgent(
        email,
        {
            "agent_type": AgentType.CUSTOM,
            "version": "1.0.0",
            "capabilities": list(capabilities),
            "owner": "the suite",
            "deployment_env": DeploymentEnv.DEVELOPMENT,
        },
    )


def memory_settings(**overrides: Any) -> GatewaySettings:
    return GatewaySettings.load(
        **{"operator_token": OPERATOR_TOKEN, "public_url": PUBLIC_URL} | overrides
    )


def postgres_settings(database: Database, redis_url: str, **overrides: Any) -> GatewaySettings:
    """The production shape: two roles, and a Redis-protocol server beside."""
    return memory_settings(
        **{
            "database_url": database.app_url,
            "database_owner_url": database.owner_url,
            "redis_url": redis_url,
            "key_encryption_secret": KEY_ENCRYPTION_SECRET,
            "db_pool_size": 4,
        }
        | overrides
    )


@asynccontextmanager
async def running(
    settings: GatewaySettings | None = None,
    *,
    clock: ManualClock | None = None,
    hasher: SecretHasher | None = None,
) -> AsyncIterator[RunningGateway]:
    """A gateway that has started, in memory unless `settings` say otherwise."""
    clock = clock or ManualClock()
    app = create_app(
        settings or memory_settings(),
        clock=clock,
        hasher=hasher or SecretHasher(CHEAPEST_BCRYPT),
        queue=PromptQueue,
    )
    lifespan = app.lifespan()
    await lifespan.__aenter__()
    try:
        async with httpx.AsyncClient(
            # Litestar's ASGI types are narrower than the protocol's own.
            transport=httpx.ASGITransport(cast(Any, app)),
            base_url=PUBLIC_URL,
        ) as client:
            queue = app.state.gateway.queue
            assert isinstance(queue, PromptQueue)
            yield RunningGateway(client, app.state.gateway, clock, queue)
    finally:
        # Not told of a test's failure, which its task group would wrap in an ExceptionGroup.
        await lifespan.__aexit__(None, None, None)


@pytest.fixture(params=["memory", "postgres"])
def backend(request: pytest.FixtureRequest) -> GatewaySettings:
    """Settings for each of the two backends, nothing stored in it yet."""
    if request.param == "memory":
        return memory_settings()
    redis_url: str = request.getfixturevalue("redis_url")
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushdb()
    return postgres_settings(request.getfixturevalue("empty_database"), redis_url)


@pytest.fixture
async def in_memory() -> AsyncIterator[RunningGateway]:
    """For what never comes near storage, or is the same whatever is stored."""
    async with running() as started:
        yield started


@pytest.fixture
async def gateway(backend: GatewaySettings) -> AsyncIterator[RunningGateway]:
    async with running(backend) as started:
        yield started
