"""A tenant comes to be: its tables, its first administrator, and only then `active`.

Cut off at any point, it is begun again and does what is left. The tables are made outside any unit,
since that takes a while. The administrator is admitted in the tenant's own transaction, just before
the one in the registry that lets anybody reach it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from db.admission import Admission
from db.clock import event_id
from db.contract import Storage
from db.errors import Misconfigured
from db.records import AuditOutcome, JSONObject, OperatorEvent, Tenant, TenantStatus
from db.registry import RegistryUnit
from db.work import JobName, Work
from workers.state import Report, State

_UNFINISHED = (TenantStatus.PROVISIONING, TenantStatus.FAILED)
_GONE = (TenantStatus.REMOVING, TenantStatus.REMOVED)
_NOTHING = Report(seen=1)


async def run(state: State, now: datetime) -> Report:
    """Raises MigrationFailed, and Misconfigured when nobody is there to be admitted."""
    async with state.storage.registry_unit() as unit:
        await state.hold(unit)
        found = await _open(unit, state.work)
    if found is None:
        return _NOTHING
    tenant, admission = found
    revision = await state.storage.upkeep.provision(tenant.prefix, now)
    async with state.storage.registry_unit() as unit:
        await state.hold(unit)
        # The row was held twice by one claim, so what is sealed beside it is still the same.
        found = await _open(unit, state.work)
        if found is None:
            return _NOTHING
        await _admit(state.storage, tenant, admission)
        active = replace(
            found[0],
            status=TenantStatus.ACTIVE,
            status_reason=None,
            revision=revision,
            updated_at=now,
        )
        await unit.tenants.save(active)
        await unit.work.seal(state.work.key, None)
        await unit.operator_events.append(
            _event("tenant.provisioned", tenant.slug, {"revision": revision}, now)
        )
    return Report(seen=1, changed=1)


async def gave_up(unit: RegistryUnit, work: Work, error: str, now: datetime) -> None:
    """The administrator stays sealed: should the operator have the row run again, the secret that
    was shown is the right one."""
    assert work.tenant is not None, f"{work.job} is a job for one tenant"
    tenant = await unit.tenants.get(work.tenant)
    if tenant is None or tenant.status not in _UNFINISHED:
        return
    failed = replace(tenant, status=TenantStatus.FAILED, status_reason=error, updated_at=now)
    await unit.tenants.save(failed)
    await unit.operator_events.append(
        _event("tenant.failed", tenant.slug, {"reason": error}, now, AuditOutcome.FAILURE)
    )


async def _open(unit: RegistryUnit, work: Work) -> tuple[Tenant, Admission] | None:
    """What is to be made, and who is to be admitted; None when there is nothing left to do.

    A tenant that is active already was made from the command line, and waits for its administrator.
    """
    assert work.tenant is not None, f"{work.job} is a job for one tenant"
    tenant = await unit.tenants.get(work.tenant)
    sealed = await unit.work.unseal(work.key)
    if tenant is None or tenant.status in _GONE:
        if sealed is not None:
            await unit.work.seal(work.key, None)
        return None
    if tenant.status in _UNFINISHED and sealed is None:
        raise Misconfigured("it is not known who is to be its administrator: onboard it again")
    if tenant.status is TenantStatus.SUSPENDED or sealed is None:
        return None
    return tenant, Admission.from_json(sealed)


async def _admit(storage: Storage, tenant: Tenant, admission: Admission) -> None:
    """Unless a worker that was killed before the registry heard of it has done so."""
    administrator = admission.administrator
    async with storage.unit(tenant.prefix) as unit:
        if await unit.agents.get(administrator.agent_id) is None:
            await unit.agents.add(administrator)
            await unit.credentials.add(admission.credential)
            await unit.audit.append(*admission.events)


def _event(
    action: str,
    slug: str,
    metadata: JSONObject,
    now: datetime,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
) -> OperatorEvent:
    return OperatorEvent(
        event_id=event_id(now),
        action=action,
        tenant=slug,
        outcome=outcome,
        ip_address="-",
        user_agent=JobName.PROVISION_TENANT.value,
        metadata=metadata,
        timestamp=now,
    )
