"""Revoked tokens, and what decides about a token that verifies, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, and_, bindparam, exists, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from db.cuts import CutKind, Cuts
from db.postgres import cuts
from db.postgres.connections import Changing, Reading, Runs
from db.postgres.rows import CREDENTIALS, REVOCATIONS, parameters
from db.records import AgentStatus, Revocation, Standing
from db.tables import agents, credentials, token_revocations

_REVOKED = exists(
    select(literal_column("1"))
    .select_from(token_revocations)
    .where(token_revocations.c.jti == bindparam("jti", type_=Uuid))
)
_CONTAINS = select(_REVOKED)
_GET = select(*REVOCATIONS.columns(REVOCATIONS.names)).where(
    token_revocations.c.jti == bindparam("jti", type_=Uuid)
)
_BATCH = (
    select(*REVOCATIONS.columns(REVOCATIONS.names))
    .where(token_revocations.c.jti > bindparam("after", type_=Uuid))
    .order_by(token_revocations.c.jti)
    .limit(bindparam("limit"))
)
_STANDING = (
    select(
        _REVOKED.label("revoked"),
        agents.c.status.label("agent_status"),
        agents.c.token_generation,
        agents.c.kill_switched_at.is_not(None).label("killed"),
        *CREDENTIALS.columns(CREDENTIALS.names),
    )
    .select_from(agents)
    .outerjoin(
        credentials,
        and_(
            credentials.c.credential_id == bindparam("credential_id", type_=Uuid),
            credentials.c.client_id == agents.c.agent_id,
        ),
    )
    .where(agents.c.agent_id == bindparam("agent_id", type_=Uuid))
)
_ADD = insert(token_revocations).on_conflict_do_nothing().returning(token_revocations.c.jti)


class PostgresRevocationReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def contains(self, jti: UUID) -> bool:
        [[revoked]] = await self._reading.rows(_CONTAINS, {"jti": jti})
        return bool(revoked)

    async def get(self, jti: UUID) -> Revocation | None:
        rows = await self._reading.rows(_GET, {"jti": jti})
        return REVOCATIONS.record(rows[0]) if rows else None

    async def batch(self, after: UUID, limit: int) -> Sequence[Revocation]:
        rows = await self._reading.rows(_BATCH, {"after": after, "limit": limit})
        return [REVOCATIONS.record(row) for row in rows]

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return await _standing(self._reading, jti, agent_id, credential_id)

    async def cuts(
        self, kind: CutKind, now: datetime, since: datetime | None, after: UUID, limit: int
    ) -> Cuts:
        return await cuts.some(self._reading, kind, now, since, after, limit)

    async def recent_cuts(self, now: datetime, since: datetime, limit: int) -> Sequence[Cuts]:
        return await cuts.recent(self._reading, now, since, limit)


class PostgresRevocationStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def add(self, revocation: Revocation) -> bool:
        return bool(await self._changing.rows(_ADD, parameters(revocation)))

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return await _standing(self._changing, jti, agent_id, credential_id)


async def _standing(
    database: Runs, jti: UUID, agent_id: UUID, credential_id: UUID
) -> Standing | None:
    rows = await database.rows(
        _STANDING, {"jti": jti, "agent_id": agent_id, "credential_id": credential_id}
    )
    if not rows:
        return None
    revoked, status, generation, killed, *credential = tuple(rows[0])
    return Standing(
        revoked=revoked,
        agent_status=AgentStatus(status),
        token_generation=generation,
        credential=CREDENTIALS.record(credential) if credential[0] is not None else None,
        killed=killed,
    )
