"""Both backends, driven side by side: whatever one answers, the other answers.

The memory backend is the model. Each example has a fresh database and a fresh process' memory;
every answer is compared at once, row by row, cursor by cursor and error by error, and everything
that is kept is compared at the end.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from db.backends import open_storage
from db.contract import Storage
from db.errors import AgentIdPError, Refused
from db.filters import AgentFilter, AgentOrder, AuditEventFilter, CredentialFilter, TenantFilter
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import Agent, AuditEvent, Credential
from db.settings import StorageSettings
from tests.contract import values
from tests.contract.cast import ACME, GLOBEX, NOW, Interrupted, new_tenant
from tests.servers.databases import Database, Databases

UNKNOWN = TenantPrefix("initech")
JSON_FIELDS = {"permissions", "metadata", "limits"}

Call: TypeAlias = tuple[str, tuple[Any, ...]]
"""A method, as `agents.get`, and its arguments."""


def call(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(name), st.tuples(*arguments))


READS = st.one_of(
    call("agents.get", values.ids),
    call("agents.get_many", st.lists(values.ids, max_size=4), st.none()),
    call("agents.get_many", st.lists(values.ids, max_size=4), values.wanted(Agent)),
    call("agents.by_email", values.emails),
    call("agents.count", values.agent_filters, st.integers(0, 4)),
    call("credentials.get", values.ids),
    call("credentials.of_client", values.ids, values.instants),
    call("credentials.count", values.credential_filters, st.integers(0, 4)),
    call("audit.get", values.audit_events.map(attrgetter("event_id")), values.edges),
    call("audit.count", values.edges, values.audit_filters, st.integers(0, 4)),
    call("revocations.contains", values.ids),
    call("revocations.standing", values.ids, values.ids, values.ids),
)
STEPS = st.one_of(
    call("agents.add", values.agents),
    call("agents.get", values.ids),
    call("agents.save", values.agents),
    call("credentials.add", values.credentials),
    call("credentials.get", values.ids),
    call("credentials.of_client", values.ids, values.instants),
    call("credentials.save", values.credentials),
    call("credentials.revoke_all", values.ids, values.instants),
    st.tuples(st.just("audit.append"), st.lists(values.audit_events, max_size=4).map(tuple)),
    call("revocations.add", values.revocations),
)
REGISTRY_READS = st.one_of(
    call("tenants.get", values.slugs),
    call("tenants.count", values.tenant_filters, st.integers(0, 4)),
    call("signing_keys.all"),
)
REGISTRY_STEPS = st.one_of(
    call("tenants.add", values.tenants),
    call("tenants.get", values.slugs),
    call("tenants.save", values.tenants),
    call("operator_events.append", values.operator_events),
    call("signing_keys.add", values.keys),
)


@dataclass(frozen=True)
class Listed:
    """A list that can be paged: of a tenant, or of the registry."""

    name: str
    tenant: TenantPrefix | None = None
    filter: object = None
    order: AgentOrder | None = None

    def page(
        self, storage: Storage, request: PageRequest, since: datetime, wanted: object
    ) -> Awaitable[Page[Any]]:
        reader: object = storage.read(self.tenant) if self.tenant else storage.registry
        fetch = attrgetter(self.name)(reader)
        page: Awaitable[Page[Any]] = {
            "agents.page": lambda: fetch(request, self.filter, self.order, wanted),
            "credentials.page": lambda: fetch(request, self.filter, wanted),
            "audit.page": lambda: fetch(request, since, self.filter, wanted),
            "tenants.page": lambda: fetch(request, self.filter),
            "operator_events.page": lambda: fetch(request),
        }[self.name]()
        return page

    async def whole(self, storage: Storage) -> Page[Any]:
        page = await self.page(storage, PageRequest(first=100), NOW.replace(year=1), None)
        assert not page.has_next_page
        return page


ANY_TENANT = st.sampled_from([ACME, GLOBEX])
LISTS = st.one_of(
    st.builds(
        Listed,
        st.just("agents.page"),
        ANY_TENANT,
        values.agent_filters,
        st.sampled_from(AgentOrder),
    ),
    st.builds(Listed, st.just("credentials.page"), ANY_TENANT, values.credential_filters),
    st.builds(Listed, st.just("audit.page"), ANY_TENANT, values.audit_filters),
    st.builds(Listed, st.just("tenants.page"), st.none(), values.tenant_filters),
    st.builds(Listed, st.just("operator_events.page")),
)
EVERYTHING = [
    *(
        listed
        for tenant in (ACME, GLOBEX)
        for listed in (
            Listed("agents.page", tenant, AgentFilter(), AgentOrder.CREATED_AT_ASC),
            Listed("credentials.page", tenant, CredentialFilter()),
            Listed("audit.page", tenant, AuditEventFilter()),
        )
    ),
    Listed("tenants.page", None, TenantFilter()),
    Listed("operator_events.page"),
]
KINDS = {"agents.page": Agent, "credentials.page": Credential, "audit.page": AuditEvent}


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
            await memory.provision(tenant, NOW)
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

    @rule(tenant=st.sampled_from([ACME, ACME, GLOBEX, GLOBEX, UNKNOWN]), read=READS)
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

    @rule(data=st.data(), since=values.edges)
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
        owners=st.lists(values.ids, max_size=3),
        since=values.edges,
    )
    def pages(
        self, data: st.DataObject, tenant: TenantPrefix, owners: list[UUID], since: datetime
    ) -> None:
        request = data.draw(self.requests([]), "request")
        if data.draw(st.booleans(), "credentials"):
            filter = data.draw(values.credential_filters, "filter")
            self.both(lambda s: s.read(tenant).credentials.pages(owners, request, filter))
        else:
            events = data.draw(values.audit_filters, "filter")
            self.both(lambda s: s.read(tenant).audit.pages(owners, request, since, events))

    def requests(self, own: Sequence[str]) -> st.SearchStrategy[PageRequest]:
        """Mostly with the list's own cursors; sometimes with another's, or with what is none."""
        cursors: st.SearchStrategy[str | None] = st.none()
        if own:
            cursors |= st.sampled_from(list(own))
        if foreign := [cursor for each in self.seen.values() for cursor in each]:
            cursors |= st.sampled_from(foreign)
        cursors |= st.sampled_from(["", "nonsense", *(cursor[:-1] for cursor in own[:1])])
        sizes = st.integers(1, 4)
        return st.builds(
            PageRequest, first=st.none() | sizes, after=cursors, before=cursors
        ) | st.builds(PageRequest, last=sizes, after=cursors, before=cursors)


@dataclass(frozen=True)
class Outcome:
    value: Any
    shown: object


async def _outcome(act: Callable[[Storage], Awaitable[Any]], storage: Storage) -> Outcome:
    try:
        value = await act(storage)
    except (AgentIdPError, Interrupted) as error:
        return Outcome(None, _shown_error(error))
    return Outcome(value, _shown(value))


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
                    answers.append(_shown(await _do(unit, step)))
                except AgentIdPError as error:
                    answers.append(_shown_error(error))
                    if not swallows:
                        raise
            if raises:
                raise Interrupted
    except (AgentIdPError, Interrupted) as error:
        answers.append(_shown_error(error))
    return answers


def _shown_error(error: Exception) -> object:
    if isinstance(error, Refused):
        return type(error), error.code, error.path, error.message
    return type(error), getattr(error, "code", None)


def _shown(value: Any) -> object:
    """A value as it can be compared to the last type, digit and offset, partial records too."""
    if is_dataclass(value) and not isinstance(value, type):
        members = {each.name: getattr(value, each.name, _shown) for each in fields(value)}
        return type(value), {
            name: json.dumps(member) if name in JSON_FIELDS and member is not _shown
            else _shown(member)
            for name, member in members.items()
        }  # fmt: skip
    if isinstance(value, Mapping):
        return {key: _shown(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Enum, UUID)):
        # A database driver's UUID is one of a class of its own, equal to any other.
        return value
    return type(value), value


def test_whatever_one_backend_answers_the_other_answers(
    databases: Databases, template: Database
) -> None:
    class Machine(SideBySide):
        pass

    Machine.databases, Machine.template = databases, template
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
