"""How a tenant comes to be without a gateway: its row, its tables, and only then `active`.

For bootstrap and scripts. The tenant has no administrator: that is made when the operator onboards
a tenant through the gateway. Of one that was onboarded and not finished only the tables are made
here: its administrator waits beside a row, which is queued, and whoever runs that makes it active.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from db import grammar
from db.clock import event_id
from db.contract import Storage
from db.errors import AgentIdPError, InvalidTransition, SlugTaken
from db.records import AuditOutcome, JSONObject, OperatorEvent, Tenant, TenantStatus
from db.work import JobName, requeued, work_key

_CALLER = "python -m db"
_UNFINISHED = (TenantStatus.PROVISIONING, TenantStatus.FAILED)


async def provision_tenant(
    storage: Storage, slug: str, display_name: str | None, now: datetime
) -> tuple[Tenant, bool]:
    """The tenant, and whether it became active now. One that was left unfinished is resumed; it is
    not active yet if it waits for its administrator.

    Raises InvalidInput, SlugTaken for a removed tenant, InvalidTransition for a suspended one or
    one that is being removed; MigrationFailed leaves the tenant `failed`, to be tried again.
    """
    name = None if display_name is None else _name(display_name)
    tenant = await _registered(storage, grammar.slug(slug, "tenant"), name, now)
    if tenant.is_active:
        return tenant, False
    try:
        revision = await storage.upkeep.provision(tenant.prefix, now)
    except AgentIdPError as error:
        await _settle(storage, slug, TenantStatus.FAILED, now, reason=error.message)
        raise
    return await _settle(storage, slug, TenantStatus.ACTIVE, now, revision=revision)


async def _registered(storage: Storage, slug: str, name: str | None, now: datetime) -> Tenant:
    found = await storage.registry.tenants.get(slug)
    if found is None:
        made = Tenant(
            slug=slug,
            display_name=name or slug,
            status=TenantStatus.PROVISIONING,
            created_at=now,
            updated_at=now,
        )
        try:
            async with storage.registry_unit() as unit:
                await unit.tenants.add(made)
            found = made
        except SlugTaken:
            found = await storage.registry.tenants.get(slug)
            assert found is not None, "a tenant's row is never deleted"
    if found.status is TenantStatus.REMOVED:
        raise SlugTaken(f"the tenant {slug} was removed, and a slug is never given twice")
    if not found.is_active and found.status not in _UNFINISHED:
        raise InvalidTransition(f"the tenant {slug} is {found.status}; nothing was changed")
    return found


async def _settle(
    storage: Storage,
    slug: str,
    status: TenantStatus,
    now: datetime,
    *,
    revision: str | None = None,
    reason: str | None = None,
) -> tuple[Tenant, bool]:
    """Another process may have been at the same tenant: what it finished stays finished. A tenant
    that waits for its administrator is settled by whoever admits that."""
    async with storage.registry_unit() as unit:
        # The work's row before the tenant's, as whoever does the work: neither waits for the other.
        work = await unit.work.get(work_key(JobName.PROVISION_TENANT, slug))
        held = await unit.tenants.get(slug)
        assert held is not None, "a tenant's row is never deleted"
        if held.status not in _UNFINISHED:
            return held, False
        if work is not None and await unit.work.unseal(work.key) is not None:
            if status is TenantStatus.ACTIVE:
                await unit.work.save(requeued(work, now))
            return held, False
        changed = replace(
            held,
            status=status,
            status_reason=reason,
            updated_at=now,
            revision=revision or held.revision,
        )
        await unit.tenants.save(changed)
        done = status is TenantStatus.ACTIVE
        await unit.operator_events.append(
            _event(
                slug,
                now,
                done=done,
                metadata={"revision": revision} if done else {"reason": reason},
            )
        )
    return changed, done


def _event(slug: str, now: datetime, *, done: bool, metadata: JSONObject) -> OperatorEvent:
    return OperatorEvent(
        event_id=event_id(now),
        action="tenant.provisioned" if done else "tenant.failed",
        tenant=slug,
        outcome=AuditOutcome.SUCCESS if done else AuditOutcome.FAILURE,
        ip_address="-",
        user_agent=_CALLER,
        metadata=metadata,
        timestamp=now,
    )


def _name(text: str) -> str:
    return grammar.text(text, "display-name", most=128, least=1)
