"""Both backends, driven side by side: whatever one answers, the other answers.

The memory backend is the model. Each example has a fresh database and a fresh process' memory;
every answer is compared at once, row by row, cursor by cursor and error by error, and everything
that is kept is compared at the end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from db.backends import open_storage
from db.contract import Storage
from db.errors import AgentIdPError
from db.filters import CredentialFilter
from db.namespace import TenantPrefix
from db.pages import PageRequest
from db.settings import StorageSettings
from tests.contract import values
from tests.contract.calls import (
    ANY_TENANT,
    EVERYTHING,
    JOINT_STEPS,
    KINDS,
    LISTS,
    READS,
    REGISTRY_READS,
    REGISTRY_STEPS,
    STEPS,
    Call,
    Listed,
)
from tests.contract.cast import ACME, GLOBEX, NOW, Interrupted, Row, new_tenant, put
from tests.contract.shown import shown, shown_error
from tests.servers.databases import Database, Databases

UNKNOWN = TenantPrefix("initech")


class SideBySide(RuleBasedStateMachine):
    databases: ClassVar[Databases]
    template: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.seen: defaultdict[Listed, list[str]] = defaultdict(list)
        self.database = self.databases.create(self.template)
        self.runner = asyncio.Runner()
        self.memory, self.postgres = self.runner.run(self.open())

    async def open(self) -> tuple[Storage, Storage]:
        memory = await open_storage(StorageSettings.load())
        for tenant in (ACME, GLOBEX):
            await memory.upkeep.provision(tenant, NOW)
            async with memory.registry_unit() as unit:
                await unit.tenants.add(new_tenant(tenant.value))
        return memory, await open_storage(
            StorageSettings.load(database_url=self.database.app_url, db_pool_size=1)
        )

    def teardown(self) -> None:
        try:
            for listed in EVERYTHING:
                self.both(listed.whole)
        finally:
            self.runner.run(self.postgres.close())
            self.runner.close()
            self.databases.drop(self.database)

    def both(self, act: Callable[[Storage], Awaitable[Any]]) -> Any:
        """What `act` returns on either, None when it raises on both."""
        model = self.runner.run(_outcome(act, self.memory))
        real = self.runner.run(_outcome(act, self.postgres))
        assert real.shown == model.shown
        return model.value

    @initialize(acme=values.populations(), globex=values.populations())
    def populate(self, acme: tuple[Row, ...], globex: tuple[Row, ...]) -> None:
        self.both(lambda storage: put(storage, ACME, *acme))
        self.both(lambda storage: put(storage, GLOBEX, *globex))

    @rule(tenant=st.sampled_from([ACME, ACME, ACME, GLOBEX, GLOBEX, UNKNOWN]), read=READS)
    def read(self, tenant: TenantPrefix, read: Call) -> None:
        self.both(lambda storage: _do(storage.read(tenant), read))

    @rule(read=REGISTRY_READS)
    def read_registry(self, read: Call) -> None:
        self.both(lambda storage: _do(storage.registry, read))

    @rule(
        tenant=st.sampled_from([ACME, ACME, GLOBEX]),
        steps=st.lists(STEPS, min_size=1, max_size=4),
        raises=st.sampled_from([False, False, False, True]),
        swallows=st.sampled_from([False, False, False, True]),
    )
    def change(self, tenant: TenantPrefix, steps: list[Call], raises: bool, swallows: bool) -> None:
        self.both(lambda storage: _unit(storage.unit(tenant), steps, raises, swallows))

    @rule(
        steps=st.lists(REGISTRY_STEPS, min_size=1, max_size=4),
        raises=st.sampled_from([False, False, False, True]),
        swallows=st.sampled_from([False, False, False, True]),
    )
    def change_registry(self, steps: list[Call], raises: bool, swallows: bool) -> None:
        self.both(lambda storage: _unit(storage.registry_unit(), steps, raises, swallows))

    @rule(
        tenant=st.sampled_from([ACME, ACME, GLOBEX]),
        steps=st.lists(st.one_of(STEPS, JOINT_STEPS), min_size=1, max_size=5),
        raises=st.sampled_from([False, False, False, True]),
        swallows=st.sampled_from([False, False, False, True]),
    )
    def change_both(
        self, tenant: TenantPrefix, steps: list[Call], raises: bool, swallows: bool
    ) -> None:
        self.both(lambda storage: _unit(storage.joint_unit(tenant), steps, raises, swallows))

    @rule(data=st.data(), since=values.windows)
    def page(self, data: st.DataObject, since: datetime) -> None:
        known = sorted(self.seen, key=repr)
        listed = data.draw(st.sampled_from(known) | LISTS if known else LISTS, "list")
        request = data.draw(self.requests(self.seen.get(listed, [])), "request")
        kind = KINDS.get(listed.name)
        wanted = data.draw(st.none() | values.wanted(kind), "wanted") if kind else None
        page = self.both(lambda storage: listed.page(storage, request, since, wanted))
        if page is not None:
            self.seen[listed] += page.cursors

    @rule(
        data=st.data(),
        tenant=ANY_TENANT,
        owners=st.lists(values.ids, min_size=1, max_size=4),
        since=values.windows,
    )
    def pages(
        self, data: st.DataObject, tenant: TenantPrefix, owners: list[UUID], since: datetime
    ) -> None:
        if data.draw(st.booleans(), "credentials"):
            each = [
                Listed("credentials.page", tenant, CredentialFilter(client_id=owner))
                for owner in owners
            ]
            request = data.draw(self.requests(self.seen.get(each[0], [])), "request")
            pages = self.both(lambda s: s.read(tenant).credentials.pages(owners, request))
        else:
            filter = data.draw(values.audit_filters, "filter")
            each = [
                Listed("audit.page", tenant, replace(filter, agent_id=owner)) for owner in owners
            ]
            request = data.draw(self.requests(self.seen.get(each[0], [])), "request")
            pages = self.both(lambda s: s.read(tenant).audit.pages(owners, request, since, filter))
        if pages is not None:
            for owner, listed in zip(owners, each, strict=True):
                self.seen[listed] += pages[owner].cursors

    def requests(self, own: Sequence[str]) -> st.SearchStrategy[PageRequest]:
        """Mostly with the list's own cursors; sometimes with another's, or with what is none."""
        foreign = [cursor for each in self.seen.values() for cursor in each]
        bad = ["", "nonsense", *(cursor[:-1] for cursor in own[:1]), *foreign]
        none: Sequence[str | None] = [None]
        kinds = [none] * 5 + [bad] + [own or none] * 5
        cursors = st.sampled_from(kinds).flatmap(st.sampled_from)
        sizes = st.sampled_from([1, 1, 2, 2, 3, 5])
        return st.builds(
            PageRequest, first=sizes | st.none(), after=cursors, before=cursors
        ) | st.builds(PageRequest, last=sizes, after=cursors, before=cursors)


@dataclass(frozen=True)
class Outcome:
    value: Any
    shown: object


async def _outcome(act: Callable[[Storage], Awaitable[Any]], storage: Storage) -> Outcome:
    try:
        value = await act(storage)
    except (AgentIdPError, Interrupted) as error:
        return Outcome(None, shown_error(error))
    return Outcome(value, shown(value))


async def _do(target: object, what: Call) -> Any:
    name, arguments = what
    return await attrgetter(name)(target)(*arguments)


async def _unit(block: Any, steps: Sequence[Call], raises: bool, swallows: bool) -> list[object]:
    """What each step answered, and how the unit ended."""
    answers: list[object] = []
    try:
        async with block as unit:
            for step in steps:
                try:
                    answers.append(shown(await _do(unit, step)))
                except AgentIdPError as error:
                    answers.append(shown_error(error))
                    if not swallows:
                        raise
            if raises:
                raise Interrupted
    except (AgentIdPError, Interrupted) as error:
        answers.append(shown_error(error))
    return answers


def test_whatever_one_backend_answers_the_other_answers(
    databases: Databases, template: Database
) -> None:
    class Machine(SideBySide):
        pass

    Machine.databases, Machine.template = databases, template
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=80,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
