"""The nouns, as frozen records, with the specification's exact words.

A record read with only some of its fields (`db.fields`) has those and no others: touching another
raises AttributeError, so that a field forgotten in a query cannot pass for an empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, TypeAlias
from uuid import UUID

from db.namespace import TenantPrefix

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
JSONObject: TypeAlias = "dict[str, JSON]"

IDEMPOTENCY_SPAN = timedelta(hours=24)

NIL_AGENT = UUID(int=0)
"""Stands in an audit event for a client that nobody knows, and for the operator, who is none."""


class AgentType(StrEnum):
    SCREENER = "screener"
    CLASSIFIER = "classifier"
    ORCHESTRATOR = "orchestrator"
    EXTRACTOR = "extractor"
    SUMMARIZER = "summarizer"
    ROUTER = "router"
    MONITOR = "monitor"
    CUSTOM = "custom"


class DeploymentEnv(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class AgentStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DECOMMISSIONED = "decommissioned"


class CredentialStatus(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"


class AuditAction(StrEnum):
    AGENT_CREATED = "agent.created"
    AGENT_UPDATED = "agent.updated"
    AGENT_DECOMMISSIONED = "agent.decommissioned"
    AGENT_SUSPENDED = "agent.suspended"
    AGENT_REACTIVATED = "agent.reactivated"
    TOKEN_ISSUED = "token.issued"
    TOKEN_REVOKED = "token.revoked"
    TOKEN_INTROSPECTED = "token.introspected"
    CREDENTIAL_GENERATED = "credential.generated"
    CREDENTIAL_ROTATED = "credential.rotated"
    CREDENTIAL_REVOKED = "credential.revoked"
    AUTH_FAILED = "auth.failed"
    POLICY_EVALUATED = "policy.evaluated"
    KILL_SWITCH_ENGAGED = "kill_switch.engaged"
    KILL_SWITCH_RELEASED = "kill_switch.released"
    CUSTOM = "custom"


class AuditOutcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    ALLOW = "allow"
    BLOCK = "block"
    WARN = "warn"
    REQUIRE_APPROVAL = "require_approval"
    MASK = "mask"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class TenantStatus(StrEnum):
    PROVISIONING = "provisioning"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REMOVING = "removing"
    REMOVED = "removed"
    FAILED = "failed"


class SigningAlgorithm(StrEnum):
    """Source: RFC 7518 §3.1, RFC 8037 §3.1."""

    ES256 = "ES256"
    RS256 = "RS256"
    EDDSA = "EdDSA"


class SigningKeyStatus(StrEnum):
    PUBLISHED = "published"
    SIGNING = "signing"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered identity. `agent_id`, `email` and `created_at` never change."""

    agent_id: UUID
    email: str
    agent_type: AgentType
    version: str
    capabilities: tuple[str, ...]
    owner: str
    deployment_env: DeploymentEnv
    status: AgentStatus
    created_at: datetime
    updated_at: datetime
    name: str | None = None
    framework: str | None = None
    description: str | None = None
    channels: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    permissions: JSON = None
    metadata: JSON = None
    composite_score: int = 0
    governance_level: int = 0
    token_generation: int = 0
    kill_switched_at: datetime | None = None
    kill_switch_reason: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether it may act. The kill switch stands beside the status and leaves it as it is."""
        return self.status is AgentStatus.ACTIVE and self.kill_switched_at is None


@dataclass(frozen=True, slots=True)
class Credential:
    """What an agent proves itself by: a client secret, or a key of its own.

    Of a secret there is the bcrypt hash, and `secret_tag`: a few bits of a digest, which say that
    only this hash is worth comparing. A key has its public half as a JWK, and a hash that nothing
    matches. `replaced_by` is what a rotation made; the old one may work on for an overlap.
    """

    credential_id: UUID
    client_id: UUID
    secret_hash: str = field(repr=False)
    status: CredentialStatus
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    label: str | None = None
    last_used_at: datetime | None = None
    secret_tag: str | None = field(default=None, repr=False)
    public_key: JSON = None
    replaced_by: UUID | None = None

    @property
    def was_cut(self) -> bool:
        """Whether its tokens ended with it. One that came to its own end is shown as revoked at
        that very instant, and its tokens outlive it; whoever wants them cut revokes it still."""
        return self.status is CredentialStatus.REVOKED and (
            self.revoked_at is None or self.revoked_at != self.expires_at
        )

    def usable_at(self, now: datetime) -> bool:
        """The second of `expires_at` itself is already too late."""
        return self.status is CredentialStatus.ACTIVE and (
            self.expires_at is None or now < self.expires_at
        )


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the trail. `agent_id` is who did it; on whom it was done is in `metadata`."""

    event_id: UUID
    agent_id: UUID
    action: AuditAction
    outcome: AuditOutcome
    ip_address: str
    user_agent: str
    metadata: JSONObject
    timestamp: datetime
    severity: Severity = Severity.INFO
    event_type: str | None = None
    policy_rule_id: str | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """A token that is refused until `expires_at`, when it ends by itself."""

    jti: UUID
    expires_at: datetime
    revoked_at: datetime


@dataclass(frozen=True, slots=True)
class Tenant:
    """A row of the registry. `slug` is also the table prefix and is never given twice.

    `status_reason` says why it is not active, where there is more to say than the status;
    `administrator_id` is its first administrator, whom the operator can help to a new secret.
    """

    slug: str
    display_name: str
    status: TenantStatus
    created_at: datetime
    updated_at: datetime
    revision: str | None = None
    token_generation: int = 0
    retention_days: int | None = None
    resource_servers: tuple[str, ...] = ()
    limits: JSON = None
    status_reason: str | None = None
    administrator_id: UUID | None = None
    kill_switched_at: datetime | None = None
    kill_switch_reason: str | None = None

    @property
    def prefix(self) -> TenantPrefix:
        return TenantPrefix(self.slug)

    @property
    def is_active(self) -> bool:
        """Whether it is served. Its agents may act if their kill switch is not engaged, either."""
        return self.status is TenantStatus.ACTIVE

    @property
    def is_killed(self) -> bool:
        """Whether no token is issued to any of its agents, and none from before is accepted."""
        return self.kill_switched_at is not None


@dataclass(frozen=True, slots=True)
class OperatorEvent:
    """What the operator did. `action` is a word such as `tenant.onboarded`."""

    event_id: UUID
    action: str
    tenant: str | None
    outcome: AuditOutcome
    ip_address: str
    user_agent: str
    metadata: JSONObject
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Purge:
    """A month of a tenant's trail that is gone: its events were older than `before`, and in the
    span from `lower` (None: the beginning) up to `upper`. `digest` is that of the ids of all of
    them, as `db.digests` says."""

    purge_id: UUID
    tenant: str
    partition: str
    lower: datetime | None
    upper: datetime
    before: datetime
    events: int
    digest: str
    purged_at: datetime


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What came of a request, for the caller who repeats it. `scope` is whose key it is;
    `fingerprint` the SHA-256 of the operation and its input; `result` holds no secret."""

    scope: str
    key: UUID
    fingerprint: str
    result: JSONObject
    created_at: datetime

    def over(self, now: datetime) -> bool:
        """Whether the key may be used for something else."""
        return self.created_at + IDEMPOTENCY_SPAN <= now


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`private_key` is encrypted (KEY_ENCRYPTION_SECRET); at most one key is `signing`. One that is
    `published` verifies: before it signs, so that everybody knows it by then, and afterwards, until
    the last of its tokens has ended. `changed_at` is when it got its status."""

    kid: str
    algorithm: str
    private_key: bytes = field(repr=False)
    status: SigningKeyStatus
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Login:
    """What decides whether a client proves itself, from one statement: the agent, and those of its
    credentials that are usable at that instant. Of both there is no more than the fields named
    here, which are what a token is made from."""

    AGENT: ClassVar[tuple[str, ...]] = (
        "agent_id", "capabilities", "status", "created_at", "token_generation", "kill_switched_at",
    )  # fmt: skip
    CREDENTIAL: ClassVar[tuple[str, ...]] = (
        "credential_id", "client_id", "secret_hash", "status", "created_at", "expires_at",
        "last_used_at", "secret_tag", "public_key",
    )  # fmt: skip

    agent: Agent
    credentials: Sequence[Credential]


@dataclass(frozen=True, slots=True)
class Standing:
    """All that decides whether a token which verifies is still accepted, from one statement."""

    revoked: bool
    agent_status: AgentStatus
    token_generation: int
    credential: Credential | None
    killed: bool = False

    def admits(self, agent_id: UUID, generation: int) -> bool:
        """Whether a token of that agent, of that generation of it, is still accepted.

        A token outlives the end of the credential that it was issued for, but not the
        credential's revocation.
        """
        return (
            not self.revoked
            and not self.killed
            and self.agent_status is AgentStatus.ACTIVE
            and self.token_generation <= generation
            and self.credential is not None
            and self.credential.client_id == agent_id
            and not self.credential.was_cut
        )
