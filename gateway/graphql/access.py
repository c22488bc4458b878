"""Who may ask for a field: declared on it, printed in the SDL, enforced by the same object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from gateway.auth.principal import (
    Operator,
    Principal,
    agent_of,
    require_operator,
    require_scope,
)
from gateway.graphql.context import Info

Resolver = TypeVar("Resolver", bound=Callable[..., Awaitable[object]])

PUBLIC = "PUBLIC"
"""Anybody at all. The field is its own authentication."""
AGENT = "AGENT"
"""Any agent's token, whatever its scope."""
OPERATOR = "OPERATOR"
"""The operator's token."""


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="access",
    description=(
        "Who may ask for the field: a token with this scope, any agent's token (`AGENT`), the "
        "operator (`OPERATOR`) or anybody (`PUBLIC`). With `orSelf` the scope is needed for what "
        "belongs to other agents alone; with `orOperator` the operator may ask for it too."
    ),
)
class Access(FieldExtension):
    """The directive of a field, and its guard."""

    requires: str
    or_self: bool | None = strawberry.UNSET
    or_operator: bool | None = strawberry.UNSET

    def apply(self, field: StrawberryField) -> None:
        # A field that two types inherit is applied to for each of them.
        if self not in field.directives:
            field.directives = [*field.directives, self]

    async def resolve_async(
        self,
        next_: Callable[..., Awaitable[object]],
        source: object,
        info: Info,
        **arguments: object,
    ) -> object:
        """Raises Unauthenticated or Forbidden before the field is looked at."""
        if info.path.prev is None:
            await info.context.enter_root_field(
                changing=info.path.typename == "Mutation", renew=self.requires != PUBLIC
            )
        self.check(info.context.call.principal)
        return await next_(source, info, **arguments)

    def check(self, principal: Principal) -> None:
        """Raises Unauthenticated or Forbidden. What `orSelf` lets through, the service judges."""
        if self.requires == PUBLIC:
            return
        if self.or_operator is True and isinstance(principal, Operator):
            return
        if self.requires == OPERATOR:
            require_operator(principal)
        elif self.requires == AGENT or self.or_self is True:
            agent_of(principal)
        else:
            require_scope(principal, self.requires)


def guarded(
    requires: str,
    *,
    or_self: bool = False,
    or_operator: bool = False,
    description: str | None = None,
) -> Callable[[Resolver], Resolver]:
    """Makes a field of a resolver, with its access."""
    access = Access(
        requires=requires,
        or_self=or_self or strawberry.UNSET,
        or_operator=or_operator or strawberry.UNSET,
    )
    made: Callable[[Resolver], Resolver] = strawberry.field(
        extensions=[access], description=description
    )
    return made
