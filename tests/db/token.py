"""A token that verifies, as `db` knows it: by what can cut it off."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Token:
    jti: UUID
    sub: UUID
    credential_id: UUID
    gen: tuple[int, int] = (3, 5)
    kid: str = "k"
