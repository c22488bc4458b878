"""Workers that come, go and come back from the dead, on both backends side by side.

Whatever they do to one row in whatever order, both backends hold the same rows, at most one claim
of a row holds, and a worker whose claim is passed changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from db import work
from db.backends import open_storage
from db.contract import Storage
from db.pages import PageRequest
from db.records import JSONObject
from db.registry import RegistryUnit
from db.settings import StorageSettings
from db.work import LEASE, JobName, Work, WorkState
from tests.contract.cast import NOW
from tests.servers.databases import Database, Databases

ROWS = [
    (JobName.WARM_REVOCATIONS, None),
    (JobName.PROVISION_TENANT, "a_z"),
    (JobName.PROVISION_TENANT, "aa"),
]
some_row = st.sampled_from([work.work_key(*row) for row in ROWS])
steps = st.sampled_from([timedelta(0), timedelta(seconds=1), LEASE / 2, LEASE, 6 * LEASE])
payloads: st.SearchStrategy[JSONObject | None] = st.none() | st.just({"hash": "x"})

Change = Callable[[Work], Work | None]


class Workers(RuleBasedStateMachine):
    databases: ClassVar[Databases]
    template: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.database = self.databases.create(self.template)
        self.runner = asyncio.Runner()
        self.storages = self.runner.run(self.open())
        # Every claim that was ever made of a row, by the row's key.
        self.claims: dict[str, list[Work]] = {}
        self.sealed: dict[str, JSONObject | None] = {}

    async def open(self) -> tuple[Storage, Storage]:
        url = self.database.app_url
        return (
            await open_storage(StorageSettings.load()),
            await open_storage(StorageSettings.load(database_url=url, db_pool_size=1)),
        )

    def teardown(self) -> None:
        self.runner.run(self.storages[1].close())
        self.runner.close()
        self.databases.drop(self.database)

    def both(self, act: Callable[[Storage], Awaitable[Any]]) -> Any:
        """What `act` returns on both."""
        model, real = (self.runner.run(_run(act, storage)) for storage in self.storages)
        assert real == model
        return model

    def unit(self, act: Callable[[RegistryUnit], Awaitable[Any]]) -> Any:
        async def whole(storage: Storage) -> Any:
            async with storage.registry_unit() as unit:
                return await act(unit)

        return self.both(whole)

    def change(self, key: str, change: Change) -> Work | None:
        """What `change` makes of the row, if there is one; kept, unless that is None."""

        async def act(unit: RegistryUnit) -> Work | None:
            held = await unit.work.get(key)
            changed = held and change(held)
            if changed is not None:
                await unit.work.save(changed)
            return changed

        made: Work | None = self.unit(act)
        return made

    def as_holder(self, data: st.DataObject, change: Change) -> None:
        """By any worker that ever claimed the row, dead or alive."""
        key = data.draw(st.sampled_from(sorted(self.claims)), "key")
        claim = data.draw(st.sampled_from(self.claims[key]), "claim")
        before = self.both(lambda storage: storage.registry.work.get(key))
        after = self.change(key, lambda held: change(held) if held.held_by(claim) else None)
        last = claim == self.claims[key][-1]
        assert (after is not None) is (last and before.state is WorkState.RUNNING)

    @rule(row=st.sampled_from(ROWS), later=steps, payload=payloads)
    def add(
        self, row: tuple[JobName, str | None], later: timedelta, payload: JSONObject | None
    ) -> None:
        new = work.new_work(row[0], self.now, row[1], after=self.now + later)

        async def act(unit: RegistryUnit) -> bool:
            added = await unit.work.add(new)
            if added:
                await unit.work.seal(new.key, payload)
            return added

        known = self.both(lambda storage: storage.registry.work.get(new.key)) is not None
        assert self.unit(act) is not known
        if not known:
            self.sealed[new.key] = payload

    @rule(key=some_row, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, key: str, worker: str) -> None:
        made = self.change(key, lambda held: work.claimed(held, worker, self.now))
        if made is not None:
            self.claims.setdefault(key, []).append(made)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), done=st.integers(0, 3))
    def renew(self, data: st.DataObject, done: int) -> None:
        self.as_holder(data, lambda held: work.renewed(held, self.now, {"done": done, "total": 3}))

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.as_holder(data, lambda held: work.released(held, self.now))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.none() | steps)
    def finish(self, data: st.DataObject, again: timedelta | None) -> None:
        self.as_holder(
            data, lambda held: work.finished(held, self.now, {"seen": 1}, self.after(again))
        )

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), again=st.none() | steps, most=st.integers(1, 3))
    def fail(self, data: st.DataObject, again: timedelta | None, most: int) -> None:
        self.as_holder(
            data,
            lambda held: work.failed(
                held, self.now, "blocked", most_attempts=most, again_at=self.after(again)
            ),
        )

    @rule(key=some_row, later=steps)
    def requeue(self, key: str, later: timedelta) -> None:
        made = self.change(key, lambda held: work.requeued(held, self.now + later))
        assert made is None or made.state in (WorkState.QUEUED, WorkState.RUNNING)

    @rule(key=some_row)
    def cancel(self, key: str) -> None:
        self.change(key, work.cancelled)

    @rule(key=some_row, payload=payloads)
    def seal(self, key: str, payload: JSONObject | None) -> None:
        if key in self.sealed:
            self.unit(lambda unit: unit.work.seal(key, payload))
            self.sealed[key] = payload

    @rule(step=steps)
    def wait(self, step: timedelta) -> None:
        self.now += step

    @invariant()
    def both_hold_the_same(self) -> None:
        rows = self.both(lambda storage: storage.registry.work.page(PageRequest(first=9))).items
        due = self.both(lambda storage: storage.registry.work.due(self.now, 9))
        summary = self.both(lambda storage: storage.registry.work.summary(self.now))
        assert {row.key for row in due} == {row.key for row in rows if row.due(self.now)}
        assert list(summary) == list(work.summarised(rows, self.now))
        for key, payload in self.sealed.items():
            assert self.unsealed(key) == payload
        for row in rows:
            held = [claim for claim in self.claims.get(row.key, []) if row.held_by(claim)]
            assert len(held) == (1 if row.state is WorkState.RUNNING else 0)
            assert row.fence == len(self.claims.get(row.key, []))

    def unsealed(self, key: str) -> Any:
        return self.unit(lambda unit: unit.work.unseal(key))

    def after(self, step: timedelta | None) -> datetime | None:
        return None if step is None else self.now + step


async def _run(act: Callable[[Storage], Awaitable[Any]], storage: Storage) -> Any:
    return await act(storage)


def test_at_most_one_claim_of_a_row_holds_whatever_happens(
    databases: Databases, template: Database
) -> None:
    class Machine(Workers):
        pass

    Machine.databases, Machine.template = databases, template
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
