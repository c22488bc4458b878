"""How far the tables of tenants are, read for any number of them at once.

Where all is as it should be, reading is all that is done: a thousand tenants at head cost a few
statements, not a thousand transactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from db.months import missing
from db.namespace import TenantPrefix
from db.postgres.citus import apart
from db.postgres.driver import Driver
from db.postgres.partitions import covered_until
from db.postgres.roles import Role, corrections, missing_role, tables_of

# Each pass reads the catalog as a whole, which is cheap; but in it each version table is a lock of
# its own for a moment, and the server keeps a table of those that is of a fixed size.
_AT_ONCE = 500
_UNDEFINED_TABLE = "42P01"

_TABLES = """
    WITH named AS (
        SELECT slug, to_regclass(name)::oid AS oid, trail
        FROM unnest($1::text[], $2::text[], $3::bool[]) AS named(slug, name, trail)
    ), found AS (
        SELECT slug, oid FROM named WHERE oid IS NOT NULL
        UNION ALL
        SELECT slug, inhrelid FROM named JOIN pg_inherits ON inhparent = oid WHERE trail
    )
    SELECT slug, relname::text,
        CASE WHEN relispartition THEN pg_get_expr(relpartbound, oid) END,
        ARRAY(SELECT privilege_type::text FROM aclexplode(relacl) WHERE grantee = $4)
    FROM found JOIN pg_class USING (oid)
"""
_GROUND = """
    SELECT (SELECT oid FROM pg_roles WHERE rolname = $1),
        EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
        EXISTS (SELECT FROM pg_default_acl)
"""
# A slug is never given twice: one that no migration was ever tried for never had a table.
_REGISTERED = """
    SELECT named, revision::text, NOT EXISTS (SELECT FROM migration_log WHERE tenant = named),
        coalesce(status IN ('removing', 'removed'), false)
    FROM unnest($1::text[]) AS named LEFT JOIN tenants ON slug = named
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is the same for every tenant: the application's role (None: it is the owner itself),
    whether the database has Citus, and whether a new table may come with privileges by default."""

    role: Role | None
    citus: bool
    defaults: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one tenant: the revision of its tables and that which its registry row tells; whether
    it never had any, and whether it is on its way out; what the application's role may do on each,
    months included; until when the trail is covered."""

    at: str | None = None
    registered: str | None = None
    new: bool = False
    leaving: bool = False
    rights: Mapping[str, frozenset[str]] = field(default_factory=dict)
    until: datetime | None = None
    apart: tuple[str, ...] = ()
    """Tables that Citus does not keep together yet."""

    @property
    def gone(self) -> bool:
        """Whether there are no tables, and none are to be made any more."""
        return self.at is None and self.leaving

    def short(self, tenant: TenantPrefix, now: datetime) -> bool:
        """Whether months of the trail are missing."""
        trail = tenant.table("audit_events") in self.rights
        return trail and any(True for _ in missing(self.until, now))

    def grants(self, tenant: TenantPrefix, role: Role | None) -> Sequence[str]:
        """The statements that give the role what it lacks and take what it has too much."""
        return corrections(tenant, self.rights, role) if role else ()

    def whole(self, tenant: TenantPrefix, ground: Ground, now: datetime) -> bool:
        """Whether nothing is to be done but the revisions that are pending."""
        return not (self.apart or self.short(tenant, now) or self.grants(tenant, ground.role))


async def find_ground(driver: Driver, role: str | None) -> Ground:
    """Raises MigrationFailed when there is no such role."""
    [(oid, citus, defaults)] = await driver.fetch(_GROUND, role)
    if role is not None and oid is None:
        raise missing_role(role)
    return Ground(Role(role, oid) if role is not None else None, citus, defaults)


async def survey(
    driver: Driver, tenants: Sequence[TenantPrefix], ground: Ground
) -> dict[TenantPrefix, Standing]:
    """Each as it was when it was looked at, from one moment to the next."""
    found: dict[TenantPrefix, Standing] = {}
    for first in range(0, len(tenants), _AT_ONCE):
        some = tenants[first : first + _AT_ONCE]
        names = {str(tenant): tenant for tenant in some}
        standings = await tables(driver, some, ground)
        versions = await _versions(
            driver, [tenant for tenant in some if tenant.version_table in standings[tenant].rights]
        )
        for slug, revision, new, leaving in await driver.fetch(_REGISTERED, list(names)):
            found[names[slug]] = replace(
                standings[names[slug]],
                at=versions.get(slug),
                registered=revision,
                new=new,
                leaving=leaving,
            )
    return found


async def tables(
    driver: Driver, tenants: Sequence[TenantPrefix], ground: Ground
) -> dict[TenantPrefix, Standing]:
    """The same without the revisions."""
    named = [(str(tenant), table) for tenant in tenants for table in tables_of(tenant)]
    trails = {str(tenant): tenant.table("audit_events") for tenant in tenants}
    rights: dict[str, dict[str, frozenset[str]]] = {str(tenant): {} for tenant in tenants}
    bounds: dict[str, list[str]] = {str(tenant): [] for tenant in tenants}
    for slug, table, bound, privileges in await driver.fetch(
        _TABLES,
        [slug for slug, _ in named],
        [table for _, table in named],
        [table == trails[slug] for slug, table in named],
        ground.role.oid if ground.role else None,
    ):
        rights[slug][table] = frozenset(privileges)
        if bound is not None:
            bounds[slug].append(bound)
    scattered = await apart(driver, tenants) if ground.citus else {}
    return {
        tenant: Standing(
            rights=rights[str(tenant)],
            until=covered_until(bounds[str(tenant)]),
            apart=scattered.get(tenant, ()),
        )
        for tenant in tenants
    }


async def _versions(driver: Driver, tenants: Sequence[TenantPrefix]) -> dict[str, str]:
    """The truth of each is in a table of its own."""
    found: dict[str, str] = {}
    if not tenants:
        return found
    each = (
        f"SELECT '{tenant}', version_num::text FROM \"{tenant.version_table}\""
        for tenant in tenants
    )
    try:
        return dict(await driver.fetch(" UNION ALL ".join(each)))
    except Exception as error:
        if getattr(error, "sqlstate", None) != _UNDEFINED_TABLE:
            raise
    # One of them is being removed: it has no version, and the others are asked by themselves.
    if len(tenants) == 1:
        return found
    for tenant in tenants:
        found |= await _versions(driver, [tenant])
    return found
