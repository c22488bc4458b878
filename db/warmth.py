"""The warm marker: the proof that what the cache has not heard of was never cut off.

The key `revocations:warm` says: every cut that was committed before the reads which this marker
rests on is in this server. Its value is the run id of the server, its life a lease. Whoever asks
the cache reads it in the same round trip and believes a miss only if its value is the run id that
the very same connection learnt when it was made; otherwise PostgreSQL decides.

*The value.* A server that was restarted has another run id. A marker that came back with an old
dump, or over replication from another server, thus names a server that this one is not. A process
cannot mix two servers up: a connection ends with the server's process, and the next one learns
anew. What is written to a server that is gone, or that another has replaced, is lost with it; but
the one that is read instead is cold until a warm-up has read PostgreSQL after it began, and that
holds the write already. Not covered are two servers that both take writes at one address.

*The lease.* It is counted by the server's own clock from a reading taken before the first of the
reads that justify it, never from the moment of writing. So at each instant a marker that is alive
rests on reads begun less than a lease ago: what was committed before then is in the server. What
is committed later is put there by whoever commits it, or is not acknowledged before every marker
that could lack it has ended (`db.revocations`).

*Warm-up.* It takes `revocations:warming` with a value of its own, and loads all that is live. What
was committed meanwhile is read in a second pass, over what was made since the first one began and a
minute more, for an instant that a row holds is older than its commit. The lease counts from the
beginning of that pass. Last, in one script: only if the value is still there, the run id is the
same and nothing was evicted, the marker is set. An emptied or restarted server has lost the value,
another warm-up has replaced it, and who could not publish a cut has deleted it with the marker: in
each case there is no marker. A warm-up that is killed leaves a value that nobody takes up.

*Tail.* Every few seconds what was made in the last two minutes is put there again. That is a lease,
which is the most that lies between the reads of two renewals, and a minute as above. Only then, if
the marker is still there with this server's run id, does it live until a lease after the beginning
of these reads. If the worker dies, the marker does too, and PostgreSQL decides.

*Eviction.* A server that may evict would forget a cut and keep the marker. Each script that sets or
renews it looks at the policy, and at the count of evicted keys, which has to be what it was when
the warm-up began; otherwise it deletes the marker. Somebody may let a server evict between two of
these: so whoever reads the marker has the server compare the two counts in the same command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import uuid4

from db.cuts import CutKind, Cuts
from db.errors import Misconfigured, Unavailable
from db.namespace import TenantPrefix

LEASE_SECONDS = 60
MARKER = "revocations:warm"
CLAIM = "revocations:warming"
EVICTED = "revocations:evicted"
_KEYS = (MARKER, CLAIM, EVICTED)
_PER_SCRIPT = 1000  # keys: the server does nothing else for some milliseconds

Ask: TypeAlias = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
"""Asks the server something; None when it does not answer, or refuses."""

_ABOUT = """
local function told(section, name)
  return string.match(redis.call('INFO', section), '\\n' .. name .. ':([^\\r\\n]*)')
end
local function held(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or ''
end
if told('memory', 'maxmemory') ~= '0'
   and told('memory', 'maxmemory_policy') ~= 'noeviction' then
  redis.call('DEL', KEYS[1], KEYS[2])
  return {'evicts'}
end
local now = redis.call('TIME')[1]
local run, evicted = told('server', 'run_id'), told('stats', 'evicted_keys')
"""
_TELL = "return {'well', run, now, evicted}\n"
_TAKE = "redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])\n"
_OURS = "if held(KEYS[2]) ~= ARGV[1] then return {'lost'} end\n"
_LOOK = _ABOUT + _TELL
_CLAIM = _ABOUT + _TAKE + _TELL
_HOLD = _ABOUT + _OURS + _TAKE + _TELL
_COMPLETE = (
    _ABOUT
    + _OURS
    + """
redis.call('DEL', KEYS[2])
if run ~= ARGV[2] then return {'lost'} end
if evicted ~= ARGV[3] then
  redis.call('DEL', KEYS[1])
  return {'evicted'}
end
if tonumber(ARGV[4]) <= tonumber(now) then return {'late'} end
redis.call('SET', KEYS[3], evicted, 'EXAT', ARGV[4])
redis.call('SET', KEYS[1], run, 'EXAT', ARGV[4])
return {'well'}
"""
)
_RENEW = (
    _ABOUT
    + """
if run ~= ARGV[1] or held(KEYS[1]) ~= run then return {'cold'} end
if held(KEYS[3]) ~= evicted then
  redis.call('DEL', KEYS[1])
  return {'evicted'}
end
if now + redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('EXPIREAT', KEYS[3], ARGV[2])
  redis.call('EXPIREAT', KEYS[1], ARGV[2])
end
return {'well'}
"""
)

# No claim is asked for where none was taken. It is prolonged last: a script that has written
# something already is let write on by a server that has no room left.
_STILL = """
if ARGV[1] ~= '' and redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local call, sub, prefix, text = redis.call, string.sub, ARGV[3], ARGV[4]
"""
_PROLONG = """
if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
_SET_MARKS = """
for i = 1, #text, 46 do
  call('SET', prefix .. sub(text, i, i + 35), '1', 'EXAT', sub(text, i + 36, i + 45))
end
"""
# Two cuts can be published in either order: whoever comes late must not lower the generation.
RAISE = """
local function raise(key, generation, till)
  local there = redis.pcall('GET', key)
  if type(there) == 'string' and #there <= 10 and string.match(there, '^%d+$')
     and tonumber(there) >= generation then
    return 0
  end
  redis.call('SET', key, string.format('%d', generation), 'EXAT', till)
  return 1
end
"""
_RAISE_GENERATIONS = """
for i = 1, #text, 56 do
  raise(prefix .. sub(text, i, i + 35), tonumber(sub(text, i + 46, i + 55)),
        sub(text, i + 36, i + 45))
end
"""
_PUT_MARKS = _STILL + _SET_MARKS + _PROLONG
_PUT_GENERATIONS = RAISE + _STILL + _RAISE_GENERATIONS + _PROLONG

_WIDE = "the cache's server may evict keys: its maxmemory-policy has to be noeviction"
_WHY = {
    "lost": "the cache was emptied, restarted or taken by another warm-up meanwhile",
    "evicted": "the cache's server has evicted keys",
    "late": "the second pass took longer than a lease",
}


@dataclass(frozen=True, slots=True)
class Opening:
    """What the server said before the reads that it is to be filled from. `second` is of its own
    clock; `claim` is empty for a tail."""

    run_id: str
    second: int
    evicted: str
    claim: str = ""

    @property
    def lease_end(self) -> int:
        return self.second + LEASE_SECONDS

    def no_later(self, now: datetime) -> datetime:
        """`now`, or what the server's clock says where that is less: read by a clock that is ahead,
        what is live would seem to be over, and what is recent to be still to come."""
        return min(now, datetime.fromtimestamp(self.second, UTC))


class Warmth:
    """Filling the cache, and saying that it is full. Every method raises Unavailable when the
    server does not answer, and Misconfigured when it may evict."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def look(self) -> Opening:
        """Before the reads of a tail."""
        return _opening(await self._run(_LOOK), "")

    async def claim(self) -> Opening:
        """Before the first pass of a warm-up; any other that is on its way has failed by this."""
        claim = uuid4().hex
        return _opening(await self._run(_CLAIM, claim, LEASE_SECONDS), claim)

    async def hold(self, opening: Opening) -> Opening:
        """Keeps the claim, and says what the server says now. Raises Unavailable when it is
        lost."""
        said = await self._run(_HOLD, opening.claim, LEASE_SECONDS)
        return _opening(said, opening.claim)

    async def put(self, opening: Opening, tenant: TenantPrefix, cuts: Cuts) -> None:
        """Puts `cuts` there; a higher generation that is there stays. Raises Unavailable when the
        claim is lost."""
        raises = cuts.kind is CutKind.AGENT
        script = _PUT_GENERATIONS if raises else _PUT_MARKS
        prefix = tenant.agent_generation_prefix if raises else tenant.revoked_prefix

        async def pumped(redis: Any) -> Sequence[Any]:
            async with redis.pipeline(transaction=False) as pipeline:
                for text in cuts.split(_PER_SCRIPT):
                    pipeline.eval(script, 1, CLAIM, opening.claim, LEASE_SECONDS, prefix, text)
                found: Sequence[Any] = await pipeline.execute()
                return found

        answers = await self._ask(pumped)
        if answers is None:
            raise _silent()
        if not all(answers):
            raise Unavailable(_WHY["lost"])

    async def complete(self, first: Opening, second: Opening) -> None:
        """The marker, for a warm-up whose passes began with these two. Raises Unavailable, and
        there is none, when it cannot be believed."""
        await self._run(_COMPLETE, first.claim, first.run_id, first.evicted, second.lease_end)

    async def renew(self, opening: Opening) -> bool:
        """Prolongs the lease to what reads begun with `opening` justify; False when there is no
        marker of this server's. Raises Unavailable, and there is none, after an eviction."""
        [word, *_] = await self._run(_RENEW, opening.run_id, opening.lease_end)
        return word != b"cold"

    async def _run(self, script: str, *arguments: str | int) -> Sequence[bytes]:
        said = await self._ask(lambda redis: redis.eval(script, len(_KEYS), *_KEYS, *arguments))
        if not isinstance(said, list) or not said:
            raise _silent()
        word = bytes(said[0]).decode()
        if word == "evicts":
            raise Misconfigured(_WIDE)
        if word in _WHY:
            raise Unavailable(_WHY[word])
        return said


def _opening(said: Sequence[bytes], claim: str) -> Opening:
    _, run_id, second, evicted = said
    return Opening(run_id.decode(), int(second), evicted.decode(), claim)


def _silent() -> Unavailable:
    return Unavailable("the revocation cache does not answer, or takes nothing more")
