"""Tenants: onboarded and looked at, by the operator alone.

The tenant's row comes first, so that the slug is taken from then on; it is served only once its
tables and its first administrator stand and the row says `active`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import anyio

from db import grammar
from db.contract import Storage
from db.errors import AgentIdPError, SlugTaken, TenantNotProvisioned
from db.filters import TenantFilter
from db.grammar import GATEWAY_CAPABILITIES
from db.namespace import prefix_problem
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import (
    Agent,
    AgentType,
    AuditAction,
    AuditOutcome,
    Credential,
    DeploymentEnv,
    Tenant,
    TenantStatus,
)
from gateway.auth.secrets import SecretHasher, new_secret
from gateway.services.agents import created_event, new_agent
from gateway.services.call import Call
from gateway.services.credentials import new_credential
from gateway.services.profiles import NewAgent


@dataclass(frozen=True, slots=True)
class OnboardedTenant:
    """The tenant with its first administrator's secret, which exists nowhere else from here on."""

    tenant: Tenant
    administrator: Agent
    credential: Credential
    secret: str = field(repr=False)


class TenantService:
    def __init__(self, storage: Storage, hasher: SecretHasher) -> None:
        self._storage = storage
        self._hasher = hasher

    async def get(self, slug: str) -> Tenant | None:
        """None too for text that can be no slug."""
        if prefix_problem(slug) is not None:
            return None
        return await self._storage.registry.tenants.get(slug)

    async def page(self, request: PageRequest, filter: TenantFilter) -> Page[Tenant]:
        """Raises InvalidCursor."""
        return await self._storage.registry.tenants.page(request, filter)

    async def count(self, filter: TenantFilter) -> int:
        """As for agents."""
        return await self._storage.registry.tenants.count(filter, COUNT_CAP)

    async def onboard(
        self, call: Call, slug: str, display_name: str, admin_email: str
    ) -> OnboardedTenant:
        """Raises InvalidInput, SlugTaken. When the tables cannot be made, or the caller's time is
        over before they are, the tenant is `failed` and the error goes on. A tenant that failed, or
        was provisioned from the command line, can be onboarded as long as it never had an agent.
        """
        tenant = Tenant(
            slug=grammar.slug(slug),
            display_name=grammar.text(display_name, "displayName", most=128, least=1),
            status=TenantStatus.PROVISIONING,
            created_at=call.now,
            updated_at=call.now,
        )
        administrator = new_agent(call, _administrator(tenant.slug, admin_email))
        secret = new_secret()
        credential = new_credential(
            administrator.agent_id, await self._hasher.hash(secret), call.now, label="onboarding"
        )
        async with self._storage.registry_unit() as unit:
            if held := await unit.tenants.get(tenant.slug):
                # Holding the row, so that of two who try at once one is told that it is taken.
                await self._require_unused(held)
                await unit.tenants.save(replace(tenant, revision=held.revision))
            else:
                await unit.tenants.add(tenant)
            await unit.operator_events.append(
                call.operator_event(
                    "tenant.onboarded", tenant.slug, {"adminId": str(administrator.agent_id)}
                )
            )
        try:
            revision = await self._storage.upkeep.provision(tenant.prefix, call.now)
            await self._admit(call, tenant, administrator, credential)
        except BaseException as error:
            # Cancelled too, it is to be seen what became of the tenant.
            with anyio.CancelScope(shield=True):
                await self._set_status(call, tenant.slug, TenantStatus.FAILED, _reason(error))
            raise
        active = await self._set_status(call, tenant.slug, TenantStatus.ACTIVE, revision=revision)
        return OnboardedTenant(active, administrator, credential, secret)

    async def _require_unused(self, tenant: Tenant) -> None:
        """Raises SlugTaken for a tenant that somebody uses, has used or is making right now."""
        unused = tenant.status in (TenantStatus.FAILED, TenantStatus.ACTIVE)
        if unused:
            with suppress(TenantNotProvisioned):
                unused = not await self._storage.read(tenant.prefix).agents.count(cap=1)
        if not unused:
            raise SlugTaken("the slug is in use, or was", ("slug",))

    async def _admit(
        self, call: Call, tenant: Tenant, administrator: Agent, credential: Credential
    ) -> None:
        """The first line of the tenant's own trail: its administrator stands for the operator."""
        actor = administrator.agent_id
        async with self._storage.unit(tenant.prefix) as unit:
            await unit.agents.add(administrator)
            await unit.credentials.add(credential)
            await unit.audit.append(
                created_event(call, administrator, actor),
                call.event(
                    AuditAction.CREDENTIAL_GENERATED,
                    {"agentId": str(actor), "credentialId": str(credential.credential_id)},
                    agent_id=actor,
                ),
            )

    async def _set_status(
        self,
        call: Call,
        slug: str,
        status: TenantStatus,
        reason: str | None = None,
        revision: str | None = None,
    ) -> Tenant:
        async with self._storage.registry_unit() as unit:
            held = await unit.tenants.get(slug)
            assert held is not None, "a tenant's row is never deleted"
            changed = replace(
                held, status=status, updated_at=call.now, revision=revision or held.revision
            )
            await unit.tenants.save(changed)
            if reason is not None:
                await unit.operator_events.append(
                    call.operator_event(
                        "tenant.failed", slug, {"reason": reason}, AuditOutcome.FAILURE
                    )
                )
        return changed


def _administrator(slug: str, email: str) -> NewAgent:
    return NewAgent(
        grammar.email(email, "adminEmail"),
        {
            "agent_type": AgentType.ORCHESTRATOR,
            "version": "1.0.0",
            "capabilities": sorted(GATEWAY_CAPABILITIES),
            "owner": slug,
            "deployment_env": DeploymentEnv.PRODUCTION,
        },
    )


def _reason(error: BaseException) -> str:
    """In words that hold no SQL: only our own errors speak for themselves."""
    return error.message if isinstance(error, AgentIdPError) else type(error).__name__
