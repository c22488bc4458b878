"""The committed SDL is the schema, and the schema keeps the conventions of the house."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_specified_scalar_type,
)

from db.grammar import GATEWAY_CAPABILITIES
from db.records import AuditAction

COMMITTED = Path(__file__).parents[2] / "schema.graphql"
AGAIN = "python -m gateway schema > schema.graphql"


def schema() -> GraphQLSchema:
    return build_schema(COMMITTED.read_text())


def objects(of: GraphQLSchema) -> list[GraphQLObjectType]:
    kinds = of.type_map.values()
    return [k for k in kinds if isinstance(k, GraphQLObjectType) and not k.name.startswith("__")]


def test_what_is_committed_is_what_is_served() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "gateway", "schema"],
        cwd=COMMITTED.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stderr == ""
    assert printed.stdout == COMMITTED.read_text(), f"the schema has changed; run: {AGAIN}"


def test_no_default_of_null_stands_in_it() -> None:
    assert "= null" not in COMMITTED.read_text()


def test_a_mutation_takes_one_input_and_answers_a_payload_of_its_name() -> None:
    mutation = schema().mutation_type
    assert mutation is not None
    for name, field in mutation.fields.items():
        own = name[0].upper() + name[1:]
        [(argument, input)] = field.args.items()
        assert argument == "input"
        assert str(input.type) == f"{own}Input!"
        assert isinstance(field.type, GraphQLNonNull)
        payload = get_named_type(field.type)
        if isinstance(payload, GraphQLUnionType):
            assert payload.name == f"{own}Payload"
            errors = [k for k in payload.types if "UserError" in {i.name for i in k.interfaces}]
            assert len(payload.types) - len(errors) == 1, "one success, and errors"
        else:
            assert payload.name == "TokenIntrospection", "it refuses nothing"


def test_every_user_error_can_be_answered_by_some_mutation() -> None:
    made = schema()
    interface = made.get_type("UserError")
    assert isinstance(interface, GraphQLInterfaceType)
    unions = [k for k in made.type_map.values() if isinstance(k, GraphQLUnionType)]
    answered = {kind.name for union in unions for kind in union.types}
    assert {kind.name for kind in made.get_possible_types(interface)} <= answered


def test_everything_with_an_id_is_a_node() -> None:
    for kind in objects(schema()):
        assert ("id" in kind.fields) == ("Node" in {each.name for each in kind.interfaces})


def test_every_connection_has_the_same_arguments_and_fields() -> None:
    for kind in objects(schema()):
        if kind.name.endswith("Connection"):
            assert list(kind.fields) == [
                "edges", "nodes", "pageInfo", "totalCount", "totalCountCapped",
            ]  # fmt: skip
        for name, field in kind.fields.items():
            if get_named_type(field.type).name.endswith("Connection"):
                wanted = {"filter", "first", "after", "last", "before"}
                assert set(field.args) >= wanted, f"{kind.name}.{name}"
                assert not any(isinstance(a.type, GraphQLNonNull) for a in field.args.values())


def test_every_scalar_says_where_it_is_specified() -> None:
    for kind in schema().type_map.values():
        url = getattr(kind, "specified_by_url", None)
        assert kind.name not in ("UUID", "DateTime", "JSON") or url, kind.name
    own = [
        name
        for name, kind in schema().type_map.items()
        if hasattr(kind, "specified_by_url") and not is_specified_scalar_type(kind)
    ]
    assert sorted(own) == ["DateTime", "JSON", "UUID"]


def test_an_action_of_the_trail_has_its_words_in_capitals() -> None:
    kind = schema().get_type("AuditAction")
    assert isinstance(kind, GraphQLEnumType)
    assert list(kind.values) == [action.value.upper().replace(".", "_") for action in AuditAction]


def test_a_secret_stands_in_the_payloads_that_make_one_and_nowhere_else() -> None:
    secrets = {
        f"{kind.name}.{name}"
        for kind in objects(schema())
        for name in kind.fields
        if "secret" in name.lower() or "hash" in name.lower() or name == "accessToken"
    }
    assert secrets == {
        "TenantOnboarded.clientSecret",
        "TenantAdministratorReset.clientSecret",
        "CredentialGenerated.clientSecret",
        "CredentialRotated.clientSecret",
        "TokenIssued.accessToken",
    }


def test_no_input_names_a_tenant_but_an_authentication_and_the_operator_s() -> None:
    made = schema()
    inputs = [k for k in made.type_map.values() if isinstance(k, GraphQLInputObjectType)]
    named = {each.name for each in inputs if {"tenant", "tenantId"} & set(each.fields)}
    assert named == {
        "IssueTokenInput", "RunJobInput", "WorkFilter",
        # An agent may name its own there, and no other.
        "EngageKillSwitchInput", "ReleaseKillSwitchInput",
    }  # fmt: skip


def test_every_scope_in_it_is_one_of_the_gateway_s_own() -> None:
    text = COMMITTED.read_text()
    asked = {part.split('"')[0] for part in text.split('@access(requires: "')[1:]}
    assert asked - {"PUBLIC", "AGENT", "OPERATOR"} <= GATEWAY_CAPABILITIES
