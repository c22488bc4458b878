"""The dual-store rule: storage remembers every revocation, the cache refuses fast.

A revocation is committed to storage first and only then published to the cache. A hit in the cache
refuses a token with one round trip. A miss is believed only when the cache proves, in the same
round trip, that it holds every cut (`db.warmth`); storage decides otherwise. Keys live exactly as
long as a token that they refuse can; of a signing key that is for ever, for it may be in other
hands than ours.

**Acknowledged** is a cut when no process can still believe otherwise. One of three things is true
then. The key is in the cache's server. Or the marker is gone, and with it the claim of a warm-up
that may have read before the commit: the next marker comes from one that reads after it. Or every
marker that could lack the key has ended: its lease counts from reads begun before the commit, so it
ended a lease after the commit at the latest, and the leeway is for clocks and for the time that the
commit took. Otherwise the caller is told to come again; the cut is committed and stays so, and
asking for it again is harmless.

A connection that was left open to a server that another has replaced does not lie here either: the
server that is read instead has a run id of its own, and a marker with that is only set after reads
that see the commit, unless it was set before. Then the two take writes at one address at once, and
the key is there with the next tail.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil
from typing import Protocol
from uuid import UUID

from db.cache import REVOKED, NoCache, RedisRevocations, RevocationCache, open_cache
from db.contract import Storage
from db.cuts import CLOCK_LEEWAY_SECONDS, LAST_SECOND, cut_until, token_until
from db.errors import Unavailable
from db.namespace import TenantPrefix, retired_key
from db.records import SigningKeyStatus, Tenant
from db.warmth import LEASE_SECONDS

__all__ = [
    "CLOCK_LEEWAY_SECONDS",
    "LiveToken",
    "NoCache",
    "RedisRevocations",
    "RevocationCache",
    "Revocations",
    "open_cache",
]

_BELIEVED = timedelta(seconds=LEASE_SECONDS + CLOCK_LEEWAY_SECONDS)
"""How long after a commit somebody may still hold a marker that knows nothing of it."""

_MAX_GENERATION = 2**31 - 1  # of the INTEGER column
_NONE, _FOREIGN = -1, -2


class LiveToken(Protocol):
    """A token that verifies and is within its time, by what can cut it off: itself, its agent, its
    credential, a newer generation (`gen`, of agent and tenant), the end of the key that signed
    it."""

    @property
    def jti(self) -> UUID: ...
    @property
    def sub(self) -> UUID: ...
    @property
    def credential_id(self) -> UUID: ...
    @property
    def gen(self) -> tuple[int, int]: ...
    @property
    def kid(self) -> str: ...


class Revocations:
    """Whether a token that verifies is still good, and how a cut is made known."""

    def __init__(self, storage: Storage, cache: RevocationCache) -> None:
        self._storage = storage
        self._cache = cache

    async def accepts(self, tenant: Tenant, token: LiveToken) -> bool:
        """Whether the token is still accepted. Raises Unavailable, never guesses. `tenant` is the
        registry's row as it was read for this."""
        heard = await self.heard(tenant, token)
        return await self.stored(tenant, token) if heard is None else heard

    async def heard(self, tenant: Tenant, token: LiveToken) -> bool | None:
        """What the cache says, in one round trip; None when storage has to decide.

        `tenant` may be its row as it once was while it was active. Every way out of that, and its
        kill switch, is a cut like any other: it raises the generation. So a True proves that the
        row is as good as new in all that decides about tokens.
        """
        of_agent, of_tenant = token.gen
        if tenant.is_killed or of_tenant < tenant.token_generation:
            return False
        prefix = tenant.prefix
        found = await self._cache.read([
            prefix.revoked_key(token.jti),
            prefix.revoked_key(token.credential_id),
            prefix.agent_generation_key(token.sub),
            prefix.tenant_generation_key,
            retired_key(token.kid),
        ])  # fmt: skip
        revoked, credential, agent, own, key = found.values
        marks = (revoked, credential, key)
        agent_cut, tenant_cut = raised = (_generation(agent), _generation(own))
        if REVOKED in marks or agent_cut > of_agent or tenant_cut > of_tenant:
            return False
        # What is there and none of ours says nothing, and least of all that nothing was cut.
        clean = marks == (None, None, None) and _FOREIGN not in raised
        current = tenant_cut <= tenant.token_generation
        return True if found.warm and clean and current else None

    async def stored(self, tenant: Tenant, token: LiveToken) -> bool:
        """What storage says; `tenant` as for `accepts`. Raises Unavailable."""
        of_agent, of_tenant = token.gen
        if tenant.is_killed or of_tenant < tenant.token_generation:
            return False
        signed_with = await self._storage.registry.signing_keys.get(token.kid)
        if signed_with is not None and signed_with.status is SigningKeyStatus.RETIRED:
            return False
        standing = await self._storage.read(tenant.prefix).revocations.standing(
            token.jti, token.sub, token.credential_id
        )
        return standing is not None and standing.admits(token.sub, of_agent)

    async def is_current(self, tenant: Tenant) -> bool:
        """Whether the row of a tenant that was active is proven by the cache to be as good as new,
        as in `heard`; False when nobody knows."""
        found = await self._cache.read([tenant.prefix.tenant_generation_key])
        raised = _generation(found.values[0])
        return found.warm and raised != _FOREIGN and raised <= tenant.token_generation

    # The four below come after the commit, `since` being the instant that it holds, and again
    # whenever the same is asked for again at a later `now`. They raise Unavailable as long as the
    # cut cannot be acknowledged.

    async def publish_token(
        self, tenant: TenantPrefix, jti: UUID, expires_at: datetime, since: datetime, now: datetime
    ) -> None:
        """One token, until it would have ended by itself."""
        written = await self._cache.mark(tenant.revoked_key(jti), token_until(expires_at))
        await self._acknowledge(written, since, now)

    async def publish_credential(
        self, tenant: TenantPrefix, credential_id: UUID, since: datetime, now: datetime
    ) -> None:
        """Every token of a credential."""
        written = await self._cache.mark(tenant.revoked_key(credential_id), cut_until(since))
        await self._acknowledge(written, since, now)

    async def publish_generation(
        self,
        tenant: TenantPrefix,
        agent_id: UUID | None,
        generation: int,
        since: datetime,
        now: datetime,
    ) -> None:
        """Every token of the agent, or of the whole tenant for None, older than `generation`."""
        key = (
            tenant.tenant_generation_key
            if agent_id is None
            else tenant.agent_generation_key(agent_id)
        )
        written = await self._cache.raise_to(key, generation, cut_until(since))
        await self._acknowledge(written, since, now)

    async def publish_key(self, kid: str, since: datetime, now: datetime) -> None:
        """Every token that is signed with a key, whatever it says of itself."""
        written = await self._cache.mark(retired_key(kid), LAST_SECOND)
        await self._acknowledge(written, since, now)

    async def require_ear(self) -> None:
        """Raises Unavailable when a cut could not be acknowledged now: for whoever has something
        to lose by making it all the same."""
        if await self._cache.answers() is False:
            raise Unavailable(
                "the revocation cache does not answer, so nothing was changed",
                _seconds(_BELIEVED),
            )

    async def is_warm(self) -> bool:
        """Whether the cache is believed about what it has not heard of."""
        return (await self._cache.read([])).warm

    async def cache_answers(self) -> bool | None:
        """Whether the cache's server answers; None when there is none."""
        return await self._cache.answers()

    async def close(self) -> None:
        await self._cache.close()

    async def _acknowledge(self, written: bool, since: datetime, now: datetime) -> None:
        left = since + _BELIEVED - now
        if not written and left > timedelta(0) and not await self._cache.cool():
            raise Unavailable(
                "it is cut off, but not every process may know yet: repeat the request",
                _seconds(left),
            )


def _seconds(span: timedelta) -> int:
    return max(1, ceil(span.total_seconds()))


def _generation(value: object) -> int:
    """A generation from the cache, or one of the two numbers above, which refuse nothing."""
    if value is None:
        return _NONE
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 10:
        return _FOREIGN
    number = int(value)
    return number if number <= _MAX_GENERATION else _FOREIGN
