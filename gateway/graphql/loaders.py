"""What the resolvers of one operation ask for one by one is fetched together.

A loader stands for one question about many, such as the first five credentials of each agent. It
remembers its answers for as long as the operation changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

import anyio
from strawberry.dataloader import DataLoader

from db.filters import AuditEventFilter, CredentialFilter
from db.pages import Page, PageRequest
from db.records import Agent, AuditEvent, Credential
from gateway.services.call import Call
from gateway.services.credentials import READ
from gateway.wiring import Gateway

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Wanted = frozenset[str] | None

# What cannot be fetched together is a statement each; few of them run at once.
_STATEMENTS_AT_ONCE = 4


class Loaders:
    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self._call = call
        self._loaders: dict[Hashable, DataLoader[Any, object]] = {}
        self._turn = anyio.Semaphore(_STATEMENTS_AT_ONCE)

    def agent(self, agent_id: UUID, wanted: Wanted) -> Awaitable[Agent | None]:
        def fetch(ids: Collection[UUID]) -> Awaitable[Mapping[UUID, Agent]]:
            return self._gateway.agents.get_many(self._call, ids, wanted)

        return self._load(("agent", wanted), agent_id, fetch)

    def credential(
        self, credential_id: UUID, wanted: Wanted = None
    ) -> Awaitable[Credential | None]:
        def fetch(ids: Collection[UUID]) -> Awaitable[Mapping[UUID, Credential]]:
            return self._gateway.credentials.get_many(self._call, ids, wanted)

        return self._load(("credential", wanted), credential_id, fetch)

    def credentials(
        self, agent_id: UUID, request: PageRequest, filter: CredentialFilter, wanted: Wanted
    ) -> Awaitable[Page[Credential]]:
        def fetch(ids: Collection[UUID]) -> Awaitable[Mapping[UUID, Page[Credential]]]:
            return self._gateway.credentials.pages(self._call, ids, request, filter, wanted)

        # Without the scope one's own are allowed: they must not be refused together with others'.
        caller = self._call.agent
        own = READ not in caller.scope and agent_id == caller.agent_id
        page = self._load(("credentials", own, request, filter, wanted), agent_id, fetch)
        return cast(Awaitable[Page[Credential]], page)

    def audit_events(
        self, agent_id: UUID, request: PageRequest, filter: AuditEventFilter, wanted: Wanted
    ) -> Awaitable[Page[AuditEvent]]:
        def fetch(ids: Collection[UUID]) -> Awaitable[Mapping[UUID, Page[AuditEvent]]]:
            return self._gateway.audit.pages(self._call, ids, request, filter, wanted)

        page = self._load(("audit events", request, filter, wanted), agent_id, fetch)
        return cast(Awaitable[Page[AuditEvent]], page)

    def removal(self, slug: str) -> Awaitable[datetime | None]:
        """When the data of a tenant that is being removed will be gone."""

        def fetch(slugs: Collection[str]) -> Awaitable[Mapping[str, datetime]]:
            return self._gateway.tenants.removals(slugs)

        return self._load(("removal",), slug, fetch)

    async def audit_event(self, event_id: UUID) -> AuditEvent | None:
        async with self._turn:
            return await self._gateway.audit.get(self._call, event_id)

    async def count_credentials(self, agent_id: UUID, filter: CredentialFilter) -> int:
        async with self._turn:
            of_agent = replace(filter, client_id=agent_id)
            return await self._gateway.credentials.count(self._call, of_agent)

    async def count_audit_events(self, agent_id: UUID, filter: AuditEventFilter) -> int:
        async with self._turn:
            return await self._gateway.audit.count(self._call, replace(filter, agent_id=agent_id))

    def _load(
        self,
        question: Hashable,
        key: K,
        fetch: Callable[[Collection[K]], Awaitable[Mapping[K, T]]],
    ) -> Awaitable[T | None]:
        loader = self._loaders.get(question)
        if loader is None:

            async def load(keys: list[K]) -> list[object]:
                found = await fetch(keys)
                return [found.get(each) for each in keys]

            loader = self._loaders[question] = DataLoader(load)
        return cast(Awaitable[T | None], loader.load(key))
