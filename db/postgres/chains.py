"""The two lines of revisions, and how one revision is run.

`registry` makes the tables that all tenants share, `tenants` those that each tenant has, once for
every tenant. Each line is straight: a revision has one before it and one after.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import new_class
from typing import Literal, TypeAlias

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Compiled, Connection, Dialect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import MigrationFailed
from db.namespace import REGISTRY_VERSION_TABLE, TenantPrefix
from db.postgres.owner import table_exists

SCRIPTS = Path(__file__).resolve().parents[2] / "alembic"
BASE = "base"

Line: TypeAlias = Literal["registry", "tenants"]
_Steps: TypeAlias = Callable[[object, MigrationContext], list[MigrationStep]]

# alembic writes four spaces for a tab, in a text too; it does not know this character.
_TAB = "\x1f"

_alembic = threading.Lock()
_TURN = 0.002  # seconds


@cache
def revisions(line: Line, scripts: Path = SCRIPTS) -> tuple[str, ...]:
    """From the first to the head. Raises MigrationFailed when there are none."""
    walk = _directory(line, scripts).walk_revisions()
    found = tuple(script.revision for script in walk)[::-1]
    if not found:
        raise MigrationFailed(f"there are no migrations at {scripts / line}")
    return found


@dataclass(frozen=True, slots=True)
class Chain:
    """The revisions of one owner of tables: a tenant, or the registry (None)."""

    tenant: TenantPrefix | None = None
    scripts: Path = SCRIPTS

    @property
    def subject(self) -> str:
        return str(self.tenant or "registry")

    @property
    def version_table(self) -> str:
        return self.tenant.version_table if self.tenant else REGISTRY_VERSION_TABLE

    @property
    def revisions(self) -> tuple[str, ...]:
        """From the first to the head."""
        return revisions(self._line, self.scripts)

    @property
    def head(self) -> str:
        return self.revisions[-1]

    def applied(self, at: str | None) -> int:
        """How many revisions lead to `at`. Raises MigrationFailed for one that is not here."""
        if at is None:
            return 0
        if at not in self.revisions:
            raise MigrationFailed(
                f"{self.subject} is at revision {at}, which this version of the program does not"
                " know; a newer one has been here"
            )
        return self.revisions.index(at) + 1

    def destroys(self, revision: str) -> str | None:
        """What is lost for ever when `revision` is taken back."""
        script = _directory(self._line, self.scripts).get_revision(revision)
        lost: str | None = getattr(script.module, "DESTROYS", None)
        return lost

    async def current(self, connection: AsyncConnection) -> str | None:
        """The revision that the tables are at; None when there are none."""
        if not await table_exists(connection, self.version_table):
            return None
        version: str | None = await connection.scalar(
            text(f'SELECT version_num FROM "{self.version_table}"')
        )
        return version

    async def upgrade(self, connection: AsyncConnection, revision: str) -> None:
        """Runs `revision`, which must be the next one, in the transaction that is open."""
        async with _turn():
            await connection.run_sync(self._run, revision, up=True)

    async def script(self, revision: str) -> str:
        """What `upgrade` would send, from the revision before; the last of its statements puts
        `revision` into the version table. Nothing is asked of any database."""
        async with _turn():
            return self._written(revision)

    def online_only(self, revision: str) -> bool:
        """Whether the revision says that it cannot be written down: it asks the database, or does
        not belong into a transaction with others."""
        script = _directory(self._line, self.scripts).get_revision(revision)
        return bool(getattr(script.module, "online_only", False))

    async def downgrade(self, connection: AsyncConnection, revision: str) -> None:
        """Takes `revision` back, which must be the current one; with the first revision the
        version table goes too, so that nothing is left."""
        async with _turn():
            await connection.run_sync(self._run, revision, up=False)
        if revision == self.revisions[0]:
            await connection.execute(text(f'DROP TABLE "{self.version_table}"'))

    @property
    def _line(self) -> Line:
        return "tenants" if self.tenant else "registry"

    def _run(self, connection: Connection, revision: str, *, up: bool) -> None:
        directory, step = self._step(revision, up=up)
        with EnvironmentContext(self._config(connection), directory, fn=step):
            directory.run_env()

    def _written(self, revision: str) -> str:
        directory, run = self._step(revision, up=True)

        def step(current: object, context: MigrationContext) -> list[MigrationStep]:
            _hide_tabs(context.dialect)
            return run(current, context)

        written = io.StringIO()
        before = directory.get_revision(revision).down_revision
        with EnvironmentContext(
            self._config(None),
            directory,
            fn=step,
            as_sql=True,
            starting_rev=before,
            output_buffer=written,
        ):
            directory.run_env()
        return written.getvalue().replace(_TAB, "\t")

    def _config(self, connection: Connection | None) -> Config:
        return Config(
            attributes={
                "connection": connection,
                "version_table": self.version_table,
                "tenant": self.tenant,
            }
        )

    def _step(self, revision: str, *, up: bool) -> tuple[ScriptDirectory, _Steps]:
        directory = _directory(self._line, self.scripts)
        make = MigrationStep.upgrade_from_script if up else MigrationStep.downgrade_from_script
        step = make(directory.revision_map, directory.get_revision(revision))
        return directory, lambda current, context: [step]


def _hide_tabs(dialect: Dialect) -> None:
    """In all that `dialect`, which is of this script alone, compiles from here on."""

    def text_of(compiled: Compiled) -> str:
        return compiled.string.replace("\t", _TAB)

    def says(namespace: dict[str, object]) -> None:
        namespace["__str__"] = text_of

    for name in ("statement_compiler", "ddl_compiler"):
        compiler = getattr(dialect, name)
        setattr(dialect, name, new_class(name, (compiler,), exec_body=says))


@cache
def _directory(line: Line, scripts: Path) -> ScriptDirectory:
    try:
        return ScriptDirectory(scripts, version_locations=[scripts / line])
    except CommandError:
        raise MigrationFailed(f"there are no migrations at {scripts}") from None


@asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """alembic keeps the migration that is running in globals of its own, so that two at once in
    one process would write into each other's database. A lock of asyncio's would serve one event
    loop alone; this one is asked for again and again, and blocks no loop."""
    while not _alembic.acquire(blocking=False):  # noqa: ASYNC110 - no event spans two loops
        await asyncio.sleep(_TURN)
    try:
        yield
    finally:
        _alembic.release()
