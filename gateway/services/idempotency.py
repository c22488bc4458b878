"""A request that may be repeated: its caller names it, and for a day it is done once.

Whoever lost the answer sends the same again and is told what came of it, without the secret, which
was in the first answer and is nowhere else. A request that was refused has left nothing behind, so
its key is as good as new.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from db.errors import IdempotencyKeyReused
from db.records import IdempotencyKey, JSONObject
from db.registry import RegistryReader, RegistryUnit
from gateway.auth.principal import Operator
from gateway.services.call import Call

_OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request; `key` is None when its caller has not named it.

    A service asks `earlier` before anything slow, and in the unit that makes the change, before
    anything else, `claim`: of two tries at once one waits there for the other.
    """

    key: UUID | None
    scope: str
    fingerprint: str
    now: datetime

    @classmethod
    def of(cls, call: Call, key: UUID | None, operation: str, said: JSONObject) -> Attempt:
        """`said` is the input as it will be kept, so that the same is the same however written."""
        text = msgspec.json.encode([operation, said], order="deterministic")
        return cls(key, _scope(call), hashlib.sha256(text).hexdigest(), call.now)

    async def earlier(self, registry: RegistryReader) -> JSONObject | None:
        """What came of it, if it was done before. Raises IdempotencyKeyReused."""
        if self.key is None:
            return None
        return self._result(await registry.idempotency.get(self.scope, self.key, self.now))

    async def claim(self, unit: RegistryUnit, result: JSONObject) -> JSONObject | None:
        """Keeps `result`, which holds no secret, with the unit. Otherwise what came of it when it
        was done before; the unit has to change nothing then. Raises IdempotencyKeyReused."""
        if self.key is None:
            return None
        record = IdempotencyKey(self.scope, self.key, self.fingerprint, result, self.now)
        return self._result(await unit.idempotency.claim(record))

    def _result(self, found: IdempotencyKey | None) -> JSONObject | None:
        if found is None:
            return None
        if found.fingerprint != self.fingerprint:
            raise IdempotencyKeyReused(
                "the key was used for another request: take a new one", ("idempotencyKey",)
            )
        return found.result


def _scope(call: Call) -> str:
    """Whose key it is: two callers may think of the same one."""
    if isinstance(call.principal, Operator):
        return _OPERATOR
    return f"{call.tenant.slug}/{call.agent.agent_id}"
