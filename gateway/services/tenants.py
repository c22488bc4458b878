"""Tenants: looked at, changed, suspended, brought back and removed, by the operator alone. How
they come to be is in `onboarding`.

Status: active ⇄ suspended; either, and one that was never finished, → removing → removed, which is
final. Removing lasts for a time of grace, in which the tenant can still be brought back. Leaving
`active` raises the tenant's token generation: every token issued before is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypedDict

from db import grammar
from db.contract import Storage
from db.errors import InvalidInput, InvalidTransition, NotFound, TenantNotProvisioned
from db.filters import TenantFilter
from db.namespace import prefix_problem
from db.pages import COUNT_CAP, Page, PageRequest
from db.records import JSONObject, Tenant, TenantStatus
from db.registry import RegistryUnit
from db.removal import Removal
from db.revocations import Revocations
from db.work import (
    Doorbell,
    JobName,
    Work,
    WorkState,
    cancelled,
    new_work,
    released,
    requeued,
    work_key,
)
from gateway.auth.tenants import Tenants
from gateway.services.call import Call

_LONGEST_REASON = 500
_LONGEST_RETENTION = 36_500  # days
_WAITING = (WorkState.QUEUED, WorkState.RUNNING)


class TenantChanges(TypedDict, total=False):
    """`retention_days` None: as the deployment says."""

    display_name: str
    retention_days: int | None
    resource_servers: tuple[str, ...]


class TenantService:
    """`remembered` is what requests are served from; `grace` is how long a tenant that is to be
    removed can still be brought back; `issuer` says the issuer identifier of a slug."""

    def __init__(
        self,
        storage: Storage,
        revocations: Revocations,
        remembered: Tenants,
        doorbell: Doorbell,
        grace: timedelta,
        issuer: Callable[[str], str],
    ) -> None:
        self._storage = storage
        self._revocations = revocations
        self._remembered = remembered
        self._doorbell = doorbell
        self._grace = grace
        self._issuer = issuer

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

    async def removals(self, slugs: Collection[str]) -> Mapping[str, datetime]:
        """When the data of those that are waiting for it will be gone, in one question."""
        keys = [work_key(JobName.REMOVE_TENANT, slug) for slug in slugs]
        found = await self._storage.registry.work.get_many(keys)
        return {
            work.tenant: work.run_after
            for work in found.values()
            if work.tenant is not None and work.state in _WAITING
        }

    async def update(self, call: Call, slug: str, changes: TenantChanges) -> Tenant:
        """Raises InvalidInput, NotFound, InvalidTransition (removed). Tokens for a resource server
        that is no longer there are good until they end."""
        said = _said(changes, self._issuer(""))
        async with self._storage.registry_unit() as unit:
            tenant = await hold_tenant(unit, slug)
            if tenant.status is TenantStatus.REMOVED:
                raise InvalidTransition("a removed tenant cannot be changed", ("slug",))
            changed = replace(tenant, **said)
            if changed == tenant:
                return tenant
            changed = replace(changed, updated_at=call.now)
            await unit.tenants.save(changed)
            now: JSONObject = {
                "displayName": changed.display_name,
                "retentionDays": changed.retention_days,
                "resourceServers": list(changed.resource_servers),
            }
            await unit.operator_events.append(call.operator_event("tenant.updated", slug, now))
        self._remembered.forget(slug)
        return changed

    async def suspend(self, call: Call, slug: str, reason: str | None = None) -> Tenant:
        """Asked again of a suspended tenant it changes nothing, but makes the suspension known
        once more, for whoever was answered Unavailable. Raises InvalidInput, NotFound,
        InvalidTransition, Unavailable."""
        reason = _checked(reason)
        async with self._storage.registry_unit() as unit:
            tenant = await hold_tenant(unit, slug)
            repeated = tenant.status is TenantStatus.SUSPENDED
            if not repeated:
                _require(tenant, TenantStatus.ACTIVE)
                tenant = _leaving(tenant, TenantStatus.SUSPENDED, reason, call.now)
                await unit.tenants.save(tenant)
                await unit.operator_events.append(
                    call.operator_event("tenant.suspended", slug, {"reason": reason})
                )
        await self._cut(call, tenant)
        if repeated:
            raise InvalidTransition("the tenant is suspended already", ("slug",))
        return tenant

    async def reactivate(self, call: Call, slug: str) -> Tenant:
        """A suspended tenant, or one whose removal has not begun. Tokens from before stay refused.
        Raises NotFound, InvalidTransition."""
        async with self._storage.registry_unit() as unit:
            # The work's row before the tenant's, as whoever does the work: nobody waits in a ring.
            removal = await _work(unit, JobName.REMOVE_TENANT, slug)
            tenant = await hold_tenant(unit, slug)
            _require(tenant, TenantStatus.SUSPENDED, TenantStatus.REMOVING)
            action = "tenant.reactivated"
            if tenant.status is TenantStatus.REMOVING:
                await self._call_off(unit, tenant, removal, call.now)
                action = "tenant.removal_cancelled"
            tenant = replace(
                tenant, status=TenantStatus.ACTIVE, status_reason=None, updated_at=call.now
            )
            await unit.tenants.save(tenant)
            await unit.operator_events.append(call.operator_event(action, slug, {}))
        return tenant

    async def remove(self, call: Call, slug: str, reason: str | None = None) -> Tenant:
        """Refused from now on; what it has is exported and dropped when its time of grace is over.
        Asked again it does as `suspend` does. Raises InvalidInput, NotFound, InvalidTransition,
        Unavailable."""
        reason = _checked(reason)
        due = call.now + self._grace
        async with self._storage.registry_unit() as unit:
            provisioning = await _work(unit, JobName.PROVISION_TENANT, slug)
            removal = await _work(unit, JobName.REMOVE_TENANT, slug)
            tenant = await hold_tenant(unit, slug)
            repeated = tenant.status is TenantStatus.REMOVING
            if not repeated:
                if tenant.status is TenantStatus.REMOVED:
                    raise InvalidTransition("the tenant is removed already", ("slug",))
                await _stop_making(unit, provisioning, call.now)
                await _queue(unit, removal, tenant, due, call.now)
                was = tenant.status
                tenant = _leaving(tenant, TenantStatus.REMOVING, reason, call.now)
                await unit.tenants.save(tenant)
                await unit.operator_events.append(
                    call.operator_event(
                        "tenant.removal_requested",
                        slug,
                        {"reason": reason, "was": was.value, "removesAt": due.isoformat()},
                    )
                )
        await self._cut(call, tenant)
        if repeated:
            raise InvalidTransition("the tenant is being removed already", ("slug",))
        if due <= call.now:
            await self._doorbell.ring(work_key(JobName.REMOVE_TENANT, slug))
        return tenant

    async def _cut(self, call: Call, tenant: Tenant) -> None:
        """After the commit: the cache refuses its tokens too, and what its agents were changing
        meanwhile is changed by now, or refused."""
        await self._revocations.publish_generation(
            tenant.prefix, None, tenant.token_generation, tenant.updated_at, call.now
        )
        with suppress(TenantNotProvisioned):
            async with self._storage.unit(tenant.prefix):
                pass

    async def _call_off(
        self, unit: RegistryUnit, tenant: Tenant, removal: Work | None, now: datetime
    ) -> None:
        """Raises InvalidTransition."""
        stopped = removal and _stopped(removal, now)
        if stopped is None:
            raise InvalidTransition("the removal of the tenant has begun", ("slug",))
        if not Removal.from_json(await unit.work.unseal(stopped.key)).was_served:
            raise InvalidTransition("the tenant was never active: it can be removed only")
        try:
            await self._storage.read(tenant.prefix).agents.count(cap=1)
        except TenantNotProvisioned:
            # A worker dropped its tables, and died before it could say so.
            raise InvalidTransition("what the tenant had is gone already", ("slug",)) from None
        await unit.work.save(stopped)
        await unit.work.seal(stopped.key, None)


async def hold_tenant(unit: RegistryUnit, slug: str, argument: str = "slug") -> Tenant:
    """Raises NotFound, for text that can be no slug too."""
    tenant = None if prefix_problem(slug) is not None else await unit.tenants.get(slug)
    if tenant is None:
        raise NotFound("there is no such tenant", (argument,))
    return tenant


async def _work(unit: RegistryUnit, job: JobName, slug: str) -> Work | None:
    return None if prefix_problem(slug) is not None else await unit.work.get(work_key(job, slug))


async def _stop_making(unit: RegistryUnit, making: Work | None, now: datetime) -> None:
    """Raises InvalidTransition while its tables are being made."""
    if making is None or making.state not in (*_WAITING, WorkState.FAILED):
        return
    stopped = _stopped(making, now)
    if stopped is None:
        raise InvalidTransition("the tenant is being made right now: try again", ("slug",))
    await unit.work.save(stopped)
    # Who was to be its administrator; nobody will be.
    await unit.work.seal(stopped.key, None)


async def _queue(
    unit: RegistryUnit, before: Work | None, tenant: Tenant, due: datetime, now: datetime
) -> None:
    """Raises InvalidTransition."""
    queued = (
        new_work(JobName.REMOVE_TENANT, now, tenant.slug, after=due)
        if before is None
        else requeued(before, due)
    )
    if queued.state is WorkState.RUNNING:
        raise InvalidTransition("a worker is still at an earlier removal: try again", ("slug",))
    if before is None:
        await unit.work.add(queued)
    else:
        await unit.work.save(queued)
    await unit.work.seal(queued.key, Removal(now, tenant.status, due=due).to_json())


def _stopped(work: Work, now: datetime) -> Work | None:
    """Not to be done any more; None while a worker is at it. One that is taken for dead finds its
    claim gone, should it come back."""
    if work.state is WorkState.RUNNING and work.due(now):
        work = released(work, now)
    return cancelled(work)


def _leaving(tenant: Tenant, status: TenantStatus, reason: str | None, now: datetime) -> Tenant:
    return replace(
        tenant,
        status=status,
        status_reason=reason,
        token_generation=tenant.token_generation + 1,
        updated_at=now,
    )


def _require(tenant: Tenant, *among: TenantStatus) -> None:
    if tenant.status not in among:
        needed = " or ".join(among)
        raise InvalidTransition(f"the tenant is {tenant.status}, not {needed}", ("slug",))


def _said(changes: TenantChanges, issuers: str) -> TenantChanges:
    """`issuers` is how every issuer of this gateway begins. Raises InvalidInput."""
    said = changes.copy()
    if "resource_servers" in said:
        said["resource_servers"] = grammar.resource_servers(said["resource_servers"])
        if any(each.startswith(issuers) for each in said["resource_servers"]):
            raise InvalidInput(
                "tokens may be made for this gateway anyway, and for no other tenant's issuer",
                ("resourceServers",),
            )
    if "display_name" in said:
        said["display_name"] = grammar.text(said["display_name"], "displayName", most=128, least=1)
    days = said.get("retention_days")
    if days is not None and not 1 <= days <= _LONGEST_RETENTION:
        raise InvalidInput(
            f"retentionDays must be from 1 to {_LONGEST_RETENTION}", ("retentionDays",)
        )
    return said


def _checked(reason: str | None) -> str | None:
    return None if reason is None else grammar.text(reason, "reason", most=_LONGEST_REASON)
