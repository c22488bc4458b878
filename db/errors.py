"""Everything that can go wrong below the transports, in one tree.

AgentIdPError
├── Refused                what a caller can act on; each edge translates it once
│   ├── InvalidInput       a value outside its grammar; `path` says which
│   │   └── InvalidCursor  malformed, or of another tenant, sort or filter
│   ├── NotFound           unknown, foreign and malformed ids alike
│   ├── EmailTaken         the address belongs to an agent, decommissioned ones included
│   ├── SlugTaken          the slug is in use, or was
│   ├── IdempotencyKeyReused  the caller's key names another request of its own
│   ├── AgentNotActive     the act needs an active agent
│   ├── InvalidTransition  the status cannot change that way
│   ├── CredentialNotActive  already revoked or expired
│   ├── TooManyCredentials  the agent has as many usable ones as it may have
│   ├── ScopeExceeded      the caller would give more than its own token holds
│   ├── InvalidClient      client authentication failed (RFC 6749 §5.2)
│   ├── InvalidScope       not a subset of the agent's capabilities (RFC 6749 §5.2)
│   └── InvalidTarget      `resource` is no resource server of the tenant (RFC 8707 §2)
├── Denied                 the caller may not do this at all
│   ├── Unauthenticated    no token, or one that is not accepted
│   │   └── MalformedAuthorization  a header that cannot be read, more than one, or another place
│   └── Forbidden          the token lacks a scope
├── Throttled              too much was asked, or got wrong too often; try again later
├── Unavailable            a store cannot be reached; nothing false was said, try again
├── Misconfigured          an operator must act: settings, prefixes, migrations
│   ├── TenantNotBound     a statement reached the database without its tenant
│   ├── TenantNotProvisioned  the tenant's tables were never made, or are gone
│   ├── InvalidPrefix      text that can never name a tenant's tables
│   └── MigrationFailed    a revision did not apply; the database is as it was before it
└── Misused                our own code broke a rule of the contract; nothing was changed
    ├── IdTaken            an id that was to be new is there already
    └── UnitOver           a unit of work was used, or left as if well, after its end
"""

from __future__ import annotations

from typing import ClassVar


class AgentIdPError(Exception):
    """The root. `code` is stable and public; the message is for people and names no secret."""

    code: ClassVar[str] = "INTERNAL_SERVER_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(AgentIdPError):
    code = "BAD_USER_INPUT"
    path: tuple[str, ...] | None = None

    def __init__(self, message: str, path: tuple[str, ...] | None = None) -> None:
        super().__init__(message)
        self.path = path


class InvalidInput(Refused):
    code = "INVALID_INPUT"


class InvalidCursor(InvalidInput):
    code = "INVALID_CURSOR"


class NotFound(Refused):
    code = "NOT_FOUND"


class EmailTaken(Refused):
    code = "EMAIL_TAKEN"


class SlugTaken(Refused):
    code = "SLUG_TAKEN"


class IdempotencyKeyReused(Refused):
    code = "IDEMPOTENCY_KEY_REUSED"


class AgentNotActive(Refused):
    code = "AGENT_NOT_ACTIVE"


class InvalidTransition(Refused):
    code = "INVALID_TRANSITION"


class CredentialNotActive(Refused):
    code = "CREDENTIAL_NOT_ACTIVE"


class TooManyCredentials(Refused):
    code = "TOO_MANY_CREDENTIALS"


class ScopeExceeded(Refused):
    code = "SCOPE_EXCEEDED"


class InvalidClient(Refused):
    """One message for every reason: which one it was is for the audit log alone."""

    code = "INVALID_CLIENT"

    def __init__(self) -> None:
        super().__init__("client authentication failed")


class InvalidScope(Refused):
    code = "INVALID_SCOPE"


class InvalidTarget(Refused):
    code = "INVALID_TARGET"


class Denied(AgentIdPError):
    code = "FORBIDDEN"


class Unauthenticated(Denied):
    code = "UNAUTHENTICATED"


class MalformedAuthorization(Unauthenticated):
    """The request does not say who makes it in a way that can be read (RFC 6750 §3.1)."""


class Forbidden(Denied):
    """`scope` is what the token would have needed (RFC 6750 §3.1)."""

    code = "FORBIDDEN"

    def __init__(self, message: str, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class Throttled(AgentIdPError):
    """`retry_after` is in seconds (RFC 6585 §4)."""

    code = "THROTTLED"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(AgentIdPError):
    """`retry_after` is in seconds (RFC 9110 §10.2.3)."""

    code = "UNAVAILABLE"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Misconfigured(AgentIdPError):
    code = "INTERNAL_SERVER_ERROR"


class TenantNotBound(Misconfigured):
    pass


class TenantNotProvisioned(Misconfigured):
    pass


class InvalidPrefix(Misconfigured):
    pass


class MigrationFailed(Misconfigured):
    pass


class Misused(AgentIdPError):
    code = "INTERNAL_SERVER_ERROR"


class IdTaken(Misused):
    pass


class UnitOver(Misused):
    pass
