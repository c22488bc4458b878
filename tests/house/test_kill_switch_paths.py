"""Whoever is stopped is stopped everywhere: the paths are found in the code, and each is tried.

On two gateways of one deployment, one where the switch is engaged and one that is asked, with a
cache that is cold and one that is warm; and on the one that there is in memory.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import pytest
import redis as blocking
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    build_schema,
    get_named_type,
    is_composite_type,
    is_required_argument,
    is_required_input_field,
)
from graphql.execution import get_directive_values

from db.errors import InvalidClient, Unauthenticated
from gateway.auth.clients import ClientSecret, RefusedClient
from gateway.auth.principal import Anonymous, Operator
from gateway.auth.unproven import ClientAssertion
from gateway.oauth.endpoints import _ENDPOINTS
from gateway.services.call import Call
from gateway.settings import GatewaySettings
from tests.client_keys import ClientKey
from tests.gateway import (
    Client,
    RunningGateway,
    in_memory,
    memory_settings,
    postgres_settings,
    running,
)
from tests.services.test_standing import acts

__all__ = ["in_memory"]

ROOT = Path(__file__).parents[2]
SCHEMA = build_schema((ROOT / "schema.graphql").read_text())
GRANT = {"grant_type": "client_credentials"}

Asked: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Deployment:
    """`subject` is who is going to be stopped: with a secret, a key, and a token."""

    here: RunningGateway
    there: RunningGateway
    admin: Client
    subject: Client
    key: ClientKey
    token: str

    async def stop(self, whom: str) -> None:
        """The operator does it, on one of the gateways."""
        await self.here.gateway.kill_switch.engage(
            self.here.call(Operator()), "it is enough", slug="acme", agent_id=self._named(whom)
        )

    async def release(self, whom: str) -> None:
        await self.here.gateway.kill_switch.release(
            self.here.call(Operator()), slug="acme", agent_id=self._named(whom)
        )

    def _named(self, whom: str) -> UUID | None:
        return UUID(self.subject.client_id) if whom == "agent" else None

    @property
    def _issuer(self) -> str:
        return self.there.gateway.authority.issuer("acme")

    def assertion(self) -> str:
        return self.key.assertion(self.subject.client_id, self._issuer, self.there.clock.now)

    def proof(self, method: str) -> dict[str, Any]:
        """What a request of the subject carries, by a method's name in the server's metadata."""
        client_id, secret = self.subject.client_id, self.subject.secret
        match method:
            case "client_secret_basic":
                return {"auth": (client_id, secret)}
            case "client_secret_post":
                return {"data": {"client_id": client_id, "client_secret": secret}}
            case "private_key_jwt":
                form = self.key.form(client_id, self._issuer, self.there.clock.now)
                return {"data": form}
            case "Bearer":
                return {"headers": {"authorization": f"Bearer {self.token}"}}
        raise AssertionError(f"nobody has tried {method}")

    async def ask(self, endpoint: str, method: str) -> int:
        said = self.proof(method)
        form = GRANT if endpoint == "oauth2/token" else {"token": "none of ours"}
        said["data"] = {**form, **said.get("data", {})}
        answer = await self.there.client.post(f"/t/acme/{endpoint}", **said)
        return answer.status_code

    async def codes(self, document: str, token: str | None) -> list[str]:
        body = await self.there.graphql(document, token=token)
        return [each["extensions"]["code"] for each in body.get("errors", [])]


@pytest.fixture(params=["memory", "cold", "warm"])
def setting(request: pytest.FixtureRequest) -> tuple[str, GatewaySettings]:
    if request.param == "memory":
        return "memory", memory_settings()
    redis_url: str = request.getfixturevalue("redis_url")
    with blocking.Redis.from_url(redis_url) as connection:
        connection.flushdb()
    return request.param, postgres_settings(request.getfixturevalue("empty_database"), redis_url)


@pytest.fixture
async def deployment(setting: tuple[str, GatewaySettings]) -> AsyncIterator[Deployment]:
    kind, settings = setting
    async with AsyncExitStack() as stack:
        here = there = await stack.enter_async_context(running(settings))
        if kind != "memory":
            there = await stack.enter_async_context(running(settings, clock=here.clock))
        admin = await here.onboard("acme")
        subject = await here.client_of(admin, ["billing:read"])
        call, key = await here.as_caller(admin), ClientKey()
        await here.gateway.credentials.enrol(call, UUID(subject.client_id), key.public)
        if kind == "warm":
            await here.warm_up()
        yield Deployment(here, there, admin, subject, key, await there.token(subject))


async def ways(deployment: Deployment) -> list[tuple[str, str]]:
    """Every endpoint with every way in, as the server itself says."""
    found = await deployment.there.client.get("/.well-known/oauth-authorization-server/t/acme")
    said = found.json()
    named = {
        said[f"{name}_endpoint"].removeprefix(f"{said['issuer']}/"): said[
            f"{name}_endpoint_auth_methods_supported"
        ]
        for name in ("token", "introspection", "revocation")
    }
    assert set(_ENDPOINTS) - set(named) == {".well-known/jwks.json"}, "what nobody is asked for"
    # The metadata have no word for it (RFC 7009 §2.1), but a token revokes too.
    named["oauth2/revoke"].append("Bearer")
    return [(endpoint, method) for endpoint, methods in named.items() for method in methods]


@pytest.mark.parametrize("whom", ["agent", "fleet"])
async def test_no_endpoint_knows_it_in_any_way_until_it_is_released(
    deployment: Deployment, whom: str
) -> None:
    tried = await ways(deployment)
    assert len(tried) == 11
    for each in tried:
        assert await deployment.ask(*each) == 200, each
    await deployment.stop(whom)
    for each in tried:
        assert await deployment.ask(*each) == 401, each
    await deployment.release(whom)
    for endpoint, method in tried:
        # A token from before is one for ever.
        expected = 401 if method == "Bearer" else 200
        assert await deployment.ask(endpoint, method) == expected, (endpoint, method)


def literal(kind: GraphQLInputType) -> str:
    """The least that stands for a value of that type."""
    if isinstance(kind, GraphQLNonNull):
        return literal(kind.of_type)
    if isinstance(kind, GraphQLList):
        return f"[{literal(kind.of_type)}]"
    if isinstance(kind, GraphQLEnumType):
        return str(next(iter(kind.values)))
    if isinstance(kind, GraphQLInputObjectType):
        needed = {n: f.type for n, f in kind.fields.items() if is_required_input_field(f)}
        return "{" + ", ".join(f"{n}: {literal(each)}" for n, each in needed.items()) + "}"
    scalars = {
        "UUID": '"00000000-0000-4000-8000-000000000000"',
        "ID": '"QWdlbnQ6"', "String": '"acme"', "Int": "1", "Boolean": "true", "JSON": "{}",
        "DateTime": '"2026-01-01T00:00:00Z"',
    }  # fmt: skip
    return scalars[get_named_type(kind).name]


def root_fields() -> Iterator[tuple[str, str, str]]:
    """Each with its access, and a document that asks for it."""
    directive = SCHEMA.get_directive("access")
    assert directive is not None
    for operation, kind in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        assert kind is not None
        for name, field in kind.fields.items():
            assert field.ast_node is not None
            access = get_directive_values(directive, field.ast_node)
            assert access is not None
            yield name, access["requires"], f"{operation} {{ {_asking_for(name, field)} }}"


def _asking_for(name: str, field: GraphQLField) -> str:
    needed = {n: a.type for n, a in field.args.items() if is_required_argument(a)}
    arguments = ", ".join(f"{n}: {literal(kind)}" for n, kind in needed.items())
    selected = " { __typename }" if is_composite_type(get_named_type(field.type)) else ""
    return f"{name}{f'({arguments})' if arguments else ''}{selected}"


@pytest.mark.parametrize("whom", ["agent", "fleet"])
async def test_no_root_field_is_given_to_its_token(deployment: Deployment, whom: str) -> None:
    fields = list(root_fields())
    for name, _, document in fields:
        # It may do little, but it is known, and the document is one.
        codes = await deployment.codes(document, deployment.token)
        assert set(codes) <= {"FORBIDDEN", "BAD_USER_INPUT"}, name
    await deployment.stop(whom)
    for released in (False, True):
        if released:
            await deployment.release(whom)
        for name, _, document in fields:
            codes = await deployment.codes(document, deployment.token)
            assert codes == ["UNAUTHENTICATED"], name


ISSUING = """mutation($input: IssueTokenInput!) {
    issueToken(input: $input) { __typename ... on TokenIssued { accessToken } } }"""


@pytest.mark.parametrize("whom", ["agent", "fleet"])
async def test_the_one_field_that_is_its_own_authentication_refuses_it_too(
    deployment: Deployment, whom: str
) -> None:
    assert [name for name, requires, _ in root_fields() if requires == "PUBLIC"] == ["issueToken"]
    subject = deployment.subject

    async def kinds() -> list[str]:
        proofs = [
            {"clientId": subject.client_id, "clientSecret": subject.secret},
            {"clientAssertion": deployment.assertion()},
        ]
        answers = [
            await deployment.there.graphql(ISSUING, {"input": {"tenant": "acme", **each}})
            for each in proofs
        ]
        return [each["data"]["issueToken"]["__typename"] for each in answers]

    assert await kinds() == ["TokenIssued"] * 2
    await deployment.stop(whom)
    assert await kinds() == ["InvalidClient"] * 2
    await deployment.release(whom)
    assert await kinds() == ["TokenIssued"] * 2


# Where in the gateway somebody becomes known, or gets a token.
MADE = {
    "KnownClient": {
        "gateway/auth/clients.py: by_secret",
        "gateway/auth/assertions.py: by_assertion",
    },
    "AgentPrincipal": {
        "gateway/auth/authenticate.py: bearer",
        "gateway/services/clients.py: authenticate",
    },
    "IssuedToken": {"gateway/auth/tokens.py: issue"},
}


def test_there_are_no_other_places_where_somebody_becomes_known_or_gets_a_token() -> None:
    found: dict[str, set[str]] = {name: set() for name in MADE}
    for path in (ROOT / "gateway").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            for node in ast.walk(function):
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Name) and called.id in found:
                    found[called.id].add(f"{path.relative_to(ROOT)}: {function.name}")
    assert found == MADE


@pytest.mark.parametrize("whom", ["agent", "fleet"])
async def test_nobody_becomes_known_where_that_is_decided(
    deployment: Deployment, whom: str
) -> None:
    gateway, now = deployment.there.gateway, deployment.there.clock.now
    secret = ClientSecret(deployment.subject.client_id, deployment.subject.secret)
    anonymous = deployment.there.call(Anonymous())
    await deployment.stop(whom)
    tenant = await gateway.storage.registry.tenants.get("acme")
    for proof in (secret, ClientAssertion.read(deployment.assertion(), None)):
        with pytest.raises(InvalidClient):
            await gateway.clients.authenticate(anonymous, tenant, proof)
    with pytest.raises(Unauthenticated):
        await gateway.authenticator.bearer([f"Bearer {deployment.token}"], now)
    refused = [event.metadata["reason"] for event in await deployment.here.trail(deployment.admin)
               if event.action.value == "auth.failed"]  # fmt: skip
    assert refused == ["kill_switch"] * 2
    assert RefusedClient(None, "kill_switch").reason == refused[0]


@pytest.mark.parametrize("whom", ["agent", "fleet"])
async def test_who_was_known_before_gets_a_token_that_nobody_accepts(
    deployment: Deployment, whom: str
) -> None:
    gateway, anonymous = deployment.there.gateway, deployment.there.call(Anonymous())
    tenant = await gateway.authenticator.active_tenant("acme", anonymous.now)
    proofs = (
        ClientSecret(deployment.subject.client_id, deployment.subject.secret),
        ClientAssertion.read(deployment.assertion(), None),
    )
    known = [await gateway.clients.authenticate(anonymous, tenant, each) for each in proofs]
    await deployment.stop(whom)
    for released in (False, True):
        if released:
            await deployment.release(whom)
        for call, client in known:
            issued = await gateway.tokens.issue(call, client, None)
            for each in (deployment.here, deployment.there):
                with pytest.raises(Unauthenticated):
                    await each.gateway.authenticator.bearer(
                        [f"Bearer {issued.access_token}"], each.clock.now
                    )


async def test_its_tokens_are_not_active_to_whoever_looks_into_them(
    deployment: Deployment,
) -> None:
    admin, there = deployment.admin, deployment.there
    theirs = await there.token(admin)
    looking = (
        "mutation($input: IntrospectTokenInput!) { introspectToken(input: $input) { active } }"
    )

    async def seen() -> list[bool]:
        answer = await there.client.post(
            "/t/acme/oauth2/introspect",
            data={"token": deployment.token},
            auth=(admin.client_id, admin.secret),
        )
        asked = await there.graphql(looking, {"input": {"token": deployment.token}}, theirs)
        return [answer.json()["active"], asked["data"]["introspectToken"]["active"]]

    assert await seen() == [True, True]
    await deployment.stop("agent")
    assert await seen() == [False, False]
    await deployment.release("agent")
    assert await seen() == [False, False]


# Which of the acts that `tests.services.test_standing` begins before the cut stands for a mutation.
UNDER_WAY = {
    "registerAgent": "register", "registerAgents": "register", "updateAgent": "update",
    "suspendAgent": "suspend", "reactivateAgent": "reactivate",
    "decommissionAgent": "decommission", "generateCredential": "generate",
    "rotateCredential": "rotate", "revokeCredential": "revoke", "engageKillSwitch": "stop",
    "releaseKillSwitch": "release", "revokeToken": "revoke a token",
}  # fmt: skip
# They change nothing that anybody has, and are tried above.
NOTHING_TO_HOLD = {"issueToken", "introspectToken"}


async def test_whatever_changes_something_is_tried_as_under_way_when_its_caller_is_stopped(
    in_memory: RunningGateway,
) -> None:
    assert SCHEMA.mutation_type is not None
    open_to_agents = {
        name
        for name, requires, document in root_fields()
        if document.startswith("mutation") and requires != "OPERATOR"
    }
    assert open_to_agents - NOTHING_TO_HOLD == set(UNDER_WAY)
    tried = await acts(in_memory, await in_memory.onboard("acme"))
    assert set(tried) == {*UNDER_WAY.values(), "stop all"}


async def test_a_caller_that_logged_in_before_does_nothing_after(
    deployment: Deployment,
) -> None:
    """What was begun on one gateway, while the switch is engaged on the other."""
    under_way: Call = await deployment.there.as_caller(deployment.subject)
    own = under_way.agent.agent_id
    generate = deployment.there.gateway.credentials.generate
    assert await generate(under_way, own)
    await deployment.stop("fleet")
    before = await deployment.here.trail(deployment.admin)
    with pytest.raises(Unauthenticated):
        await generate(under_way, own)
    await deployment.release("fleet")
    with pytest.raises(Unauthenticated):
        await generate(under_way, own)
    after = await deployment.here.trail(deployment.admin)
    assert [each.action.value for each in after[len(before) :]] == ["kill_switch.released"]
