"""Credentials on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Integer,
    Select,
    Uuid,
    bindparam,
    column,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from db import lists
from db.contract import Wanted
from db.filters import CredentialFilter
from db.lists import ByInstant
from db.namespace import TenantPrefix
from db.pages import Page, PageRequest
from db.postgres.connections import Changing, Reading, Runs
from db.postgres.listing import Listing, Parameters, among, given
from db.postgres.logins import PostgresLogins
from db.postgres.rows import CREDENTIALS, parameters
from db.records import Credential, CredentialStatus, Login
from db.tables import credentials

_INSTANT = TIMESTAMP(timezone=True)
_LIST: Listing[Credential, ByInstant] = Listing(
    (credentials.c.created_at, credentials.c.credential_id),
    {
        "client_id": credentials.c.client_id == bindparam("client_id", type_=Uuid),
        "status": among(credentials.c.status, "status"),
        "replaced": credentials.c.replaced_by.is_not(None) == bindparam("replaced", type_=Boolean),
        "used_from": credentials.c.last_used_at >= bindparam("used_from", type_=_INSTANT),
        "used_before": credentials.c.last_used_at < bindparam("used_before", type_=_INSTANT),
    },
    descending=True,
)
_ALL = select(*CREDENTIALS.columns(CREDENTIALS.names))
_GET = _ALL.where(credentials.c.credential_id == bindparam("credential_id", type_=Uuid))
_HOLD = _GET.with_for_update()
_NOW = bindparam("now", type_=_INSTANT)
# In the text of the statement: a plan made for any values must know the index of those that end.
_ACTIVE = credentials.c.status == literal_column(f"'{CredentialStatus.ACTIVE.value}'")
_OF_CLIENT = credentials.c.client_id == bindparam("of_client", type_=Uuid)
_UNENDED = or_(credentials.c.expires_at.is_(None), credentials.c.expires_at > _NOW)
_USABLE = _ALL.where(_OF_CLIENT, _ACTIVE, _UNENDED).order_by(
    credentials.c.created_at.desc(), credentials.c.credential_id.desc()
)
_ENDED = (
    _ALL.where(_ACTIVE, credentials.c.expires_at <= _NOW)
    .order_by(credentials.c.expires_at, credentials.c.credential_id)
    .limit(bindparam("limit", type_=Integer))
)
_ADD = insert(credentials)
_SAVE = (
    update(credentials)
    .where(credentials.c.credential_id == bindparam("key", type_=Uuid))
    .returning(credentials.c.credential_id)
)
_CHANGES = ("status", "expires_at", "revoked_at", "label", "last_used_at", "replaced_by")
_REHASH = (
    update(credentials)
    .where(
        credentials.c.credential_id == bindparam("key", type_=Uuid),
        credentials.c.secret_hash == bindparam("was"),
        _ACTIVE,
    )
    .values(secret_hash=bindparam("hash"), secret_tag=bindparam("tag"))
    .returning(credentials.c.credential_id)
)
_REVOKE_ALL = (
    update(credentials)
    .where(_OF_CLIENT, _ACTIVE)
    .values(status=literal(CredentialStatus.REVOKED.value), revoked_at=_NOW)
    .returning(credentials.c.created_at, credentials.c.credential_id)
)

_USES = (
    func.unnest(
        bindparam("all_ids", type_=ARRAY(Uuid)), bindparam("all_instants", type_=ARRAY(_INSTANT))
    )
    .table_valued(column("id", Uuid), column("instant", _INSTANT), name="uses")
    .render_derived()
)
# In one order, and without waiting: whoever holds a credential may be about to end it.
_FREE = (
    select(credentials.c.credential_id)
    .where(credentials.c.credential_id == func.any(bindparam("all_ids", type_=ARRAY(Uuid))))
    .order_by(credentials.c.credential_id)
    .with_for_update(skip_locked=True)
    .cte("free")
)
_USED = (
    update(credentials)
    .where(
        credentials.c.credential_id == _FREE.c.credential_id,
        credentials.c.credential_id == _USES.c.id,
    )
    .values(last_used_at=func.greatest(credentials.c.last_used_at, _USES.c.instant))
    .returning(credentials.c.credential_id)
)


class PostgresCredentialReader:
    def __init__(self, tenant: TenantPrefix, reading: Reading, logins: PostgresLogins) -> None:
        self._tenant = tenant
        self._reading = reading
        self._logins = logins

    async def get(self, credential_id: UUID) -> Credential | None:
        rows = await self._reading.rows(_GET, {"credential_id": credential_id})
        return CREDENTIALS.record(rows[0]) if rows else None

    async def get_many(
        self, credential_ids: Collection[UUID], wanted: Wanted = None
    ) -> dict[UUID, Credential]:
        names = CREDENTIALS.wanted(wanted)
        rows = await self._reading.rows(_many(names), {"credential_ids": list(set(credential_ids))})
        found = (CREDENTIALS.record(row, names) for row in rows)
        return {credential.credential_id: credential for credential in found}

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        return await _usable(self._reading, client_id, now)

    async def login(self, client_id: UUID, now: datetime) -> Login | None:
        return await self._logins.login(self._tenant, client_id, now)

    async def ended(self, now: datetime, limit: int) -> Sequence[Credential]:
        rows = await self._reading.rows(_ENDED, {"now": now, "limit": limit})
        return [CREDENTIALS.record(row) for row in rows]

    async def page(
        self,
        request: PageRequest,
        filter: CredentialFilter = CredentialFilter(),
        wanted: Wanted = None,
    ) -> Page[Credential]:
        names = CREDENTIALS.wanted(wanted)
        return await _LIST.page(
            self._reading,
            lists.credentials(self._tenant, filter),
            request,
            _given(filter),
            names,
            lambda row: CREDENTIALS.record(row, names),
        )

    async def pages(
        self,
        client_ids: Collection[UUID],
        request: PageRequest,
        filter: CredentialFilter = CredentialFilter(),
        wanted: Wanted = None,
    ) -> dict[UUID, Page[Credential]]:
        names = CREDENTIALS.wanted(wanted)
        return await _LIST.pages(
            self._reading,
            credentials.c.client_id,
            {
                client_id: lists.credentials(self._tenant, replace(filter, client_id=client_id))
                for client_id in client_ids
            },
            request,
            _given(replace(filter, client_id=None)),
            names,
            lambda row: CREDENTIALS.record(row, names),
        )

    async def count(self, filter: CredentialFilter = CredentialFilter(), cap: int = 10_000) -> int:
        return await _LIST.count(self._reading, _given(filter), cap)


class PostgresCredentialStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, credential: Credential) -> None:
        await self._changing.rows(_ADD, parameters(credential))

    async def get(self, credential_id: UUID) -> Credential | None:
        rows = await self._changing.rows(_HOLD, {"credential_id": credential_id})
        return CREDENTIALS.record(rows[0]) if rows else None

    async def of_client(self, client_id: UUID, now: datetime) -> Sequence[Credential]:
        return await _usable(self._changing, client_id, now)

    async def save(self, credential: Credential) -> None:
        kept = parameters(credential)
        await self._changing.change(
            _SAVE,
            {name: kept[name] for name in _CHANGES} | {"key": credential.credential_id},
            missing="there is no such credential",
        )

    async def rehash(self, credential_id: UUID, was: str, secret_hash: str, tag: str) -> bool:
        changed = {"key": credential_id, "was": was, "hash": secret_hash, "tag": tag}
        return bool(await self._changing.rows(_REHASH, changed))

    async def used(self, uses: Mapping[UUID, datetime]) -> Collection[UUID]:
        found = await self._changing.rows(
            _USED, {"all_ids": list(uses), "all_instants": list(uses.values())}
        )
        noted = {row[0] for row in found}
        return [credential_id for credential_id in uses if credential_id not in noted]

    async def revoke_all(self, client_id: UUID, now: datetime) -> Sequence[UUID]:
        revoked = await self._changing.rows(_REVOKE_ALL, {"of_client": client_id, "now": now})
        return [credential_id for _, credential_id in sorted(tuple(row) for row in revoked)]


@lru_cache
def _many(names: tuple[str, ...]) -> Select[Any]:
    return select(*CREDENTIALS.columns(names)).where(
        among(credentials.c.credential_id, "credential_ids")
    )


async def _usable(database: Runs, client_id: UUID, now: datetime) -> Sequence[Credential]:
    rows = await database.rows(_USABLE, {"of_client": client_id, "now": now})
    return [CREDENTIALS.record(row) for row in rows]


def _given(filter: CredentialFilter) -> Parameters:
    return given(
        client_id=filter.client_id,
        status=filter.status,
        replaced=filter.replaced,
        used_from=filter.last_used_at.gte,
        used_before=filter.last_used_at.lt,
    )
