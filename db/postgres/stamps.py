"""A tenant brought to head: everything that is pending, in one transaction.

It has the tenant to itself and looks at the version again, so that two processes at once apply
each revision once. With the revisions, a message for each, it brings the months of the trail, the
application role's grants, the tenant's registry row and a line of `migration_log` for each; when
one fails, all of that is as it was before, and the failure gets its line afterwards. Only a
revision that is `online_only` has a transaction of its own, between those before and those after;
and so has each where the trail had months before that are not attached now.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from time import perf_counter

from db.errors import MigrationFailed
from db.namespace import TenantPrefix
from db.postgres.chains import Chain
from db.postgres.citus import distribute
from db.postgres.driver import Driver, driver_of
from db.postgres.owner import held
from db.postgres.partitions import missing_months
from db.postgres.standing import Ground, Standing, survey, tables
from db.postgres.steps import Run, since
from db.postgres.template import stamped
from db.upkeep import Change, Outcome

_UNDEFINED_TABLE = "42P01"
_NAME = re.compile(r"\w+")

_RECORD = """
    WITH registered AS (
        UPDATE tenants SET revision = '{at}'
        WHERE {registers} AND slug = '{tenant}' AND revision IS DISTINCT FROM '{at}'
    )
    INSERT INTO migration_log (tenant, revision, applied_at, ms)
    SELECT '{tenant}', revision, '{now}', ms
    FROM unnest('{{{revisions}}}'::text[], '{{{times}}}'::int[])
        WITH ORDINALITY AS done(revision, ms, place) ORDER BY place
"""
_HAD_MONTHS = """
    SELECT FROM purge_log WHERE tenant = $1
    UNION ALL SELECT FROM pg_class WHERE relname BETWEEN $2::name AND $3::name LIMIT 1
"""
_EVER = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC))


class _HadMonths(Exception):
    """The trail is to get months and had some before. Which of them were purged, or are left over,
    is for `db.postgres.partitions` to say, and for a revision at a time to go by."""


async def to_head(
    run: Run, chain: Chain, tenant: TenantPrefix, ground: Ground, standing: Standing | None = None
) -> bool:
    """Brings the tenant to head from where it stands, as `standing` has it if that was looked at
    already; at head, its months and grants are still seen to. Whether there are tables: none are
    made for a tenant that is being removed. Raises RevisionFailed."""
    driver = await driver_of(run.connection)
    passed, careful = 0, False
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
        if at_rest(run, chain, tenant, ground, standing):
            return not standing.gone
        careful = careful or (standing.short(tenant, run.now) and not standing.new)
        if careful and not pending:
            await run.one(chain, passed)
            return True
        if pending and (careful or chain.online_only(pending[0])):
            passed = await run.one(chain, passed)
        else:
            together = tuple(takewhile(lambda each: not chain.online_only(each), pending))
            try:
                done = await _apply(run, chain, tenant, ground, standing, together)
            except _HadMonths:
                careful, done = True, False
            if done:
                for revision in together:
                    run.tell(Outcome(chain.subject, revision, Change.APPLIED))
                passed = applied + len(together)
                if passed == len(chain.revisions):
                    return True
        # It was one revision of more, or another process was here: it is looked at anew.
        standing = None


def at_rest(
    run: Run, chain: Chain, tenant: TenantPrefix, ground: Ground, standing: Standing
) -> bool:
    """Whether nothing at all is to be done."""
    return standing.gone or (
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
            last = await _settled(run, driver, tenant, ground, new=standing.new)
            last.append(_record(run, tenant, revision, revisions, times))
            await driver.execute(";".join((*last, "COMMIT")))
    except _HadMonths:
        raise
    except Exception as error:
        if not opened and getattr(error, "sqlstate", None) == _UNDEFINED_TABLE:
            return False
        raise await run.failure(chain, revision, error, since(started)) from error
    return True


async def _settled(
    run: Run, driver: Driver, tenant: TenantPrefix, ground: Ground, *, new: bool
) -> list[str]:
    """The statements that bring the months and grants which are missing. Raises _HadMonths."""
    found = (await tables(driver, [tenant], ground))[tenant]
    statements: list[str] = []
    if found.short(tenant, run.now):
        ever = map(tenant.audit_partition, _EVER)
        if not new and await driver.fetch(_HAD_MONTHS, str(tenant), *ever):
            raise _HadMonths
        made = missing_months(tenant, found.until, run.now)
        statements += [statement for _, month in made for statement in month]
    if statements and (ground.defaults or found.apart):
        await driver.execute(";".join(statements))
        # Privileges by default may have opened the new months to the application.
        found, statements = (await tables(driver, [tenant], ground))[tenant], []
    if found.apart:
        await distribute(driver, tenant)
    return [*statements, *found.grants(tenant, ground.role)]


def _record(
    run: Run, tenant: TenantPrefix, at: str, revisions: Sequence[str], times: Sequence[int]
) -> str:
    for name in (at, *revisions):
        # The names of our own files, which stand between quotes.
        assert _NAME.fullmatch(name), f"a revision has a plain name: {name}"
    return _RECORD.format(
        tenant=tenant,
        at=at,
        registers=run.registers,
        now=run.now.isoformat(),
        revisions=",".join(revisions),
        times=",".join(map(str, times)),
    )


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
            f" WHERE relname = '{table}' AND pg_table_is_visible(oid)) AND NOT EXISTS"
            f" (SELECT FROM tenants WHERE slug = '{tenant}' AND status IN ('removing', 'removed'))"
        )
    # One of the revisions that this program has: no quoting can be needed.
    return f"SELECT FROM \"{table}\" WHERE version_num = '{at}'"
