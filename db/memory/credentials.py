"""Credentials in memory, kept apart by client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from db import lists
from db.contract import AgentStore, Wanted
from db.errors import NotFound
from db.filters import CredentialFilter
from db.memory.agents import Agents
from db.memory.copies import cut, fresh, showing, stored
from db.memory.drafts import Draft
from db.memory.rows import Rows, Selection
from db.memory.units import Life
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.records import Agent, Credential, CredentialStatus, Login

_ACTIVE = CredentialStatus.ACTIVE
_EVERY = CredentialFilter()
_LOGIN_AGENT = cut(Agent, Login.AGENT)
_LOGIN_CREDENTIAL = cut(Credential, Login.CREDENTIAL)


class Credentials(Rows[Credential, lists.ByInstant]):
    def __init__(self) -> None:
        super().__init__(lists.credential_position, lambda credential: credential.client_id)


class MemoryCredentials:
    def __init__(self, tenant: TenantPrefix, rows: Credentials, agents: Agents) -> None:
        self._tenant = tenant
        self._rows = rows
        self._agents = agents

    async def get(self, credential_id: UUID) -> Credential | None:
        credential = self._rows.get(credential_id)
        return credential and fresh(credential)

    async def get_many(
        self, credential_ids: Collection[UUID], wanted: Wanted = None
    ) -> Mapping[UUID, Credential]:
        show = showing(Credential, wanted, lists.CREDENTIAL_KEYS) or fresh
        found = ((each, self._rows.get(each)) for each in set(credential_ids))
        return {each: show(credential) for each, credential in found if credential is not None}

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        return _usable(self._rows.of_group(client_id), now)

    async def login(self, client_id: UUID, now: datetime) -> Login | None:
        agent = self._agents.get(client_id)
        if agent is None:
            return None
        usable = await self.of_client(client_id, now)
        return Login(_LOGIN_AGENT(agent), list(map(_LOGIN_CREDENTIAL, usable)))

    async def ended(self, now: datetime, limit: int) -> Sequence[Credential]:
        over = (
            (each.expires_at, each.credential_id, each)
            for each in self._rows.every()
            if each.status is CredentialStatus.ACTIVE
            and each.expires_at is not None
            and each.expires_at <= now
        )
        return [fresh(each) for _, _, each in sorted(over, key=itemgetter(0, 1))[:limit]]

    async def page(
        self,
        request: PageRequest,
        filter: CredentialFilter = _EVERY,
        wanted: Wanted = None,
    ) -> Page[Credential]:
        return self._select(filter).page(
            lists.credentials(self._tenant, filter),
            request,
            descending=True,
            show=showing(Credential, wanted, lists.CREDENTIAL_KEYS) or fresh,
        )

    async def pages(
        self,
        client_ids: Collection[UUID],
        request: PageRequest,
        filter: CredentialFilter = _EVERY,
        wanted: Wanted = None,
    ) -> Mapping[UUID, Page[Credential]]:
        return {
            client_id: await self.page(request, replace(filter, client_id=client_id), wanted)
            for client_id in dict.fromkeys(client_ids)
        }

    async def count(self, filter: CredentialFilter = _EVERY, cap: int = 10_000) -> int:
        return self._select(filter).count(cap)

    def _select(self, filter: CredentialFilter) -> Selection[Credential, lists.ByInstant]:
        return self._rows.select(
            group=filter.client_id,
            matches=None if replace(filter, client_id=None) == _EVERY else filter.matches,
        )


class MemoryCredentialStore:
    def __init__(self, rows: Credentials, agents: AgentStore, life: Life) -> None:
        self._agents = agents
        self._life = life
        self._draft = Draft(rows, "credential", life)

    async def add(self, credential: Credential) -> None:
        self._draft.new(credential)
        if await self._agents.get(credential.client_id) is None:
            raise self._life.fail(NotFound("there is no such agent", ("clientId",)))
        self._draft.put(stored(credential))

    async def get(self, credential_id: UUID) -> Credential | None:
        credential = self._draft.get(credential_id)
        return credential and fresh(credential)

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        return _usable(self._draft.of_group(client_id), now)

    async def save(self, credential: Credential) -> None:
        first = self._draft.known(credential.credential_id)
        self._draft.put(
            replace(
                credential,
                client_id=first.client_id,
                secret_hash=first.secret_hash,
                secret_tag=first.secret_tag,
                public_key=first.public_key,
                created_at=first.created_at,
            )
        )

    async def rehash(self, credential_id: UUID, was: str, secret_hash: str, tag: str) -> bool:
        found = self._draft.get(credential_id)
        if found is None or found.secret_hash != was or found.status is not _ACTIVE:
            return False
        self._draft.put(replace(found, secret_hash=secret_hash, secret_tag=tag))
        return True

    async def used(self, uses: Mapping[UUID, datetime]) -> Collection[UUID]:
        self._life.go_on()
        unknown = list[UUID]()
        for credential_id, at in uses.items():
            found = self._draft.get(credential_id)
            if found is None:
                unknown.append(credential_id)
            elif found.last_used_at is None or found.last_used_at < at:
                self._draft.put(replace(found, last_used_at=at))
        return unknown

    async def revoke_all(self, client_id: UUID, now: datetime) -> Sequence[UUID]:
        live = [
            credential
            for credential in self._draft.of_group(client_id)
            if credential.status is CredentialStatus.ACTIVE
        ]
        for credential in live:
            self._draft.put(replace(credential, status=CredentialStatus.REVOKED, revoked_at=now))
        return [credential.credential_id for credential in live]

    def keep(self) -> None:
        self._draft.keep()


def _usable(credentials: Sequence[Credential], now: datetime) -> Sequence[Credential]:
    return [fresh(each) for each in reversed(credentials) if each.usable_at(now)]
