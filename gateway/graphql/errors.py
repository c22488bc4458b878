"""Refusals that a client can act on: members of the mutations' unions, made in one place.

What a service raises becomes the member of the same name when the mutation's union has it. What
no union has goes to `errors[]` (`faults`), and so does everything that queries raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import strawberry
from strawberry.types.field import StrawberryField

from db import errors
from gateway.graphql.context import Info


@strawberry.interface(description="Why a mutation was refused; it has changed nothing.")
class UserError:
    message: str = strawberry.field(description="For people; its wording may change.")
    code: str = strawberry.field(description="For programs; it does not change.")
    path: list[str] | None = strawberry.field(description="Which part of the input is meant.")

    refusal: ClassVar[type[errors.Refused]]


@strawberry.type(description="A value is outside its grammar.")
class InvalidInput(UserError):
    refusal = errors.InvalidInput


@strawberry.type(description="There is no such thing where the caller may look.")
class NotFound(UserError):
    refusal = errors.NotFound


@strawberry.type(description="An agent has or had this address; addresses are never given twice.")
class EmailTaken(UserError):
    refusal = errors.EmailTaken


@strawberry.type(description="A tenant has or had this slug; slugs are never given twice.")
class SlugTaken(UserError):
    refusal = errors.SlugTaken


@strawberry.type(description="The key was used for another request within the last day.")
class IdempotencyKeyReused(UserError):
    refusal = errors.IdempotencyKeyReused


@strawberry.type(description="Only an active agent can be given a secret.")
class AgentNotActive(UserError):
    refusal = errors.AgentNotActive


@strawberry.type(description="Its status does not allow this.")
class InvalidTransition(UserError):
    refusal = errors.InvalidTransition


@strawberry.type(description="The credential has been revoked or has expired.")
class CredentialNotActive(UserError):
    refusal = errors.CredentialNotActive


@strawberry.type(description="The act would give more than the caller's own token holds.")
class ScopeExceeded(UserError):
    refusal = errors.ScopeExceeded


@strawberry.type(description="The agent has as many usable credentials as it may have.")
class TooManyCredentials(UserError):
    refusal = errors.TooManyCredentials


@strawberry.type(description="The client could not be authenticated; the reason is not told.")
class InvalidClient(UserError):
    refusal = errors.InvalidClient


@strawberry.type(description="The scope is malformed, or more than the agent's capabilities.")
class InvalidScope(UserError):
    refusal = errors.InvalidScope


@strawberry.type(description="The resource is not one that tokens of this tenant are made for.")
class InvalidTarget(UserError):
    refusal = errors.InvalidTarget


MEMBERS: tuple[type[UserError], ...] = (
    InvalidInput, NotFound, EmailTaken, SlugTaken, IdempotencyKeyReused, AgentNotActive,
    InvalidTransition, CredentialNotActive, TooManyCredentials, ScopeExceeded, InvalidClient,
    InvalidScope, InvalidTarget,
)  # fmt: skip


def member(refused: errors.Refused, among: Iterable[type[UserError]] = MEMBERS) -> UserError | None:
    """The union member that stands for a refusal, if it is `among` those that may be answered."""
    for kind in among:
        if isinstance(refused, kind.refusal):
            return kind(
                message=refused.message,
                code=refused.code,
                path=None if refused.path is None else list(refused.path),
            )
    return None


class Translator:
    """Strawberry asks it wherever a field's union has `error_type`."""

    def __init__(self, kind: type[UserError]) -> None:
        self.exception_type = kind.refusal
        self.error_type = kind

    def handle(
        self, exception: errors.Refused, *, field: StrawberryField, info: Info
    ) -> UserError | None:
        return member(exception, [self.error_type])


TRANSLATORS = tuple(Translator(kind) for kind in MEMBERS)
