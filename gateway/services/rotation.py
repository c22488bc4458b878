"""Rotation: what becomes of a credential when another takes its place.

Without an overlap it is revoked, and its tokens are cut. With one it works on until the overlap is
over, or its own end has come, and the tokens that it got live out their time; whoever wants them
cut revokes it. A secret is replaced by a secret or by a key; a key by another key alone, so that
nobody goes back to a secret without saying so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from db.errors import CredentialNotActive, InvalidInput
from db.records import Credential, CredentialStatus

MAX_OVERLAP = 7 * 24 * 60 * 60  # seconds
_MICROSECOND = timedelta(microseconds=1)


def overlap_of(seconds: int) -> timedelta:
    """Raises InvalidInput."""
    if not 0 <= seconds <= MAX_OVERLAP:
        raise InvalidInput(f"an overlap has 0 to {MAX_OVERLAP} seconds", ("overlapSeconds",))
    return timedelta(seconds=seconds)


def require_rotatable(credential: Credential, now: datetime) -> None:
    """Raises CredentialNotActive."""
    if not credential.usable_at(now):
        raise CredentialNotActive("the credential is revoked or has expired", ("credentialId",))
    # Of a chain of credentials one is the newest, and only that one has a successor to be given.
    if credential.replaced_by is not None:
        raise CredentialNotActive(
            "the credential has been replaced already: rotate its successor", ("credentialId",)
        )


def require_secret(credential: Credential) -> None:
    """Raises InvalidInput for a key."""
    if credential.public_key is not None:
        raise InvalidInput("a key is replaced by another key: give its public half", ("publicKey",))


def replaced(
    credential: Credential, successor: UUID, now: datetime, overlap: timedelta
) -> Credential:
    """What is left of it."""
    if not overlap:
        return replace(revoked(credential, now), replaced_by=successor)
    end = now + overlap
    if credential.expires_at is not None:
        end = min(end, credential.expires_at)
    return replace(credential, expires_at=end, replaced_by=successor)


def revoked(credential: Credential, now: datetime) -> Credential:
    # At the very instant of its end it would look as if it had come to that by itself, and its
    # tokens would live on (`Credential.was_cut`).
    at = now + _MICROSECOND if now == credential.expires_at else now
    return replace(credential, status=CredentialStatus.REVOKED, revoked_at=at)
