"""A tenant goes: what it had is exported, then its tables are dropped.

Nothing is dropped before the export is complete, on the disk and noted beside the row. Cut off
after that, the tables may be gone; the note then stands for them, and what is left is to say so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from db.clock import event_id
from db.contract import Storage
from db.errors import TenantNotProvisioned
from db.records import AuditOutcome, OperatorEvent, Tenant, TenantStatus
from db.registry import RegistryUnit
from db.removal import ExportFile, Removal
from db.work import JobName, work_key
from workers import export
from workers.state import Report, State

_NOTHING = Report(seen=1)


async def run(state: State, now: datetime) -> Report:
    """Raises MigrationFailed while a table is busy, or where our clock is wrong; Misconfigured when
    nothing can be written to EXPORT_DIRECTORY."""
    async with state.storage.registry_unit() as unit:
        await state.hold(unit)
        tenant = await unit.tenants.get(state.tenant)
        if tenant is None or tenant.status is not TenantStatus.REMOVING:
            return _NOTHING
        removal = Removal.from_json(await unit.work.unseal(state.work.key))
    exported = await take_export(state, tenant, removal, now)
    async with state.storage.registry_unit() as unit:
        # The rows in the order in which everybody takes them.
        making = await unit.work.get(work_key(JobName.PROVISION_TENANT, tenant.slug))
        # Until the unit ends nobody calls the removal off, and no worker that was taken for dead
        # comes this far.
        await state.hold(unit)
        await state.storage.upkeep.drop(tenant.prefix, removal.due)
        await _settle(unit, tenant.slug, exported, now)
        if making is not None:
            await unit.work.seal(making.key, None)
        await unit.work.seal(state.work.key, None)
    return Report(seen=1, changed=1)


async def take_export(state: State, tenant: Tenant, removal: Removal, now: datetime) -> ExportFile:
    """The one that was taken before, if it can be relied upon; else a new one."""
    directory, before = state.settings.export_directory, removal.export
    if before is not None and (
        not await _stands(state.storage, tenant) or await export.is_there(directory, before)
    ):
        return before
    draft = await export.write(
        state.storage,
        tenant,
        directory,
        export.file_name(tenant, removal.requested_at),
        state.work.fence,
        now,
        state.advance,
    )
    try:
        async with state.storage.registry_unit() as unit:
            await state.hold(unit)
            await draft.keep()
            noted = replace(removal, export=draft.file)
            await unit.work.seal(state.work.key, noted.to_json())
    except BaseException:
        draft.discard()
        raise
    return draft.file


async def _stands(storage: Storage, tenant: Tenant) -> bool:
    """They are dropped all at once, so one of them stands for all."""
    try:
        await storage.read(tenant.prefix).agents.count(cap=1)
    except TenantNotProvisioned:
        return False
    return True


async def _settle(unit: RegistryUnit, slug: str, exported: ExportFile, now: datetime) -> None:
    tenant = await unit.tenants.get(slug)
    assert tenant is not None, "a tenant's row is never deleted"
    await unit.tenants.save(
        replace(tenant, status=TenantStatus.REMOVED, revision=None, updated_at=now)
    )
    await unit.operator_events.append(
        OperatorEvent(
            event_id=event_id(now),
            action="tenant.removed",
            tenant=slug,
            outcome=AuditOutcome.SUCCESS,
            ip_address="-",
            user_agent=JobName.REMOVE_TENANT.value,
            metadata={"export": exported.to_json()},
            timestamp=now,
        )
    )
