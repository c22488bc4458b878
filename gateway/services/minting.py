"""Minting: what a credential is made of, and for whom one more may be made.

Whoever makes a secret could use it, so the caller's token must cover every gateway capability of
the agent it is made for; the same goes for a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from db.errors import AgentNotActive, InvalidInput, NotFound, ScopeExceeded, TooManyCredentials
from db.records import Agent, Credential, CredentialStatus, JSONObject
from gateway.auth.clients import NO_HASH
from gateway.auth.jwk import thumbprint
from gateway.auth.principal import beyond
from gateway.auth.secrets import HashedSecret
from gateway.services.call import Call

# Of both kinds, replaced ones included until their overlap is over: an agent has so many ways in at
# most, and a chain of rotations cannot make more.
MAX_USABLE = 10


@dataclass(frozen=True, slots=True)
class FreshCredential:
    """A credential with its secret, which exists nowhere else from here on."""

    credential: Credential
    secret: str = field(repr=False)


def new_credential(
    agent_id: UUID,
    hashed: HashedSecret,
    now: datetime,
    expires_at: datetime | None = None,
    label: str | None = None,
) -> Credential:
    return Credential(
        credential_id=uuid4(),
        client_id=agent_id,
        secret_hash=hashed.hash,
        secret_tag=hashed.tag,
        status=CredentialStatus.ACTIVE,
        created_at=now,
        expires_at=expires_at,
        label=label,
    )


def key_credential(
    agent_id: UUID,
    public_key: JSONObject,
    now: datetime,
    expires_at: datetime | None = None,
    label: str | None = None,
) -> Credential:
    return Credential(
        credential_id=uuid4(),
        client_id=agent_id,
        secret_hash=NO_HASH,
        status=CredentialStatus.ACTIVE,
        created_at=now,
        expires_at=expires_at,
        label=label,
        public_key=public_key,
    )


def require_mintable(call: Call, agent: Agent | None) -> None:
    """Raises NotFound, AgentNotActive and ScopeExceeded."""
    if agent is None:
        raise NotFound("there is no such agent", ("agentId",))
    if not agent.is_active:
        killed = agent.kill_switched_at is not None
        reason = "'s kill switch is engaged" if killed else f" is {agent.status.value}"
        raise AgentNotActive(f"the agent{reason}", ("agentId",))
    if missing := beyond(call.agent.scope, frozenset(agent.capabilities)):
        raise ScopeExceeded(
            f"your token does not hold {' '.join(sorted(missing))}, so it cannot make a secret "
            "that would"
        )


def require_new_key(fresh: Credential, usable: Sequence[Credential]) -> None:
    """Raises InvalidInput for a key that the agent uses: ending either of the two would end
    nothing."""
    if fresh.public_key is None:
        return
    if thumbprint(fresh.public_key) in {thumbprint(e.public_key) for e in usable if e.public_key}:
        raise InvalidInput("the agent has a usable credential of this key", ("publicKey",))


def require_room(usable: Sequence[Credential], path: str) -> None:
    """Raises TooManyCredentials."""
    if len(usable) >= MAX_USABLE:
        raise TooManyCredentials(
            f"the agent has {MAX_USABLE} usable credentials: revoke one first", (path,)
        )


def described(fresh: Credential) -> JSONObject:
    """Of a key also which one it is; of a secret there is nothing to be told."""
    said: JSONObject = {
        "agentId": str(fresh.client_id),
        "credentialId": str(fresh.credential_id),
    }
    if fresh.public_key is not None:
        said["publicKeyThumbprint"] = thumbprint(fresh.public_key)
    return said
