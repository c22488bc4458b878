"""The schema, put together from its nouns."""

from __future__ import annotations

import strawberry
from graphql import GraphQLSchema
from strawberry.schema.config import StrawberryConfig

from gateway.graphql.administrators import AdministratorMutations
from gateway.graphql.agents import AgentMutations, AgentQueries
from gateway.graphql.audit import AuditQueries
from gateway.graphql.credentials import CredentialMutations, CredentialQueries
from gateway.graphql.errors import MEMBERS, TRANSLATORS
from gateway.graphql.keys import SigningKeyMutations, SigningKeyQueries
from gateway.graphql.kill_switch import KillSwitchMutations
from gateway.graphql.nodes import NodeQueries
from gateway.graphql.onboarding import OnboardingMutations
from gateway.graphql.scalars import SCALARS
from gateway.graphql.tenants import TenantMutations, TenantQueries
from gateway.graphql.tokens import TokenMutations
from gateway.graphql.work import WorkMutations, WorkQueries


# Fields stand in the order of the bases.
@strawberry.type
class Query(
    NodeQueries,
    AgentQueries,
    CredentialQueries,
    AuditQueries,
    TenantQueries,
    SigningKeyQueries,
    WorkQueries,
):
    pass


@strawberry.type
class Mutation(
    AgentMutations,
    KillSwitchMutations,
    CredentialMutations,
    TokenMutations,
    OnboardingMutations,
    TenantMutations,
    AdministratorMutations,
    SigningKeyMutations,
    WorkMutations,
):
    pass


_strawberry = strawberry.Schema(
    query=Query,
    mutation=Mutation,
    types=MEMBERS,
    exception_handlers=TRANSLATORS,
    config=StrawberryConfig(scalar_map=SCALARS),
)

# Strawberry makes the schema; `execution` runs documents on it without Strawberry's own way in,
# which logs every error with an excerpt of the document.
SCHEMA: GraphQLSchema = _strawberry._schema


def sdl() -> str:
    """What `schema.graphql` holds."""
    return _strawberry.as_str().rstrip("\n") + "\n"
