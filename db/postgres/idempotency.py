"""What came of a request, for the caller who repeats it, on PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.postgresql import TIMESTAMP, insert

from db.postgres.connections import Changing, Reading
from db.postgres.rows import IDEMPOTENCY_KEYS, parameters
from db.records import IDEMPOTENCY_SPAN, IdempotencyKey
from db.tables import idempotency_keys

_GET = select(*IDEMPOTENCY_KEYS.columns(IDEMPOTENCY_KEYS.names)).where(
    idempotency_keys.c.scope == bindparam("scope"), idempotency_keys.c.key == bindparam("key")
)
_SINCE = bindparam("since", type_=TIMESTAMP(timezone=True))
_NEW = insert(idempotency_keys)
_CLAIM = _NEW.on_conflict_do_update(
    index_elements=["scope", "key"],
    set_={name: _NEW.excluded[name] for name in ("fingerprint", "result", "created_at")},
    where=idempotency_keys.c.created_at <= _SINCE,
).returning(idempotency_keys.c.key)
_SWEEP = (
    delete(idempotency_keys)
    .where(idempotency_keys.c.created_at <= _SINCE)
    .returning(idempotency_keys.c.key)
)


class PostgresIdempotencyReader:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def get(self, scope: str, key: UUID, now: datetime) -> IdempotencyKey | None:
        rows = await self._reading.rows(_GET, {"scope": scope, "key": key})
        found = IDEMPOTENCY_KEYS.record(rows[0]) if rows else None
        return None if found is None or found.over(now) else found


class PostgresIdempotencyStore:
    def __init__(self, changing: Changing) -> None:
        self._changing = changing

    async def claim(self, record: IdempotencyKey) -> IdempotencyKey | None:
        since = record.created_at - IDEMPOTENCY_SPAN
        if await self._changing.rows(_CLAIM, {**parameters(record), "since": since}):
            return None
        rows = await self._changing.rows(_GET, {"scope": record.scope, "key": record.key})
        return IDEMPOTENCY_KEYS.record(rows[0])

    async def sweep(self, now: datetime) -> int:
        return len(await self._changing.rows(_SWEEP, {"since": now - IDEMPOTENCY_SPAN}))
