"""What came of a request, for the caller who repeats it, in memory."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from db.memory.copies import fresh, stored
from db.memory.units import Life
from db.records import IdempotencyKey

Name = tuple[str, UUID]
Keys = dict[Name, IdempotencyKey]


class MemoryIdempotency:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get(self, scope: str, key: UUID, now: datetime) -> IdempotencyKey | None:
        found = self._keys.get((scope, key))
        return None if found is None or found.over(now) else fresh(found)


class MemoryIdempotencyStore:
    """`_changed` is what the unit makes of the committed keys: None for one that it forgets."""

    def __init__(self, keys: Keys, life: Life) -> None:
        self._keys = keys
        self._life = life
        self._changed: dict[Name, IdempotencyKey | None] = {}

    async def claim(self, record: IdempotencyKey) -> IdempotencyKey | None:
        self._life.go_on()
        name = (record.scope, record.key)
        found = self._changed[name] if name in self._changed else self._keys.get(name)
        if found is not None and not found.over(record.created_at):
            return fresh(found)
        self._changed[name] = stored(record)
        return None

    async def sweep(self, now: datetime) -> int:
        self._life.go_on()
        held = {**self._keys, **self._changed}
        over = [name for name, record in held.items() if record is not None and record.over(now)]
        self._changed.update(dict.fromkeys(over))
        return len(over)

    def keep(self) -> None:
        for name, record in self._changed.items():
            if record is None:
                self._keys.pop(name, None)
            else:
                self._keys[name] = record
