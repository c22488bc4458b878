"""A tenant's first administrator: who it is, and how the operator helps it to a new secret.

The operator has no part in a tenant's data, so this is the one way back for a tenant that has
locked itself out. What happens is in the tenant's own trail, in the administrator's name, as when
it was admitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from db import grammar
from db.contract import Storage, UnitOfWork
from db.errors import EmailTaken, InvalidInput, InvalidTransition, NotFound
from db.grammar import GATEWAY_CAPABILITIES
from db.namespace import TenantPrefix, prefix_problem
from db.records import (
    Agent,
    AgentStatus,
    AgentType,
    AuditAction,
    AuditEvent,
    Credential,
    DeploymentEnv,
    JSONObject,
    Tenant,
    TenantStatus,
)
from db.revocations import Revocations
from gateway.auth.secrets import SecretHasher, new_secret
from gateway.services.agents import created_event, new_agent, scored
from gateway.services.call import Call
from gateway.services.minting import new_credential
from gateway.services.profiles import NewAgent
from gateway.services.tenants import hold_tenant

_LABEL = "reset"


@dataclass(frozen=True, slots=True)
class AdministratorReset:
    """The administrator with its new secret, which exists nowhere else from here on."""

    tenant: Tenant
    administrator: Agent
    secret: str = field(repr=False)


class AdministratorService:
    def __init__(self, storage: Storage, revocations: Revocations, hasher: SecretHasher) -> None:
        self._storage = storage
        self._revocations = revocations
        self._hasher = hasher

    async def reset(
        self, call: Call, slug: str, admin_email: str | None = None
    ) -> AdministratorReset:
        """A new secret, in place of all that the administrator had; active again, and with every
        capability of the gateway. Where there is none any more, a new one with `admin_email`.
        A kill switch that is engaged stays so, and the secret works once it is released: what had
        to be stopped is not let go before its old secrets are over.

        Raises InvalidInput, NotFound, InvalidTransition, EmailTaken; Unavailable when the cut of
        the old ones is not acknowledged: repeated, it gives another secret.
        """
        if admin_email is not None:
            grammar.email(admin_email, "adminEmail")
        # Refused early without the cost of a hash; asked again below, when the rows are held.
        prefix = await self._refuse_early(slug, admin_email)
        secret = new_secret()
        hashed = await self._hasher.hash(secret)
        async with self._storage.joint_unit(prefix) as unit:
            tenant = await hold_tenant(unit.registry, slug)
            _require_served(tenant)
            administrator, events = await _reset(unit, call, tenant, admin_email)
            credential = new_credential(administrator.agent_id, hashed, call.now, label=_LABEL)
            await unit.credentials.add(credential)
            await unit.audit.append(*events, _generated(call, credential))
            told: JSONObject = {
                "adminId": str(administrator.agent_id),
                "credentialId": str(credential.credential_id),
            }
            if administrator.agent_id != tenant.administrator_id:
                before = tenant.administrator_id
                told["replacedAdminId"] = None if before is None else str(before)
                tenant = replace(
                    tenant, administrator_id=administrator.agent_id, updated_at=call.now
                )
                await unit.registry.tenants.save(tenant)
            await unit.registry.operator_events.append(
                call.operator_event("tenant.administrator_reset", slug, told)
            )
        if administrator.token_generation:
            # Its credentials are all cut with it: no token of theirs is of this generation.
            await self._revocations.publish_generation(
                tenant.prefix,
                administrator.agent_id,
                administrator.token_generation,
                call.now,
                call.now,
            )
        return AdministratorReset(tenant, administrator, secret)

    async def _refuse_early(self, slug: str, admin_email: str | None) -> TenantPrefix:
        known = None
        if prefix_problem(slug) is None:
            known = await self._storage.registry.tenants.get(slug)
        if known is None:
            raise NotFound("there is no such tenant", ("slug",))
        _require_served(known)
        administrator = None
        if known.administrator_id is not None:
            reader = self._storage.read(known.prefix).agents
            administrator = await reader.get(known.administrator_id)
        _require_email(_usable(administrator), admin_email)
        return known.prefix


async def _reset(
    unit: UnitOfWork, call: Call, tenant: Tenant, admin_email: str | None
) -> tuple[Agent, list[AuditEvent]]:
    """Raises InvalidInput, EmailTaken."""
    administrator = None
    if tenant.administrator_id is not None:
        administrator = await unit.agents.get(tenant.administrator_id)
    administrator = _usable(administrator)
    email = _require_email(administrator, admin_email)
    if administrator is None:
        return await _replaced(unit, call, tenant, email)
    return await _restored(unit, call, administrator)


async def _replaced(
    unit: UnitOfWork, call: Call, tenant: Tenant, email: str
) -> tuple[Agent, list[AuditEvent]]:
    made = new_agent(call, administrator_profile(tenant.slug, email))
    try:
        await unit.agents.add(made)
    except EmailTaken as taken:
        raise EmailTaken(taken.message, ("adminEmail",)) from None
    return made, [created_event(call, made, made.agent_id)]


async def _restored(
    unit: UnitOfWork, call: Call, administrator: Agent
) -> tuple[Agent, list[AuditEvent]]:
    actor = administrator.agent_id
    subject: JSONObject = {"agentId": str(actor)}
    said: list[tuple[AuditAction, JSONObject]] = []
    if administrator.status is not AgentStatus.ACTIVE:
        said.append((AuditAction.AGENT_REACTIVATED, subject))
    missing = GATEWAY_CAPABILITIES.difference(administrator.capabilities)
    if missing:
        said.append((AuditAction.AGENT_UPDATED, {**subject, "changed": ["capabilities"]}))
    changed = replace(
        administrator,
        status=AgentStatus.ACTIVE,
        capabilities=(*administrator.capabilities, *sorted(missing)),
        token_generation=administrator.token_generation + 1,
        updated_at=call.now,
    )
    changed = scored(changed, has_credential=True)
    await unit.agents.save(changed)
    said += [
        (AuditAction.CREDENTIAL_REVOKED, {**subject, "credentialId": str(each)})
        for each in await unit.credentials.revoke_all(actor, call.now)
    ]
    return changed, [call.event(action, metadata, agent_id=actor) for action, metadata in said]


def administrator_profile(slug: str, email: str) -> NewAgent:
    """What the first administrator of a tenant is. Raises InvalidInput."""
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


def _usable(administrator: Agent | None) -> Agent | None:
    """None too for one that is gone for good."""
    if administrator is None or administrator.status is AgentStatus.DECOMMISSIONED:
        return None
    return administrator


def _require_email(administrator: Agent | None, admin_email: str | None) -> str:
    """The administrator's address. Raises InvalidInput when the one that is needed is not given,
    and when another is given than the administrator's, who would not get it."""
    if administrator is None:
        if admin_email is None:
            raise InvalidInput(
                "the tenant has no administrator: say the address of a new one", ("adminEmail",)
            )
        return admin_email
    if admin_email not in (None, administrator.email):
        raise InvalidInput(
            "the tenant's administrator has another address, which is never changed",
            ("adminEmail",),
        )
    return administrator.email


def _require_served(tenant: Tenant) -> None:
    if tenant.status not in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
        raise InvalidTransition(
            f"the tenant is {tenant.status.value}: it has no administrator to be helped", ("slug",)
        )


def _generated(call: Call, credential: Credential) -> AuditEvent:
    actor = credential.client_id
    metadata: JSONObject = {
        "agentId": str(actor),
        "credentialId": str(credential.credential_id),
    }
    return call.event(AuditAction.CREDENTIAL_GENERATED, metadata, agent_id=actor)
