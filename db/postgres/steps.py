"""One revision at a time, each in a transaction of its own: the registry's, every way down, and
those of a tenant that cannot be stamped.

The transaction has its subject to itself and reads the version again, so that two processes at
once apply each revision once. With the revision it brings the audit partitions, the application
role's grants, the tenant's registry row and a line of `migration_log`; when it fails, all of that
is as it was before and the failure gets its line afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed
from db.postgres.chains import BASE, Chain
from db.postgres.owner import change, is_lost, reason, table_exists
from db.postgres.partitions import ensure_audit_partitions
from db.postgres.roles import grant
from db.tables import migration_log, tenants
from db.upkeep import Change, Outcome, Report


class RevisionFailed(MigrationFailed):
    """The transaction of one revision was rolled back; `outcome` says of which, and why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.subject} {outcome.revision}: {outcome.error}")
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Run:
    """What one call does, on one connection and at one instant. `registers` is false where the
    caller keeps the tenant's registry row itself."""

    connection: AsyncConnection
    role: str | None
    now: datetime
    report: Report
    registers: bool = True
    outcomes: list[Outcome] = field(default_factory=list)

    def tell(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.report(outcome)

    async def to_head(self, chain: Chain) -> None:
        """At head already, partitions and grants are still seen to. Raises RevisionFailed."""
        passed = 0
        while passed < len(chain.revisions):
            passed = await self.one(chain, passed)

    async def one(self, chain: Chain, passed: int) -> int:
        """Runs the next revision, where `passed` of them were told of; how many are now. Raises
        RevisionFailed."""
        applied, revision = passed, (*chain.revisions, chain.head)[passed]
        started = perf_counter()
        try:
            async with change(self.connection, chain.subject):
                applied = chain.applied(await chain.current(self.connection))
                pending = applied < len(chain.revisions)
                revision = chain.revisions[applied] if pending else chain.head
                if pending:
                    await chain.upgrade(self.connection, revision)
                await self._settle(chain, revision)
                if pending:
                    await self._log(chain, revision, since(started))
        except Exception as error:
            # A revision is a program and may raise anything.
            self.skipped(chain, passed, applied)
            raise await self.failure(chain, revision, error, since(started)) from error
        self.skipped(chain, passed, applied)
        if pending:
            self.tell(Outcome(chain.subject, revision, Change.APPLIED))
        return applied + pending

    async def down_to(self, chain: Chain, to: str) -> None:
        """Takes back what came after `to`; `base` leaves no table. Raises RevisionFailed."""
        while True:
            revision = to
            started = perf_counter()
            try:
                async with change(self.connection, chain.subject):
                    at = await chain.current(self.connection)
                    applied = chain.applied(at)
                    if at is None or applied <= chain.applied(None if to == BASE else to):
                        return
                    revision = at
                    await chain.downgrade(self.connection, revision)
                    reached = chain.revisions[applied - 2] if applied > 1 else BASE
                    await self._register(chain, None if reached == BASE else reached)
                    await self._log(chain, reached, since(started))
            except Exception as error:
                raise await self.failure(chain, revision, error, since(started)) from error
            self.tell(Outcome(chain.subject, revision, Change.REVERTED))

    async def _settle(self, chain: Chain, at: str) -> None:
        tenant = chain.tenant
        if tenant and await table_exists(self.connection, tenant.table("audit_events")):
            await ensure_audit_partitions(self.connection, tenant, self.now)
        await grant(self.connection, tenant, self.role)
        await self._register(chain, at)

    async def _register(self, chain: Chain, at: str | None) -> None:
        if chain.tenant and self.registers:
            await self.connection.execute(
                update(tenants)
                .where(tenants.c.slug == str(chain.tenant), tenants.c.revision.is_distinct_from(at))
                .values(revision=at)
            )

    async def _log(
        self, chain: Chain, revision: str, milliseconds: int, error: str | None = None
    ) -> None:
        # Before the registry's first revision, and after its last downgrade, there is no log.
        if await table_exists(self.connection, migration_log.name):
            await self.connection.execute(
                insert(migration_log).values(
                    tenant=str(chain.tenant) if chain.tenant else None,
                    revision=revision,
                    applied_at=self.now,
                    ms=milliseconds,
                    error=error,
                )
            )

    async def failure(
        self, chain: Chain, revision: str, error: Exception, milliseconds: int
    ) -> RevisionFailed:
        """Logged; raises `error` itself when it is the connection that failed."""
        if is_lost(error):
            raise error
        said = reason(error)
        async with self.connection.begin():
            await self._log(chain, revision, milliseconds, said)
        return RevisionFailed(Outcome(chain.subject, revision, Change.FAILED, said))

    def skipped(self, chain: Chain, first: int, until: int) -> None:
        for revision in chain.revisions[first:until]:
            self.tell(Outcome(chain.subject, revision, Change.SKIPPED))


def since(started: float) -> int:
    return round((perf_counter() - started) * 1000)
