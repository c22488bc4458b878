"""Onboarding: one transaction takes the slug and queues the work, and the answer is given at once.

The secret is in that answer. Its hash waits beside the row, with the administrator, until a worker
has made the tenant's tables; nobody reaches the tenant before its row says `active`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from db import grammar
from db.admission import Admission
from db.contract import Storage
from db.errors import SlugTaken, TenantNotProvisioned
from db.records import (
    Agent,
    AuditAction,
    JSONObject,
    Tenant,
    TenantStatus,
)
from db.registry import RegistryUnit
from db.work import Doorbell, JobName, Work, WorkState, new_work, released, requeued, work_key
from gateway.auth.secrets import HashedSecret, SecretHasher, new_secret
from gateway.services.administrators import administrator_profile
from gateway.services.agents import created_event, new_agent
from gateway.services.call import Call
from gateway.services.idempotency import Attempt
from gateway.services.minting import new_credential

_OPERATION = "onboardTenant"


@dataclass(frozen=True, slots=True)
class OnboardedTenant:
    """The tenant, and the client that its first administrator will be. `secret` exists nowhere
    else from here on; None in the answer to a repetition."""

    tenant: Tenant
    client_id: UUID
    secret: str | None = field(repr=False)


class OnboardingService:
    def __init__(self, storage: Storage, hasher: SecretHasher, doorbell: Doorbell) -> None:
        self._storage = storage
        self._hasher = hasher
        self._doorbell = doorbell

    async def onboard(
        self,
        call: Call,
        slug: str,
        display_name: str,
        admin_email: str,
        idempotency_key: UUID | None = None,
    ) -> OnboardedTenant:
        """A tenant that failed, or was provisioned from the command line, can be onboarded as long
        as it never had an agent. Raises InvalidInput, SlugTaken, IdempotencyKeyReused."""
        tenant = Tenant(
            slug=grammar.slug(slug),
            display_name=grammar.text(display_name, "displayName", most=128, least=1),
            status=TenantStatus.PROVISIONING,
            created_at=call.now,
            updated_at=call.now,
        )
        administrator = new_agent(call, administrator_profile(tenant.slug, admin_email))
        tenant = replace(tenant, administrator_id=administrator.agent_id)
        said: JSONObject = {
            "slug": tenant.slug,
            "displayName": tenant.display_name,
            "adminEmail": administrator.email,
        }
        attempt = Attempt.of(call, idempotency_key, _OPERATION, said)
        earlier = await attempt.earlier(self._storage.registry)
        if earlier is not None:
            return await self._repeated(earlier)
        secret = new_secret()
        admission = _admission(call, administrator, await self._hasher.hash(secret))
        async with self._storage.registry_unit() as unit:
            earlier = await attempt.claim(
                unit, {"slug": tenant.slug, "clientId": str(administrator.agent_id)}
            )
            if earlier is None:
                await self._register(unit, call, tenant, admission)
        if earlier is not None:
            return await self._repeated(earlier)
        await self._doorbell.ring(work_key(JobName.PROVISION_TENANT, tenant.slug))
        return OnboardedTenant(tenant, administrator.agent_id, secret)

    async def _register(
        self, unit: RegistryUnit, call: Call, tenant: Tenant, admission: Admission
    ) -> None:
        # The work's row before the tenant's, as whoever does the work: neither waits for the other.
        key = work_key(JobName.PROVISION_TENANT, tenant.slug)
        waiting = await unit.work.get(key)
        if held := await unit.tenants.get(tenant.slug):
            await self._require_unused(held)
            # What it was cut off from before stays cut off: whoever was told of it keeps that.
            kept = replace(
                tenant,
                revision=held.revision,
                token_generation=held.token_generation,
                kill_switched_at=held.kill_switched_at,
                kill_switch_reason=held.kill_switch_reason,
            )
            await unit.tenants.save(kept)
        else:
            await unit.tenants.add(tenant)
        if waiting is not None:
            await unit.work.save(_anew(waiting, call.now))
        elif not await unit.work.add(
            new_work(JobName.PROVISION_TENANT, call.now, tenant.slug, after=call.now)
        ):
            # Queued by somebody else since we looked.
            raise _taken()
        await unit.work.seal(key, admission.to_json())
        await unit.operator_events.append(
            call.operator_event(
                "tenant.onboarded", tenant.slug, {"adminId": str(tenant.administrator_id)}
            )
        )

    async def _require_unused(self, tenant: Tenant) -> None:
        """Raises SlugTaken for a tenant that somebody uses, has used or is making right now."""
        unused = tenant.status in (TenantStatus.FAILED, TenantStatus.ACTIVE)
        if unused:
            with suppress(TenantNotProvisioned):
                unused = not await self._storage.read(tenant.prefix).agents.count(cap=1)
        if not unused:
            raise _taken()

    async def _repeated(self, earlier: JSONObject) -> OnboardedTenant:
        tenant = await self._storage.registry.tenants.get(str(earlier["slug"]))
        assert tenant is not None, "a tenant's row is never deleted"
        return OnboardedTenant(tenant, UUID(str(earlier["clientId"])), secret=None)


def _anew(work: Work, now: datetime) -> Work:
    """Raises SlugTaken while a worker is at it."""
    if work.state is WorkState.RUNNING:
        if not work.due(now):
            raise _taken()
        # Its worker is taken for dead. Should it come back, it must not admit whom it knew.
        work = released(work, now)
    return requeued(work, now)


def _admission(call: Call, administrator: Agent, hashed: HashedSecret) -> Admission:
    """The first lines of the tenant's own trail: its administrator stands for the operator."""
    actor = administrator.agent_id
    credential = new_credential(actor, hashed, call.now, label="onboarding")
    generated: JSONObject = {"agentId": str(actor), "credentialId": str(credential.credential_id)}
    return Admission(
        administrator,
        credential,
        (
            created_event(call, administrator, actor),
            call.event(AuditAction.CREDENTIAL_GENERATED, generated, agent_id=actor),
        ),
    )


def _taken() -> SlugTaken:
    return SlugTaken("the slug is in use, or was", ("slug",))
