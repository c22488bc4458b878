"""Logins on PostgreSQL: those of a tenant that come at the same time, in one statement.

Every login reads its rows, so that what was revoked a moment ago is refused, and nothing is read
as often. A statement begins after each of its logins was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import Row, and_, bindparam, literal_column, or_, select
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncEngine

from db.batching import Batched
from db.namespace import TenantPrefix
from db.postgres.connections import Reading
from db.postgres.listing import among
from db.postgres.rows import AGENTS, CREDENTIALS
from db.records import Credential, CredentialStatus, Login
from db.tables import agents, credentials

# So many answers set as many requests going at once, and each has a token to sign.
_MOST = 32
_ROOM = 4096

_OF_AGENT = AGENTS.wanted(Login.AGENT)
_OF_CREDENTIAL = CREDENTIALS.wanted(Login.CREDENTIAL)
_WIDTH = len(_OF_AGENT)
_LOGINS = (
    select(*AGENTS.columns(_OF_AGENT), *CREDENTIALS.columns(_OF_CREDENTIAL))
    .select_from(agents)
    .outerjoin(
        credentials,
        and_(
            credentials.c.client_id == agents.c.agent_id,
            # In the text of the statement: a plan made for any values must know the index.
            credentials.c.status == literal_column(f"'{CredentialStatus.ACTIVE.value}'"),
            or_(
                credentials.c.expires_at.is_(None),
                credentials.c.expires_at > bindparam("now", type_=TIMESTAMP(timezone=True)),
            ),
        ),
    )
    .where(among(agents.c.agent_id, "client_ids"))
    .order_by(credentials.c.created_at.desc(), credentials.c.credential_id.desc())
)

_Asked: TypeAlias = tuple[UUID, datetime]


class PostgresLogins:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # For as long as anybody waits; tenants come and go.
        self._of_tenants: WeakValueDictionary[TenantPrefix, Batched[_Asked, Login | None]] = (
            WeakValueDictionary()
        )

    async def login(self, tenant: TenantPrefix, client_id: UUID, now: datetime) -> Login | None:
        asked = self._of_tenants.get(tenant)
        if asked is None:
            batch = _Batch(Reading(self._engine, tenant))
            asked = self._of_tenants[tenant] = Batched(batch.run, most=_MOST, room=_ROOM)
        return await asked.ask((client_id, now))


class _Batch:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def run(self, asked: Sequence[_Asked]) -> Sequence[Login | None]:
        rows = await self._reading.rows(
            _LOGINS,
            {
                "client_ids": list({client_id for client_id, _ in asked}),
                "now": min(now for _, now in asked),
            },
        )
        found = _by_client(rows)
        return [_at(found.get(client_id), now) for client_id, now in asked]


def _by_client(rows: Sequence[Row[Any]]) -> Mapping[UUID, Login]:
    found: dict[UUID, tuple[Row[Any], list[Credential]]] = {}
    at = _OF_AGENT.index("agent_id")
    for row in rows:
        _, own = found.setdefault(row[at], (row, []))
        of_credential = row[_WIDTH:]
        if of_credential[0] is not None:
            own.append(CREDENTIALS.record(of_credential, _OF_CREDENTIAL))
    return {
        client_id: Login(AGENTS.record(row, _OF_AGENT), own)
        for client_id, (row, own) in found.items()
    }


def _at(login: Login | None, now: datetime) -> Login | None:
    if login is None:
        return None
    return Login(login.agent, [each for each in login.credentials if each.usable_at(now)])
