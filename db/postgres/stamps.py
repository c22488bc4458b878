"""A tenant brought to head: everything that is pending, in one transaction.

It has the tenant to itself and looks at the version again, so that two processes at once apply
each revision once. With the revisions, a message for each, it brings the months of the trail, the
application role's grants, the tenant's registry row and a line of `migration_log` for each; when
one fails, all of that is as it was before, and the failure gets its line afterwards. Only a
revision that is `online_only` has a transaction of its own, between those before and those after.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from time import perf_counter

from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.postgres.chains import Chain
from db.postgres.citus import distribute
from db.postgres.driver import Driver, driver_of
from db.postgres.owner import held
from db.postgres.partitions import ensure_audit_partitions, missing_months
from db.postgres.standing import Ground, Standing, survey, tables
from db.postgres.steps import Run, since
from db.postgres.template import stamped
from db.upkeep import Change, Outcome

_UNDEFINED_TABLE = "42P01"

_RECORD = """
    WITH registered AS (
        UPDATE tenants SET revision = $2
        WHERE $3 AND slug = $1 AND revision IS DISTINCT FROM $2
    )
    INSERT INTO migration_log (tenant, revision, applied_at, ms)
    SELECT $1, revision, $4, ms
    FROM unnest($5::text[], $6::int[]) WITH ORDINALITY AS done(revision, ms, place) ORDER BY place
"""


async def to_head(
    run: Run, chain: Chain, tenant: TenantPrefix, ground: Ground, standing: Standing | None = None
) -> None:
    """Brings the tenant to head from where it stands, as `standing` has it if that was looked at
    already; at head, its months and grants are still seen to. Raises RevisionFailed."""
    driver = await driver_of(run.connection)
    passed = 0
    while True:
        if standing is None:
            standing = (await survey(driver, [tenant], ground))[tenant]
        try:
            applied = _applied(chain, tenant, standing)
        except MigrationFailed as error:
            raise await run.failure(chain, chain.head, error, 0) from error
        run.skipped(chain, passed, applied)
        passed = max(passed, applied)
        pending = chain.revisions[applied:]
        if not pending and at_rest(run, chain, tenant, ground, standing):
            return
        if pending and chain.online_only(pending[0]):
            passed = await run.one(chain, passed)
        else:
            together = tuple(takewhile(lambda each: not chain.online_only(each), pending))
            if await _apply(run, chain, tenant, ground, standing, together):
                for revision in together:
                    run.tell(Outcome(chain.subject, revision, Change.APPLIED))
                passed = applied + len(together)
                if passed == len(chain.revisions):
                    return
        # Another process was here, or one of alembic's own turns: it is looked at anew.
        standing = None


def at_rest(
    run: Run, chain: Chain, tenant: TenantPrefix, ground: Ground, standing: Standing
) -> bool:
    """Whether nothing at all is to be done."""
    return (
        standing.at == chain.head
        and standing.whole(tenant, ground, run.now)
        and (not run.registers or standing.registered == standing.at)
    )


async def _apply(
    run: Run,
    chain: Chain,
    tenant: TenantPrefix,
    ground: Ground,
    standing: Standing,
    revisions: Sequence[str],
) -> bool:
    """Whether it was done: not when the tenant stands elsewhere by now, and nothing was changed."""
    driver = await driver_of(run.connection)
    revision = revisions[0] if revisions else chain.head
    times: list[int] = []
    started, opened = perf_counter(), False
    try:
        async with held(driver, chain.subject, _opening(tenant, standing.at)) as tag:
            opened = True
            if tag != "SELECT 1":
                return False
            for revision in revisions:
                began = perf_counter()
                await driver.execute(await stamped(chain, revision))
                times.append(since(began))
            await _settle(run, driver, tenant, ground, fresh=standing.new and bool(revisions))
            await driver.execute(
                _RECORD, chain.subject, revision, run.registers, run.now, list(revisions), times
            )
    except Exception as error:
        if not opened and getattr(error, "sqlstate", None) == _UNDEFINED_TABLE:
            return False
        raise await run.failure(chain, revision, error, since(started)) from error
    return True


async def _settle(
    run: Run, driver: Driver, tenant: TenantPrefix, ground: Ground, *, fresh: bool
) -> None:
    found = (await tables(driver, [tenant], ground))[tenant]
    if found.short(tenant, run.now):
        if fresh:
            await driver.execute(_first_months(tenant, run.now))
        else:
            async with run.connection.begin():
                await ensure_audit_partitions(run.connection, tenant, run.now)
        # Default privileges may have opened the new ones to the application.
        found = (await tables(driver, [tenant], ground))[tenant]
    if grants := found.grants(tenant, ground.role):
        await driver.execute(";".join(grants))
    if found.apart:
        await distribute(driver, tenant)


def _applied(chain: Chain, tenant: TenantPrefix, standing: Standing) -> int:
    if standing.at is None and tenant.version_table in standing.rights:
        raise MigrationFailed(f"{tenant.version_table} is empty: nobody knows where {tenant} is")
    return chain.applied(standing.at)


def _opening(tenant: TenantPrefix, at: str | None) -> str:
    """A statement that finds one row when the tables are at `at`, as they were looked at before."""
    table = tenant.version_table
    if at is None:
        # Not to_regclass: what a session once looked for in vain it may miss until it has opened
        # some table, and an advisory lock is none.
        return (
            "SELECT WHERE NOT EXISTS (SELECT FROM pg_class"
            f" WHERE relname = '{table}' AND pg_table_is_visible(oid))"
        )
    # One of the revisions that this program has: no quoting can be needed.
    return f"SELECT FROM \"{table}\" WHERE version_num = '{at}'"


def _first_months(tenant: TenantPrefix, now: datetime) -> str:
    made = missing_months(tenant, None, now)
    return ";".join(statement for _, statements in made for statement in statements)
