"""The only path that makes tables: the registry's, then those of each tenant.

Called at the gateway's start, by `python -m db` and when a tenant is onboarded. It works through
a connection of the owner role; what happens inside one transaction is in `db.postgres.stamps` and
`db.postgres.steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import InvalidInput, InvalidPrefix, MigrationFailed, NotFound
from db.namespace import TenantPrefix, prefix_problem
from db.postgres import citus
from db.postgres.chains import BASE, SCRIPTS, Chain, Line, revisions
from db.postgres.driver import driver_of
from db.postgres.fleet import CONCURRENCY, Fleet, all_to_head
from db.postgres.owner import Source, application_role, connect, is_lost, reason, table_exists
from db.postgres.partitions import ensure_audit_partitions
from db.postgres.roles import grant
from db.postgres.stamps import to_head
from db.postgres.standing import find_ground
from db.postgres.steps import Run
from db.records import TenantStatus
from db.tables import migration_log
from db.tables import tenants as registry
from db.upkeep import Advance, Change, Outcome, Report, Summary

__all__ = ["CONCURRENCY", "Change", "Outcome", "Report", "Source", "Summary"]


def _silent(outcome: Outcome) -> None:
    """For callers to whom the summary is enough."""


def _still(done: int, total: int) -> None:
    """For callers who do not watch."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A line of `migration_log`: where a migration led, or was to lead when `error` is there."""

    subject: str
    revision: str
    applied_at: datetime
    ms: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one subject's tables are."""

    subject: str
    status: TenantStatus | None
    revision: str | None
    head: str


@dataclass(frozen=True, slots=True)
class Status:
    progress: tuple[Progress, ...]
    attempts: tuple[Attempt, ...]


def head(line: Line) -> str:
    """The last revision that this program knows."""
    return revisions(line)[-1]


async def migrate(
    source: Source,
    *,
    now: datetime,
    tenants: Sequence[str] | None = None,
    report: Report = _silent,
    advance: Advance = _still,
    canaries: Sequence[str] = (),
    concurrency: int = CONCURRENCY,
    scripts: Path = SCRIPTS,
) -> Summary:
    """Brings the registry to head, then every tenant that is not removed, or only those named:
    `concurrency` of them at once, the `canaries` before all others and one by one.

    A tenant that fails is reported and the others are done, unless it is the revision that fails,
    as `db.postgres.fleet` decides: then the rest is not begun, and the summary names it. Raises
    MigrationFailed when the registry fails, NotFound for a tenant that is not registered or a
    canary that is not among those to be migrated, and Unavailable.
    """
    async with connect(source) as connection:
        role = application_role(source)
        ground = await find_ground(await driver_of(connection), role)
        run = Run(connection, role, now, report)
        await run.to_head(Chain(scripts=scripts))
        slugs = await _registered(connection, tenants)
        for canary in canaries:
            if canary not in slugs:
                raise NotFound(f"no tenant {canary} is to be migrated")
        prefixes = []
        for slug in slugs:
            try:
                prefixes.append(TenantPrefix(slug))
            except InvalidPrefix as error:
                # The row was not written by this program, which would have refused the slug.
                run.tell(Outcome(slug, BASE, Change.FAILED, error.message))
        fleet = Fleet(
            source, ground, role, now, report, advance, scripts, frozenset(canaries), concurrency
        )
        outcomes, left = await all_to_head(fleet, connection, prefixes)
        return Summary((*run.outcomes, *outcomes), seen=1 + len(slugs), left=left)


async def provision(
    source: Source, tenant: TenantPrefix, now: datetime, *, scripts: Path = SCRIPTS
) -> str:
    """Makes the tenant's tables, or brings them to head: with the audit partitions of `now` and
    the application role's grants. Returns the revision they are at; repeating it is harmless.

    The registry row is left alone. Raises MigrationFailed and Unavailable.
    """
    async with connect(source) as connection:
        role = application_role(source)
        ground = await find_ground(await driver_of(connection), role)
        chain = Chain(tenant, scripts)
        run = Run(connection, role, now, _silent, registers=False)
        if not await to_head(run, chain, tenant, ground):
            raise MigrationFailed(f"{tenant} is being removed: no tables are made for it")
        return chain.head


async def ensure_partitions(source: Source, tenant: TenantPrefix, now: datetime) -> tuple[str, ...]:
    """Makes the months of the tenant's trail that are missing up to two after that of `now`; the
    names of the new ones. Raises MigrationFailed, when the table is busy for one, and Unavailable.
    """
    async with connect(source) as connection:
        try:
            async with connection.begin():
                made = await ensure_audit_partitions(connection, tenant, now)
                if made:
                    # Default privileges may have opened the new ones to the application.
                    await grant(connection, tenant, application_role(source))
                return made
        except DBAPIError as error:
            if is_lost(error):
                raise
            raise MigrationFailed(f"{tenant} got no new months: {reason(error)}") from None


async def downgrade(
    source: Source,
    tenant: str | None,
    to: str,
    *,
    now: datetime,
    destroy: bool = False,
    report: Report = _silent,
    scripts: Path = SCRIPTS,
) -> Summary:
    """Takes back what came after `to` (`base`: everything) from a tenant, or from the registry.

    Raises NotFound for a tenant that is not registered or a revision that is not known,
    InvalidInput when something that nothing brings back would go and `destroy` was not said,
    MigrationFailed and Unavailable.
    """
    async with connect(source) as connection:
        if tenant is not None:
            [tenant] = await _registered(connection, [tenant])
        chain = Chain(TenantPrefix(tenant) if tenant else None, scripts)
        run = Run(connection, None, now, report)
        await _refuse_downgrade(connection, chain, to, destroy=destroy)
        await run.down_to(chain, to)
        return Summary(tuple(run.outcomes))


async def status(source: Source) -> Status:
    """How far the registry and every tenant are, and every attempt so far, oldest first."""
    async with connect(source) as connection, connection.begin():
        progress = [await _progress(connection, Chain())]
        if await table_exists(connection, registry.name):
            rows = await connection.execute(
                select(registry.c.slug, registry.c.status).order_by(registry.c.slug)
            )
            for slug, tenant_status in rows.all():
                if prefix_problem(slug) is not None:
                    # Nothing of ours wrote this row, and no table can bear its name.
                    progress.append(
                        Progress(slug, TenantStatus(tenant_status), None, head("tenants"))
                    )
                    continue
                chain = Chain(TenantPrefix(slug))
                progress.append(await _progress(connection, chain, TenantStatus(tenant_status)))
        attempts: list[Attempt] = []
        if await table_exists(connection, migration_log.name):
            log = migration_log.c
            rows = await connection.execute(
                select(log.tenant, log.revision, log.applied_at, log.ms, log.error).order_by(log.id)
            )
            attempts = [Attempt(slug or Chain().subject, *rest) for slug, *rest in rows]
        return Status(tuple(progress), tuple(attempts))


async def kind(source: Source) -> str:
    """`PostgreSQL 18.1`, `PostgreSQL 15.6 with Citus 13.0.3`. Raises Unavailable."""
    async with connect(source) as connection, connection.begin():
        return await citus.kind(connection)


async def registry_at_head(engine: AsyncEngine) -> bool:
    """Whether the registry has every table that this program needs: it is at head, or at a
    revision of a newer program, whose tables the older one can still use.

    On the application's own engine, whose failures are the caller's to translate.
    """
    async with engine.connect() as connection:
        at = await Chain().current(connection)
    return at is not None and at >= head("registry")


async def registered(connection: AsyncConnection) -> list[TenantPrefix]:
    """The tenants whose tables stand or are to stand; none before the registry is there."""
    slugs = await _registered(connection, None)
    # A slug that is no prefix was not written by this program, and no table can bear its name.
    return [TenantPrefix(slug) for slug in slugs if prefix_problem(slug) is None]


async def _registered(connection: AsyncConnection, named: Sequence[str] | None) -> list[str]:
    """The slugs whose tables stand or are to stand. Raises NotFound for another that is named."""
    async with connection.begin():
        found: dict[str, str] = {}
        if await table_exists(connection, registry.name):
            rows = await connection.execute(
                select(registry.c.slug, registry.c.status).order_by(registry.c.slug)
            )
            found = {row.slug: row.status for row in rows}
    for slug in named or ():
        if slug not in found:
            raise NotFound(f"no tenant {slug} is registered")
        if found[slug] == TenantStatus.REMOVED:
            raise NotFound(f"the tenant {slug} was removed")
    chosen = found if named is None else named
    return [slug for slug in chosen if found[slug] != TenantStatus.REMOVED]


async def _progress(
    connection: AsyncConnection, chain: Chain, status: TenantStatus | None = None
) -> Progress:
    return Progress(chain.subject, status, await chain.current(connection), chain.head)


async def _refuse_downgrade(
    connection: AsyncConnection, chain: Chain, to: str, *, destroy: bool
) -> None:
    if to not in (BASE, *chain.revisions):
        known = ", ".join((BASE, *chain.revisions))
        raise NotFound(f"there is no revision {to}; there are {known}")
    async with connection.begin():
        at = await chain.current(connection)
    kept, applied = chain.applied(None if to == BASE else to), chain.applied(at)
    if kept > applied:
        raise InvalidInput(
            f"{chain.subject} is at {at or BASE}, which is before {to}: migrate leads there",
            ("to",),
        )
    lost = [chain.destroys(revision) for revision in chain.revisions[kept:applied]]
    if any(lost) and not destroy:
        what = " and ".join(each for each in lost if each)
        raise InvalidInput(
            f"this destroys {what} of {chain.subject} for ever; say --yes if it is meant"
        )
