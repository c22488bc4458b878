"""What the contract suite cannot say of the memory backend, because it is true of it alone."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from uuid import UUID

from db.backends import open_storage
from db.settings import StorageSettings
from tests.contract.cast import ACME, MICROSECOND, NOW, new_agent, put
from tests.contract.paging import EVERYTHING


async def test_two_storages_share_nothing() -> None:
    one, other = [await open_storage(StorageSettings.load()) for _ in range(2)]
    assert await one.upkeep.provision(ACME, NOW) == "memory"
    await other.upkeep.provision(ACME, NOW)
    await put(one, ACME, new_agent())
    assert await one.read(ACME).agents.count() == 1
    assert await other.read(ACME).agents.count() == 0


async def test_rows_added_in_any_order_are_kept_in_theirs() -> None:
    storage = await open_storage(StorageSettings.load())
    await storage.upkeep.provision(ACME, NOW)
    rows = [
        new_agent(agent_id=UUID(int=place), created_at=NOW + place // 3 * MICROSECOND)
        for place in range(100)
    ]
    shuffled = Random(7).sample(rows, len(rows))
    for start in range(0, 100, 9):
        await put(storage, ACME, *shuffled[start : start + 9])
    page = await storage.read(ACME).agents.page(EVERYTHING)
    assert list(page.items) == rows[::-1]


def test_a_process_in_memory_loads_no_database_driver() -> None:
    program = (
        "import asyncio, sys\n"
        "from db.backends import open_storage\n"
        "from db.settings import StorageSettings\n"
        "asyncio.run(open_storage(StorageSettings()))\n"
        "print([name for name in ('sqlalchemy', 'asyncpg', 'alembic') if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"
