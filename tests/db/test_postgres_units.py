"""A caller who goes away leaves no connection in an unknown state, and no half of a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db.contract import Storage
from db.postgres.engine import asyncpg_url, create_engine
from db.postgres.storage import PostgresStorage
from db.records import Agent
from tests.contract.cast import ACME, new_agent, put
from tests.db.postgres import execute, settings_of
from tests.servers.databases import Database

_MOMENTS = range(0, 240, 3)  # in turns of the loop
_COMMIT_WAITS = (
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON acme_agents DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION wait()",
)


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    """With two connections, so that one that is lost is missed."""
    made = create_engine(settings_of(database, db_pool_size=2, db_max_overflow=0))
    yield made
    await made.dispose()


@pytest.fixture
def storage(engine: AsyncEngine, database: Database) -> Storage:
    return PostgresStorage(engine, settings_of(database), owns_engine=False)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _somebody_waits(database: Database) -> None:
    """Returns once a statement waits for a lock."""
    engine = create_async_engine(asyncpg_url(database.owner_url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        while not await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            pass
    await engine.dispose()


def _cancel_each_turn(task: asyncio.Task[object], turns: int) -> None:
    if turns:
        task.cancel()
        asyncio.get_running_loop().call_soon(_cancel_each_turn, task, turns - 1)


async def test_a_reader_cancelled_at_any_moment_leaves_the_next_answer_right(
    storage: Storage,
) -> None:
    first, second = new_agent(), new_agent()
    await put(storage, ACME, first, second)
    for turns in _MOMENTS:
        readers = [
            asyncio.create_task(storage.read(ACME).agents.get(first.agent_id)) for _ in range(3)
        ]
        await _turns(turns)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for agent in (second, first, second):
            answers = await asyncio.gather(
                *(storage.read(ACME).agents.get(agent.agent_id) for _ in range(2))
            )
            assert answers == [agent, agent]


async def test_a_unit_cancelled_at_any_moment_is_done_or_undone(storage: Storage) -> None:
    for turns in _MOMENTS:
        both = (new_agent(), new_agent())
        unit = asyncio.create_task(put(storage, ACME, *both))
        await _turns(turns)
        unit.cancel()
        await asyncio.gather(unit, return_exceptions=True)
        for _ in range(3):
            found = await storage.read(ACME).agents.get_many([agent.agent_id for agent in both])
            assert len(found) in ((0, 2) if unit.cancelled() else (2,))
            await put(storage, ACME, new_agent())


async def test_a_unit_cancelled_while_it_waits_for_a_row_gives_its_connection_back(
    database: Database, engine: AsyncEngine, storage: Storage
) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with storage.unit(ACME) as unit:
        await unit.agents.get(agent.agent_id)
        waiting = asyncio.create_task(_rename(storage, agent, "waited"))
        await _somebody_waits(database)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        assert await storage.read(ACME).agents.get(agent.agent_id) == agent
        await unit.agents.save(replace(agent, owner="held"))
    assert await storage.read(ACME).agents.get(agent.agent_id) == replace(agent, owner="held")
    await asyncio.gather(*(_rename(storage, agent, f"owner {number}") for number in range(4)))


async def test_a_time_limit_ends_the_wait_for_a_row(storage: Storage) -> None:
    agent = new_agent()
    await put(storage, ACME, agent)
    async with storage.unit(ACME) as unit:
        await unit.agents.get(agent.agent_id)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.create_task(_rename(storage, agent, "waited")), 0.05)
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent


async def _rename(storage: Storage, agent: Agent, owner: str) -> None:
    async with storage.unit(ACME) as unit:
        await unit.agents.get(agent.agent_id)
        await unit.agents.save(replace(agent, owner=owner))


async def test_a_caller_cancelled_at_the_commit_hears_of_it_after_the_commit(
    database: Database, storage: Storage
) -> None:
    """A lock that only the commit asks for makes the commit last."""
    agent = new_agent()
    for statement in _COMMIT_WAITS:
        await execute(database, statement)
    holder = create_async_engine(asyncpg_url(database.owner_url), isolation_level="AUTOCOMMIT")
    async with holder.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(1)"))
        adding = asyncio.create_task(put(storage, ACME, agent))
        await _somebody_waits(database)
        _cancel_each_turn(adding, 10)
        await _turns(20)
        assert not adding.done()
        await connection.execute(text("SELECT pg_advisory_unlock(1)"))
        await asyncio.gather(adding, return_exceptions=True)
    await holder.dispose()
    assert adding.cancelled()
    assert await storage.read(ACME).agents.get(agent.agent_id) == agent


async def test_a_caller_cancelled_while_its_failed_unit_ends_changes_nothing(
    engine: AsyncEngine, storage: Storage
) -> None:
    async with engine.connect() as connection:
        server_side = await connection.scalar(text("SELECT pg_backend_pid()"))

    async def fail_and_be_cancelled() -> None:
        async with storage.unit(ACME) as unit:
            await unit.agents.add(new_agent())
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(_cancel_each_turn, task, 5)
            raise ZeroDivisionError

    failing = asyncio.create_task(fail_and_be_cancelled())
    await asyncio.gather(failing, return_exceptions=True)
    assert failing.cancelled()
    assert await storage.read(ACME).agents.count() == 0
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == server_side
