"""A tenant's prefix, and every physical name that is made from it.

Names of one tenant never meet those of another: `db` asks for a name here or not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.errors import InvalidPrefix

# PostgreSQL cuts identifiers at 63 bytes and two long prefixes would share a table; the longest
# name below adds 33 bytes (`_idx_token_revocations_expires_at`), so 24 leaves room for more.
PREFIX_PATTERN = r"[a-z][a-z0-9_]{0,22}[a-z0-9]"
_PREFIX = re.compile(PREFIX_PATTERN)
_RESERVED = frozenset({
    "admin", "agentidp", "alembic", "default", "information_schema", "operator",
    "postgres", "public", "registry", "system", "template", "tenant", "tenants",
})  # fmt: skip

REGISTRY_VERSION_TABLE = "registry_alembic_version"
APPEND_ONLY_FUNCTION = "agentidp_append_only"


def prefix_problem(text: str) -> str | None:
    """Why `text` cannot be a tenant's slug, in a sentence; None when it can."""
    if not _PREFIX.fullmatch(text) or "__" in text:
        return (
            "a slug has 2 to 24 characters of a-z, 0-9 and single underscores, "
            "starts with a letter and does not end with an underscore"
        )
    if text in _RESERVED or text.startswith("pg_"):
        return "this slug is reserved"
    return None


def retired_key(kid: str) -> str:
    """The revocation cache's key for a signing key that is retired; it is no tenant's."""
    return f"revocations:key:{kid}"


def budget_key(digest: str) -> str:
    """The cache's key for a count of failures or requests; whose it is, the digest stands for."""
    return f"budget:{digest}"


@dataclass(frozen=True, slots=True)
class TenantPrefix:
    """The prefix of a registered tenant. Made from its registry row alone, never from a request.

    Raises InvalidPrefix for text that could not have come from there.
    """

    value: str

    def __post_init__(self) -> None:
        if problem := prefix_problem(self.value):
            raise InvalidPrefix(problem)

    def __str__(self) -> str:
        return self.value

    def table(self, name: str) -> str:
        return f"{self.value}_{name}"

    def index(self, name: str) -> str:
        return f"{self.value}_{name}"

    def constraint(self, name: str) -> str:
        return f"{self.value}_{name}"

    def trigger(self, name: str) -> str:
        return f"{self.value}_{name}"

    def audit_partition(self, month: datetime) -> str:
        """`acme_audit_events_y2026m11`."""
        return f"{self.value}_audit_events_y{month.year:04d}m{month.month:02d}"

    @property
    def audit_partition_pattern(self) -> str:
        """Matches the names that `audit_partition` makes, of this tenant alone."""
        return rf"^{self.value}_audit_events_y[0-9]{{4}}m[0-9]{{2}}$"

    @property
    def version_table(self) -> str:
        return f"{self.value}_alembic_version"

    # The braces are literal: they make a tenant's keys share one slot of a Redis cluster.
    @property
    def revoked_prefix(self) -> str:
        return f"{{{self.value}}}:revoked:"

    def revoked_key(self, identifier: UUID) -> str:
        """Of a token's jti or of a credential's id."""
        return f"{self.revoked_prefix}{identifier}"

    @property
    def agent_generation_prefix(self) -> str:
        return f"{{{self.value}}}:gen:"

    def agent_generation_key(self, agent_id: UUID) -> str:
        return f"{self.agent_generation_prefix}{agent_id}"

    @property
    def tenant_generation_key(self) -> str:
        return f"{{{self.value}}}:gen"
