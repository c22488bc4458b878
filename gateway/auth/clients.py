"""A client proves itself (RFC 6749 §2.3).

Whatever is wrong, the answer and its cost are the same; the reason is for the audit log alone. The
cost is one password hash, however many credentials there are: the tag beside a hash says whether
it is worth comparing, and where none is, a decoy of the configured cost is compared. So a hash of
another cost, from before BCRYPT_COST was changed, is met by its own secret alone, and replaced
then. Two exceptions are as rare as they are bounded. Credentials of one client whose secrets have
the same tag (one pair in 65,536) are compared one after the other. And so are those without a tag,
which an older version made: as many as a client may have, until each is first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from db.contract import Storage
from db.records import Agent, Credential, Login, Tenant
from gateway.auth.attempts import Attempt
from gateway.auth.secrets import SecretHasher, tag_of
from gateway.auth.upgrades import Upgrades
from gateway.auth.verification import Key, Verifications

# What a credential that is a key has in the place of a hash.
NO_HASH = "!"
_SETTLING = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What was presented, whoever it belongs to."""

    client_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KnownClient:
    agent: Agent
    credential: Credential


@dataclass(frozen=True, slots=True)
class RefusedClient:
    """`agent_id` is None for a client that nobody knows; `reason` is one word for the audit. `wait`
    is in seconds, for one whose proof was not looked at because too many have failed."""

    agent_id: UUID | None
    reason: str
    wait: int = 0


class ClientAuthenticator:
    def __init__(self, storage: Storage, hasher: SecretHasher) -> None:
        self._storage = storage
        self._hasher = hasher
        self._verifications = Verifications()
        self._upgrades = Upgrades(storage, hasher, self._verifications)

    async def nobody(self, secret: str, attempt: Attempt, now: datetime) -> RefusedClient:
        """Costs what `by_secret` costs for a client that nobody knows."""
        await attempt.look(now)
        if wait := attempt.begin():
            return RefusedClient(None, "throttled", wait)
        await self._hasher.matches(secret, None, attempt.network)
        return RefusedClient(None, "unknown_client")

    async def by_secret(
        self, tenant: Tenant, proof: ClientSecret, attempt: Attempt, now: datetime
    ) -> KnownClient | RefusedClient:
        """Who presented it. Raises Unavailable."""
        identifier = canonical_uuid(proof.client_id)
        reader = self._storage.read(tenant.prefix).credentials
        login = await reader.login(identifier, now) if identifier else None
        if login is None:
            return await self.nobody(proof.secret, attempt, now)
        agent, banned = login.agent, ban(tenant, login.agent)
        compared = _worth_comparing(login, proof.secret)
        keys = [self._key(tenant, each, proof.secret) for each in compared]
        if banned is not None or not compared:
            await attempt.look(now)
            if wait := attempt.begin():
                return RefusedClient(agent.agent_id, "throttled", wait)
            same = await self._same(compared, proof.secret, attempt)
            return RefusedClient(agent.agent_id, banned if banned and same else _why(login))
        # What is known comes before what would have to be hashed.
        for credential, key in sorted(
            zip(compared, keys, strict=True),
            key=lambda each: not self._verifications.knows(each[1]),
        ):
            if not attempt.has_begun and not self._costs_nothing(key):
                await attempt.look(now)
                # Others may have begun meanwhile, or even ended.
                if not self._costs_nothing(key) and (wait := attempt.begin()):
                    return RefusedClient(agent.agent_id, "throttled", wait)
            if await self._verified(tenant, credential, key, proof.secret, attempt):
                return KnownClient(agent, credential)
        return RefusedClient(agent.agent_id, _why(login))

    async def close(self) -> None:
        """What is on its way for nobody has a moment to end in."""
        await self._upgrades.settle(_SETTLING)
        await self._verifications.close()

    def _costs_nothing(self, key: Key) -> bool:
        """Whether it is known, or what is on its way for others has only to be waited for."""
        return self._verifications.knows(key) or self._verifications.under_way(key)

    def _key(self, tenant: Tenant, credential: Credential, secret: str) -> Key:
        return self._verifications.key(
            tenant.slug, credential.credential_id, credential.secret_hash, secret
        )

    async def _verified(
        self, tenant: Tenant, credential: Credential, key: Key, secret: str, attempt: Attempt
    ) -> bool:
        async def compare() -> bool:
            same = await self._hasher.matches(secret, credential.secret_hash, attempt.network)
            if same:
                self._upgrades.start(tenant, credential, secret)
            return same

        return await self._verifications.verify(key, compare)

    async def _same(self, compared: Sequence[Credential], secret: str, attempt: Attempt) -> bool:
        """Whether one of them matches, with nothing remembered and the cost of a hash at least."""
        if not compared:
            return await self._hasher.matches(secret, None, attempt.network)
        for credential in compared:
            if await self._hasher.matches(secret, credential.secret_hash, attempt.network):
                return True
        return False


def canonical_uuid(text: str) -> UUID | None:
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None


def ban(tenant: Tenant, agent: Agent) -> str | None:
    """Why an agent that proved itself is refused all the same, in a word; None if it is not."""
    if tenant.is_killed or agent.kill_switched_at is not None:
        return "kill_switch"
    return None if agent.is_active else f"agent_{agent.status.value}"


def _worth_comparing(login: Login, secret: str) -> Sequence[Credential]:
    """Those whose tag is the secret's, and then those that have none."""
    tag = tag_of(secret)
    hashed = [each for each in login.credentials if each.secret_hash != NO_HASH]
    tagged = [each for each in hashed if each.secret_tag == tag]
    return tagged + [each for each in hashed if each.secret_tag is None]


def _why(login: Login) -> str:
    return "wrong_secret" if login.credentials else "no_credential"
