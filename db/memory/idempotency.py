"""What came of a request, for the caller who repeats it, in memory."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from db.memory.copies import fresh, stored
from db.memory.units import Life
from db.records import IdempotencyKey

Keys = dict[tuple[str, UUID], IdempotencyKey]


class MemoryIdempotency:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get(self, scope: str, key: UUID, now: datetime) -> IdempotencyKey | None:
        found = self._keys.get((scope, key))
        return None if found is None or found.over(now) else fresh(found)


class MemoryIdempotencyStore:
    def __init__(self, keys: Keys, life: Life) -> None:
        self._keys = keys
        self._life = life
        self._claimed: Keys = {}
        self._swept: list[tuple[str, UUID]] = []

    async def claim(self, record: IdempotencyKey) -> IdempotencyKey | None:
        self._life.go_on()
        name = (record.scope, record.key)
        found = self._claimed.get(name) or self._keys.get(name)
        if found is not None and not found.over(record.created_at):
            return fresh(found)
        self._claimed[name] = stored(record)
        return None

    async def sweep(self, now: datetime) -> int:
        self._life.go_on()
        over = [name for name, record in self._keys.items() if record.over(now)]
        self._swept += over
        return len(over)

    def keep(self) -> None:
        for name in self._swept:
            self._keys.pop(name, None)
        self._keys.update(self._claimed)
