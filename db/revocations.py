"""The dual-store rule: storage remembers every revocation, the cache refuses fast.

A revocation is committed to storage first and only then published to the cache. A hit in the
cache refuses a token with one round trip. A miss proves nothing, for the cache may have been
emptied, restarted or unreachable: storage decides then, so no token is ever accepted on the word
of the cache. Keys live exactly as long as a token that they refuse can.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from db.contract import Storage
from db.namespace import TenantPrefix
from db.records import Tenant
from db.settings import MEMORY

CLOCK_LEEWAY_SECONDS = 30
"""How far the clocks of two processes may be apart: refusals are kept for longer by this much."""

_TIMEOUT = 1  # seconds
_CONNECTIONS = 32
_REVOKED = b"1"
_MAX_GENERATION = 2**31 - 1  # of the INTEGER column
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

# Two cuts can be published in either order: whoever comes late must not lower the generation.
_RAISE = """
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and #held <= 10 and string.match(held, '^%d+$')
   and tonumber(held) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EXAT', ARGV[2])
return 1
"""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class RevocationCache(Protocol):
    """Never raises: what cannot be read is a miss, what cannot be written answers False."""

    async def read(self, keys: Sequence[str]) -> Sequence[object]:
        """The values of `keys` in one round trip, None for those that are not there."""
        ...

    async def mark(self, key: str, until: int) -> bool:
        """Puts `key` there until the second `until` of the Unix clock."""
        ...

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        """As `mark`, with `generation` as the value; a higher one that is there stays."""
        ...

    async def answers(self) -> bool | None:
        """Whether the server answers; None when there is none."""
        ...

    async def close(self) -> None: ...


class NoCache:
    """REDIS_URL=memory://. Every read is a miss, so storage always decides."""

    async def read(self, keys: Sequence[str]) -> Sequence[object]:
        return [None] * len(keys)

    async def mark(self, key: str, until: int) -> bool:
        return True

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        return True

    async def answers(self) -> bool | None:
        return None

    async def close(self) -> None:
        return None


class RedisRevocations:
    """A Redis or Valkey server at a `redis://`, `rediss://` or `unix://` address."""

    def __init__(self, url: str) -> None:
        self._redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
            )
        )
        self._answering = True

    async def read(self, keys: Sequence[str]) -> Sequence[object]:
        found = await self._ask(lambda redis: redis.mget(keys))
        if isinstance(found, list) and len(found) == len(keys):
            return found
        return [None] * len(keys)

    async def mark(self, key: str, until: int) -> bool:
        return await self._ask(lambda redis: redis.set(key, _REVOKED, exat=until)) is not None

    async def raise_to(self, key: str, generation: int, until: int) -> bool:
        return (
            await self._ask(lambda redis: redis.eval(_RAISE, 1, key, generation, until)) is not None
        )

    async def answers(self) -> bool | None:
        return await self._ask(lambda redis: redis.ping()) is not None

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    async def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T | None:
        try:
            answer = await question(self._redis)
        except (RedisError, OSError) as error:
            # The address may hold a password and a command holds ids: the kind says enough. Once,
            # and not again for each request of an outage.
            if self._answering:
                _log.warning("the revocation cache does not answer: %s", type(error).__name__)
            self._answering = False
            return None
        if not self._answering:
            _log.info("the revocation cache answers again")
        self._answering = True
        return answer


def open_cache(redis_url: str) -> RevocationCache:
    """The cache that REDIS_URL names."""
    return NoCache() if redis_url == MEMORY else RedisRevocations(redis_url)


class Revocations:
    """Whether a token that verifies is still good, and how a cut is made known."""

    def __init__(self, storage: Storage, cache: RevocationCache, token_ttl_seconds: int) -> None:
        self._storage = storage
        self._cache = cache
        self._token_ttl = timedelta(seconds=token_ttl_seconds)

    async def accepts(
        self,
        tenant: Tenant,
        *,
        jti: UUID,
        agent_id: UUID,
        credential_id: UUID,
        generation: tuple[int, int],
    ) -> bool:
        """Whether a token within its time is still accepted. Raises Unavailable, never guesses.

        `tenant` is the registry row as just read; `generation` is the token's, of (agent, tenant).
        """
        of_agent, of_tenant = generation
        if of_tenant < tenant.token_generation:
            return False
        prefix = tenant.prefix
        token, credential, agent_cut, tenant_cut = await self._cache.read([
            prefix.revoked_key(jti),
            prefix.revoked_key(credential_id),
            prefix.agent_generation_key(agent_id),
            prefix.tenant_generation_key,
        ])  # fmt: skip
        if (
            _REVOKED in (token, credential)
            or _generation(agent_cut) > of_agent
            or _generation(tenant_cut) > of_tenant
        ):
            return False
        standing = await self._storage.read(prefix).revocations.standing(
            jti, agent_id, credential_id
        )
        return standing is not None and standing.admits(agent_id, of_agent)

    # The three below come after the commit. A cache that does not take the news is not an error
    # for the caller: the cut holds already, since every miss is decided by storage.

    async def publish_token(self, tenant: TenantPrefix, jti: UUID, expires_at: datetime) -> None:
        """One token, until it would have ended by itself."""
        await self._cache.mark(tenant.revoked_key(jti), _until(expires_at))

    async def publish_credential(
        self, tenant: TenantPrefix, credential_id: UUID, now: datetime
    ) -> None:
        """Every token of a credential revoked at `now`."""
        await self._cache.mark(tenant.revoked_key(credential_id), _until(now + self._token_ttl))

    async def publish_generation(
        self, tenant: TenantPrefix, agent_id: UUID | None, generation: int, now: datetime
    ) -> None:
        """Every token of the agent, or of the whole tenant for None, older than `generation`."""
        key = (
            tenant.tenant_generation_key
            if agent_id is None
            else tenant.agent_generation_key(agent_id)
        )
        await self._cache.raise_to(key, generation, _until(now + self._token_ttl))

    async def cache_answers(self) -> bool | None:
        """Whether the cache's server answers; None when there is none."""
        return await self._cache.answers()

    async def close(self) -> None:
        await self._cache.close()


def _until(end: datetime) -> int:
    """The first whole second at which no token that ends at `end` is accepted any more."""
    return -((_EPOCH - end) // _SECOND) + CLOCK_LEEWAY_SECONDS


def _generation(value: object) -> int:
    """A generation from the cache; -1, which refuses nothing, for anything that is not one."""
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 10:
        return -1
    number = int(value)
    return number if number <= _MAX_GENERATION else -1
