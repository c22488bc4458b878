"""The trail on PostgreSQL when the server is killed, or a pooler stands in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.contract import Storage
from db.errors import Unavailable
from db.migrations import migrate
from db.namespace import TenantPrefix
from db.records import AuditEvent
from db.settings import StorageSettings
from tests.contract.cast import ACME, GLOBEX, NOW, new_event
from tests.db.pooler import pooler
from tests.db.postgres import opened
from tests.servers.places import temporary_place
from tests.servers.postgres import Postgres


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own that keeps its promises, and may be killed."""
    with temporary_place() as room:
        started = Postgres(room / "postgres", durable=True)
        started.start()
        yield started
        started.stop()


def test_behind_a_pooler_events_are_kept_all_the_same(server: Postgres, tmp_path: Path) -> None:
    async def append_behind_it() -> None:
        await _prepare(server)
        async with pooler(tmp_path, server.home / "socket" / ".s.PGSQL.5432", size=3):
            url = f"postgresql://postgres@/postgres?host={tmp_path}"
            settings = StorageSettings.load(database_url=url, pgbouncer=True)
            async with opened(settings) as storage:
                for _ in range(3):
                    await asyncio.gather(
                        *(storage.trail.append(each, new_event()) for each in (ACME, GLOBEX) * 5)
                    )
                for tenant in (ACME, GLOBEX):
                    assert await storage.read(tenant).audit.count(NOW) == 15

    asyncio.run(append_behind_it())


def test_what_was_acknowledged_outlives_a_server_that_is_killed(server: Postgres) -> None:
    """Writers go on through two crashes, and repeat what they were not told is kept."""

    async def live() -> None:
        await _prepare(server)
        async with asyncio.timeout(90), opened(_settings(server)) as storage:
            crew = Crew(storage)
            writers = [asyncio.create_task(crew.write(each)) for each in (ACME, GLOBEX) * 8]
            await crew.acknowledge(300)
            server.kill()
            await crew.noticed.wait()
            server.start()
            await crew.acknowledge(300)
            # This time nobody sees it down, and a batch on its way is lost all the same.
            server.kill()
            server.start()
            await crew.acknowledge(300)
            crew.over = True
            await asyncio.gather(*writers)
            await crew.acknowledge(crew.told.qsize())
            for tenant in (ACME, GLOBEX):
                reader = storage.read(tenant).audit
                mine = [event for each, event in crew.acknowledged if each == tenant]
                assert [await reader.get(event.event_id, NOW) for event in mine] == mine
                assert await reader.count(NOW) == len(mine)

    asyncio.run(live())


class Crew:
    """Writers, each of whom appends one event after the other until `over`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.told: asyncio.Queue[tuple[TenantPrefix, AuditEvent]] = asyncio.Queue()
        self.acknowledged: list[tuple[TenantPrefix, AuditEvent]] = []
        self.noticed = asyncio.Event()
        self.over = False

    async def write(self, tenant: TenantPrefix) -> None:
        while not self.over:
            event = new_event()
            while not await self._append(tenant, event):
                self.noticed.set()
            self.told.put_nowait((tenant, event))

    async def acknowledge(self, count: int) -> None:
        for _ in range(count):
            self.acknowledged.append(await self.told.get())

    async def _append(self, tenant: TenantPrefix, event: AuditEvent) -> bool:
        try:
            await self._storage.trail.append(tenant, event)
        except Unavailable:
            await asyncio.sleep(0)
            return False
        return True


def _settings(server: Postgres) -> StorageSettings:
    return StorageSettings.load(database_url=server.url(), database_owner_url=server.url())


async def _prepare(server: Postgres) -> None:
    await migrate(_settings(server), now=NOW)
    async with opened(_settings(server)) as storage:
        for tenant in (ACME, GLOBEX):
            await storage.upkeep.provision(tenant, NOW)
