"""`python -m bench.fleet`: a thousand tenants from the revision before the last to the last.

Then the same command again, which finds nothing to do; then a further revision (a column and an
index) while a reader holds one tenant's table; then once more, which does what was left. The server
runs with its own default of max_locks_per_transaction: a migration locks one tenant's tables at a
time. (A dump of the whole database locks all of them, and does need more.)
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

from bench.grounds import Bar, Grounds, grounds, judge, table
from db import migrations
from db.clock import system_clock
from db.migrations import Change, Summary
from db.postgres.chains import SCRIPTS, revisions
from db.postgres.driver import driver_of
from db.postgres.owner import connect

_LIMIT = 5.0
_FURTHER = """
import sqlalchemy as sa
from alembic import op

revision = "9999_add_region"
down_revision = {before!r}


def upgrade() -> None:
    tenant = op.get_context().opts["tenant"]
    op.add_column(tenant.table("agents"), sa.Column("region", sa.String(32)))
    op.create_index(tenant.index("idx_agents_region"), tenant.table("agents"), ["region"])
"""


def scripts_until(folder: Path, last: str) -> Path:
    """The migrations as they were when `last` was the head of the tenants'."""
    copy = _copy(folder / last)
    for path in (copy / "tenants").glob("*.py"):
        if path.stem > last:
            path.unlink()
    return copy


def scripts_beyond(folder: Path) -> Path:
    """With one more than there are."""
    copy = _copy(folder / "beyond")
    further = _FURTHER.format(before=revisions("tenants")[-1])
    (copy / "tenants" / "9999_add_region.py").write_text(further)
    return copy


def _copy(folder: Path) -> Path:
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


async def run(ground: Grounds, tenants: int, folder: Path) -> float:
    """Prints a line for each part; how many milliseconds a tenant took in the first."""
    source, now = ground.settings, system_clock()
    before = revisions("tenants")[-2]
    await migrations.migrate(source, now=now)
    async with connect(source) as connection:
        await (await driver_of(connection)).execute(
            "INSERT INTO tenants (slug, display_name, status)"
            f" SELECT 'bench_' || n, 'Bench', 'active' FROM generate_series(1, {tenants}) AS n"
        )
    lines: list[tuple[object, ...]] = []

    async def timed(what: str, scripts: Path = SCRIPTS) -> float:
        started = perf_counter()
        summary = await migrations.migrate(source, now=system_clock(), scripts=scripts)
        seconds = perf_counter() - started
        lines.append((what, seconds, seconds * 1000 / tenants, _told(summary)))
        return seconds * 1000 / tenants

    await timed(f"all tables, to {before}", scripts_until(folder, before))
    per_tenant = await timed(f"to {revisions('tenants')[-1]}")
    await timed("again")
    beyond = scripts_beyond(folder)
    async with connect(source) as reader, reader.begin():
        await reader.exec_driver_sql("SELECT count(*) FROM bench_500_agents")
        await timed("to 9999_add_region, one in use", beyond)
    await timed("again, it is free", beyond)
    table((f"{tenants} tenants", "s", "ms each", "of them"), lines)
    return per_tenant


def _told(summary: Summary) -> str:
    last: dict[str, Change] = {}
    for outcome in summary.outcomes:
        if outcome.subject != "registry":
            last[outcome.subject] = outcome.change
    return ", ".join(f"{count} {change}" for change, count in Counter(last.values()).items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet")
    parser.add_argument("--tenants", type=int, default=1000, help="500 at least")
    tenants = max(500, parser.parse_args().tenants)
    with grounds() as ground, tempfile.TemporaryDirectory() as folder:
        per_tenant = asyncio.run(run(ground, tenants, Path(folder)))
    return judge(Bar("fleet migration, a tenant", per_tenant, _LIMIT, " ms"))


if __name__ == "__main__":
    sys.exit(main())
