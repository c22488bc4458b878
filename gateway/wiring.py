"""The composition root: leaves first, and the only place that knows concrete classes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import structlog

from db.backends import open_storage
from db.budgets import Budgets, open_budgets
from db.clock import Clock, system_clock
from db.contract import Storage
from db.errors import Misconfigured
from db.revocations import RevocationCache, Revocations, open_cache
from db.settings import StorageSettings
from gateway.auth.assertions import AssertionAuthenticator
from gateway.auth.attempts import LoginAttempts
from gateway.auth.authenticate import Authenticator
from gateway.auth.clients import ClientAuthenticator
from gateway.auth.keyring import load_keys
from gateway.auth.secrets import SecretHasher
from gateway.auth.tenants import Tenants
from gateway.auth.tokens import TokenAuthority
from gateway.services.administrators import AdministratorService
from gateway.services.agents import AgentService
from gateway.services.audit import AuditService
from gateway.services.clients import ClientService
from gateway.services.credentials import CredentialService
from gateway.services.keys import KeyService
from gateway.services.kill_switch import KillSwitchService
from gateway.services.onboarding import OnboardingService
from gateway.services.rate import RateLimit
from gateway.services.tenants import TenantService
from gateway.services.tokens import TokenService
from gateway.services.work import WorkService
from gateway.settings import GatewaySettings
from workers.queue import Queue, catalogue, open_queue

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

QueueOpener: TypeAlias = Callable[[StorageSettings, Storage, RevocationCache, Clock], Queue]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that a request can need, for as long as the process lives."""

    settings: GatewaySettings
    clock: Clock
    storage: Storage
    revocations: Revocations
    budgets: Budgets
    queue: Queue
    authority: TokenAuthority
    authenticator: Authenticator
    agents: AgentService
    kill_switch: KillSwitchService
    credentials: CredentialService
    clients: ClientService
    tokens: TokenService
    audit: AuditService
    tenants: TenantService
    administrators: AdministratorService
    onboarding: OnboardingService
    keys: KeyService
    work: WorkService

    async def close(self) -> None:
        # What runs in this process needs the others until it has ended.
        await self.queue.close()
        await self.clients.close()
        await self.budgets.close()
        await self.revocations.close()
        await self.storage.close()


async def assemble(
    settings: GatewaySettings,
    *,
    clock: Clock = system_clock,
    engine: AsyncEngine | None = None,
    hasher: SecretHasher | None = None,
    queue: QueueOpener | None = None,
) -> Gateway:
    """Opens the stores and puts the parts together. `engine` is the application's own, if it has
    one; `hasher` a cheaper one and `queue` a predictable one, for tests. Raises Misconfigured,
    Unavailable."""
    if engine is None and not settings.in_memory and settings.migrate_at_start:
        await _migrate(settings, clock())
    if engine is not None and not (settings.signing_keys or settings.key_encryption_secret):
        # What is sealed under a secret of this process would keep the next one from starting.
        raise Misconfigured("an engine needs SIGNING_KEYS, or KEY_ENCRYPTION_SECRET to make them")
    storage = await open_storage(settings, engine)
    try:
        keys = await load_keys(settings, storage, clock())
    except BaseException:
        await storage.close()
        raise
    cache = open_cache(settings.redis_url)
    revocations = Revocations(storage, cache)
    opened = (queue or open_queue)(settings, storage, cache, clock)
    authority = TokenAuthority(keys, settings.issuer_base, settings.token_ttl_seconds)
    operator = settings.operator_token
    tenants = Tenants(storage)
    authenticator = Authenticator(
        tenants, authority, revocations, operator.get_secret_value() if operator else None
    )
    hasher = hasher or SecretHasher(settings.bcrypt_cost)
    budgets = open_budgets(settings.redis_url)
    return Gateway(
        settings=settings,
        clock=clock,
        storage=storage,
        revocations=revocations,
        budgets=budgets,
        queue=opened,
        authority=authority,
        authenticator=authenticator,
        agents=AgentService(storage, revocations),
        kill_switch=KillSwitchService(storage, revocations),
        credentials=CredentialService(storage, revocations, hasher),
        clients=ClientService(
            storage,
            ClientAuthenticator(storage, hasher),
            AssertionAuthenticator(storage, authority.issuer),
            LoginAttempts(budgets),
        ),
        tokens=TokenService(
            storage,
            authority,
            authenticator,
            revocations,
            RateLimit(budgets, settings.rate_limit_per_minute),
        ),
        audit=AuditService(storage, settings.audit_retention_days),
        tenants=TenantService(
            storage,
            revocations,
            tenants,
            opened,
            timedelta(hours=settings.tenant_removal_grace_hours),
            authority.issuer,
        ),
        administrators=AdministratorService(storage, revocations, hasher),
        onboarding=OnboardingService(storage, hasher, opened),
        keys=KeyService(storage, revocations, keys),
        work=WorkService(storage, opened, catalogue()),
    )


@asynccontextmanager
async def started(
    settings: GatewaySettings,
    *,
    clock: Clock = system_clock,
    engine: AsyncEngine | None = None,
    hasher: SecretHasher | None = None,
    queue: QueueOpener | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway that works until the block is left. Raises as `assemble`."""
    gateway = await assemble(settings, clock=clock, engine=engine, hasher=hasher, queue=queue)
    try:
        await gateway.queue.start()
        yield gateway
    finally:
        await gateway.close()


async def _migrate(settings: GatewaySettings, now: datetime) -> None:
    """A tenant that cannot be migrated is reported; the others are served all the same."""
    # A gateway in memory, or one that others migrate for, never loads alembic.
    from db.migrations import migrate

    summary = await migrate(settings, now=now)
    for outcome in summary.failed:
        _log.error("tenant not migrated", tenant=outcome.subject, reason=outcome.error)
    if summary.changed:
        _log.info("schema brought to head", revisions=summary.changed)
