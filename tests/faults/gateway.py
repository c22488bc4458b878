"""`python -m tests.faults.gateway credulous|by-presence`: a gateway that is broken on purpose, to
show that the torture would see it.

`credulous` believes the cache without asking for the marker; `by-presence` asks only whether there
is one, and not whose.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.cache import Found, RedisRevocations
from db.warmth import MARKER
from gateway.__main__ import main
from gateway.settings import GatewaySettings

_read = RedisRevocations.read


async def _credulous(self: RedisRevocations, keys: Sequence[str]) -> Found:
    found = await _read(self, keys)
    return Found(found.values, warm=True)


async def _by_presence(self: RedisRevocations, keys: Sequence[str]) -> Found:
    found = await _read(self, keys)
    try:
        async with Redis.from_url(GatewaySettings.load().redis_url) as redis:
            return Found(found.values, warm=await redis.exists(MARKER) == 1)
    except (RedisError, OSError):
        return found


_BREAKS = {"credulous": _credulous, "by-presence": _by_presence}

if __name__ == "__main__":
    RedisRevocations.read = _BREAKS[sys.argv.pop(1)]  # type: ignore[method-assign]  # on purpose
    sys.exit(main())
