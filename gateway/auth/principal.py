"""The kinds of caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from db.errors import Forbidden, Unauthenticated
from db.grammar import GATEWAY_CAPABILITIES
from db.records import Tenant


@dataclass(frozen=True, slots=True)
class AgentPrincipal:
    """An agent of an active tenant, with the scope of its token or, by its secret, of itself.

    `jti` and `generation` (of agent and tenant) are the token's; a client that proved itself by its
    secret has no jti, and the generation of that moment.
    """

    tenant: Tenant
    agent_id: UUID
    credential_id: UUID
    scope: frozenset[str]
    generation: tuple[int, int]
    jti: UUID | None


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever holds OPERATOR_TOKEN: tenants and jobs are its own, and no tenant's data."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials were sent at all; wrong ones never come this far."""


Principal: TypeAlias = AgentPrincipal | Operator | Anonymous


def agent_of(principal: Principal) -> AgentPrincipal:
    """Raises Unauthenticated or Forbidden."""
    match principal:
        case AgentPrincipal():
            return principal
        case Anonymous():
            raise Unauthenticated("this needs an access token")
        case Operator():
            raise Forbidden("this belongs to a tenant's agents; the operator has no part in it")


def require_scope(principal: Principal, scope: str) -> AgentPrincipal:
    """Raises Unauthenticated or Forbidden."""
    agent = agent_of(principal)
    if scope not in agent.scope:
        raise Forbidden(f"this needs the scope {scope}", scope)
    return agent


def require_operator(principal: Principal) -> Operator:
    """Raises Unauthenticated or Forbidden."""
    match principal:
        case Operator():
            return principal
        case Anonymous():
            raise Unauthenticated("this needs the operator's token")
        case AgentPrincipal():
            raise Forbidden("this is the operator's alone")


def beyond(scope: frozenset[str], capabilities: frozenset[str]) -> frozenset[str]:
    """The gateway's own capabilities among `capabilities` that `scope` does not cover."""
    return (capabilities & GATEWAY_CAPABILITIES) - scope
