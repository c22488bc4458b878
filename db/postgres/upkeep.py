"""What is done to the tables themselves, by the role that owns them: the door to those rooms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from db import migrations
from db.namespace import TenantPrefix
from db.postgres import purging, sweeping
from db.postgres.owner import Kept, Source
from db.postgres.removal import drop_tables
from db.records import Purge
from db.settings import StorageSettings
from db.upkeep import Advance, Summary


class PostgresUpkeep:
    """`db.upkeep.Upkeep`, with a connection of the owner role for each call; those that make
    tables, tenant after tenant, are kept for the next."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept = Kept(source) if isinstance(source, StorageSettings) else None

    async def close(self) -> None:
        if self._kept is not None:
            await self._kept.close()

    async def provision(self, tenant: TenantPrefix, now: datetime) -> str:
        return await migrations.provision(self._kept or self._source, tenant, now)

    async def migrate(self, now: datetime, advance: Advance) -> Summary:
        return await migrations.migrate(self._source, now=now, advance=advance)

    async def ensure_months(self, tenant: TenantPrefix, now: datetime) -> Sequence[str]:
        return await migrations.ensure_partitions(self._kept or self._source, tenant, now)

    async def purge(self, tenant: TenantPrefix, before: datetime, now: datetime) -> Sequence[Purge]:
        return await purging.purge(self._kept or self._source, tenant, before, now)

    async def sweep_revocations(self, tenant: TenantPrefix, before: datetime) -> int:
        return await sweeping.sweep_revocations(self._kept or self._source, tenant, before)

    async def drop(self, tenant: TenantPrefix, due: datetime | None = None) -> None:
        await drop_tables(self._source, tenant, due)

    async def kind(self) -> str:
        return await migrations.kind(self._source)
