"""Revoked tokens, and what decides about a token that verifies, on PostgreSQL."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Uuid, and_, bindparam, exists, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from db.postgres.connections import Changing, Reading, Runs
from db.postgres.rows import CREDENTIALS, parameters
from db.records import AgentStatus, Revocation, Standing
from db.tables import agents, credentials, token_revocations

_REVOKED = exists(
    select(literal_column("1"))
    .select_from(token_revocations)
    .where(token_revocations.c.jti == bindparam("jti", type_=Uuid))
)
_CONTAINS = select(_REVOKED)
_STANDING = (
    select(
        _REVOKED.label("revoked"),
        agents.c.status.label("agent_status"),
        agents.c.token_generation,
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

    async def standing(self, jti: UUID, agent_id: UUID, credential_id: UUID) -> Standing | None:
        return await _standing(self._reading, jti, agent_id, credential_id)


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
    revoked, status, generation, *credential = tuple(rows[0])
    return Standing(
        revoked=revoked,
        agent_status=AgentStatus(status),
        token_generation=generation,
        credential=CREDENTIALS.record(credential) if credential[0] is not None else None,
    )
