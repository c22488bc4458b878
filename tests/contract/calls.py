"""What the machine asks of both backends."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeAlias

from hypothesis import strategies as st

from db.contract import Storage
from db.cuts import CutKind
from db.filters import (
    AgentFilter,
    AgentOrder,
    AuditEventFilter,
    CredentialFilter,
    TenantFilter,
    WorkFilter,
)
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import Agent, AuditEvent, Credential
from tests.contract import values
from tests.contract.cast import ACME, GLOBEX, NOW

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
    call("credentials.get_many", st.lists(values.ids, max_size=4), st.none()),
    call("credentials.get_many", st.lists(values.ids, max_size=4), values.wanted(Credential)),
    call("credentials.of_client", values.ids, values.instants),
    call("credentials.login", values.ids, values.instants),
    call("credentials.ended", values.instants, st.integers(1, 4)),
    call("credentials.count", values.credential_filters, st.integers(0, 4)),
    call("audit.get", values.audit_events.map(attrgetter("event_id")), values.windows),
    call("audit.count", values.windows, values.audit_filters, st.integers(0, 4)),
    call("revocations.contains", values.ids),
    call("revocations.get", values.ids),
    call(
        "revocations.cuts",
        st.sampled_from(CutKind),
        values.instants,
        st.none() | values.instants,
        values.ids,
        st.integers(1, 4),
    ),
    call("revocations.recent_cuts", values.instants, values.instants, st.integers(1, 4)),
    call("revocations.standing", values.ids, values.ids, values.ids),
)
STEPS = st.one_of(
    call("tenant"),
    call("agents.add", values.agents),
    call("agents.get", values.ids),
    call("agents.share", values.ids),
    call("agents.save", values.agents),
    call("credentials.add", values.credentials),
    call("credentials.get", values.ids),
    call("credentials.of_client", values.ids, values.instants),
    call("credentials.save", values.credentials),
    call("credentials.rehash", values.ids, values.hashes, values.hashes, values.texts(8)),
    call("credentials.used", st.dictionaries(values.ids, values.instants, max_size=4)),
    call("credentials.revoke_all", values.ids, values.instants),
    st.tuples(st.just("audit.append"), st.lists(values.audit_events, max_size=4).map(tuple)),
    call("revocations.add", values.revocations),
)
REGISTRY_READS = st.one_of(
    call("tenants.get", values.slugs),
    call("tenants.count", values.tenant_filters, st.integers(0, 4)),
    call("signing_keys.all"),
    call("signing_keys.get", values.kids),
    call("signing_keys.retired", values.instants),
    call("work.get", values.work_keys),
    call("work.get_many", st.lists(values.work_keys, max_size=4)),
    call("work.count", values.work_filters, st.integers(0, 4)),
    call("work.due", values.instants, st.integers(0, 4)),
    call("work.summary", values.instants),
    call("idempotency.get", st.just("operator"), values.ids, values.instants),
)
REGISTRY_STEPS = st.one_of(
    call("tenants.add", values.tenants),
    call("tenants.get", values.slugs),
    call("tenants.save", values.tenants),
    call("operator_events.append", values.operator_events),
    call("signing_keys.add", values.keys),
    call("signing_keys.get", values.kids),
    call("signing_keys.save", values.keys),
    call("work.add", values.works()),
    call("work.get", values.work_keys),
    call("work.save", values.works()),
    call("work.seal", values.work_keys, st.none() | values.objects),
    call("work.unseal", values.work_keys),
    call("idempotency.claim", values.idempotency_keys),
    call("idempotency.sweep", values.instants),
)

# What a joint unit has beside them.
JOINT_STEPS = REGISTRY_STEPS.map(lambda step: (f"registry.{step[0]}", step[1]))


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
            "work.page": lambda: fetch(request, self.filter),
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
    st.builds(Listed, st.just("work.page"), st.none(), values.work_filters),
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
    Listed("work.page", None, WorkFilter()),
]
KINDS = {"agents.page": Agent, "credentials.page": Credential, "audit.page": AuditEvent}
