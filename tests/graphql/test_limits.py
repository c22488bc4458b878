"""What one document may ask for, and that finding out is cheap however it is written."""

from __future__ import annotations

import time

import pytest
from graphql import get_introspection_query, parse

from gateway.graphql.limits import (
    MAX_ALIASES,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_MUTATIONS,
    MAX_ROOT_FIELDS,
    MAX_SELECTIONS,
    MAX_TOKENS,
    excess,
)
from tests.graphql.asking import Asking


def messages(document: str) -> list[str]:
    return [error.message for error in excess(parse(document))]


def nested(levels: int, leaf: str = "id") -> str:
    """A selection of so many levels, the leaf's included."""
    return "{ a " * (levels - 1) + "{ " + leaf + " }" + " }" * (levels - 1)


def test_a_document_within_the_limits_has_no_excess() -> None:
    assert messages(nested(MAX_DEPTH)) == []
    assert messages("{ " + "a " * MAX_ROOT_FIELDS + "}") == []
    assert messages("mutation { " + "a " * MAX_MUTATIONS + "}") == []
    aliases = " ".join(f"b{n}: b" for n in range(MAX_ALIASES))
    assert messages(f"{{ a {{ {aliases} }} }}") == []
    assert messages("{ a " + "@include(if: true) " * MAX_DIRECTIVES + "}") == []
    assert messages("{ a { " + "b " * (MAX_SELECTIONS - 1) + "} }") == []


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (nested(MAX_DEPTH + 1), "levels: the limit is 12"),
        ("{ " + "a " * (MAX_ROOT_FIELDS + 1) + "}", "root fields: the limit is 20"),
        ("mutation { " + "a " * (MAX_MUTATIONS + 1) + "}", "root fields: the limit is 10"),
        ("{ x { " + "a: b " * (MAX_ALIASES + 1) + "} }", "aliases: the limit is 50"),
        ("{ a " + "@x " * (MAX_DIRECTIVES + 1) + "}", "directives: the limit is 50"),
        ("query " + "@x " * 51 + "{ a }", "directives: the limit is 50"),
        ("query($a: Int " + "@x " * 51 + ") { a(b: $a) }", "directives: the limit is 50"),
        ("{ ...A } fragment A on B " + "@x " * 51 + "{ a }", "directives: the limit is 50"),
        ("{ ... on B " + "@x " * 51 + "{ a } }", "directives: the limit is 50"),
        ("{ ...A " + "@x " * 51 + "} fragment A on B { a }", "directives: the limit is 50"),
        ("{ a { " + "b " * MAX_SELECTIONS + "} }", "selections: the limit is 500"),
    ],
)
def test_each_limit_is_told_by_its_name(document: str, what: str) -> None:
    assert f"too many {what}" in messages(document)


def test_fragments_count_for_what_they_stand_for() -> None:
    deep = f"{{ a {{ ...A }} }} fragment A on B {nested(MAX_DEPTH - 1)}"
    assert messages(deep) == []
    deeper = f"{{ a {{ b {{ ...A }} }} }} fragment A on B {nested(MAX_DEPTH - 1)}"
    assert messages(deeper) == ["too many levels: the limit is 12"]
    roots = "{ ...A ... on Query { ...A } } fragment A on Query { " + "a " * 11 + "}"
    assert messages(roots) == ["too many root fields: the limit is 20"]
    aliases = "{ x { ...A ...A ...A } } fragment A on B { " + "a: b " * 17 + "}"
    assert messages(aliases) == ["too many aliases: the limit is 50"]


def test_a_fragment_that_nobody_spreads_is_bounded_too() -> None:
    assert messages(f"{{ a }} fragment A on B {nested(13)}") == ["too many levels: the limit is 12"]


def test_each_operation_is_bounded_by_itself() -> None:
    both = " ".join(f"query {name} {{ {'a ' * 20} }}" for name in "AB")
    assert messages(both) == []
    one = f"query A {{ a }} query B {{ {'a ' * 21} }}"
    assert messages(one) == ["too many root fields: the limit is 20"]


@pytest.mark.parametrize("leaf", ["{ id }", "{ }"])
def test_a_bomb_of_fragments_is_measured_and_not_walked(leaf: str) -> None:
    """Each spreads the next twice: walked, sixty of them would take longer than there is time."""
    links = " ".join(f"fragment A{n} on B {{ ...A{n + 1} ...A{n + 1} }}" for n in range(60))
    document = parse(f"{{ a {{ ...A0 }} }} {links} fragment A60 on B {leaf}")
    began = time.process_time()
    found = {error.message for error in excess(document)}
    assert time.process_time() - began < 0.5
    assert found == {
        "too many selections: the limit is 500",
        "too many fragments within each other: the limit is 50",
    }


@pytest.mark.parametrize(
    "document",
    [
        "{ ...A } fragment A on B { ...A }",
        "{ ...A } fragment A on B { ...C } fragment C on B { a { ...A } }",
        "{ ...Nope }",
        "type A { a: Int }",
    ],
)
def test_what_only_validation_refuses_is_left_to_it(document: str) -> None:
    assert messages(document) == []


@pytest.mark.parametrize("length", [50, 51, 240])
@pytest.mark.parametrize("turned", [False, True])
async def test_fragments_stand_within_each_other_so_far_and_no_further(
    asking: Asking, length: int, turned: bool
) -> None:
    links = [f"fragment A{n} on Agent {{ ...A{n + 1} }}" for n in range(length - 1)]
    links.append(f"fragment A{length - 1} on Agent {{ email }}")
    document = "{ viewer { ...A0 } } " + " ".join(links[::-1] if turned else links)
    body = await asking.ask(document)
    if length <= 50:
        assert body == {"data": {"viewer": {"email": "admin@acme.example"}}}
    else:
        codes = {each["extensions"]["code"] for each in body["errors"]}
        messages = {each["message"] for each in body["errors"]}
        assert codes == {"QUERY_TOO_COMPLEX"}
        assert messages == {"too many fragments within each other: the limit is 50"}


def test_introspection_may_be_as_deep_as_types_are() -> None:
    assert messages(get_introspection_query(descriptions=True, input_value_deprecation=True)) == []
    assert messages("{ __schema " + nested(20) + " a " + nested(13) + "}") == [
        "too many levels: the limit is 12"
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{ " + "a " * MAX_TOKENS + "}", "Document contains more than 2000 tokens"),
        ("#\n" * 2001 + "{ a }", "Document contains more than 2000 comments"),
        ("{ " + "a: __typename " * 51 + "}", "too many aliases"),
    ],
)
async def test_what_is_over_a_limit_is_too_complex(
    asking: Asking, document: str, message: str
) -> None:
    body = await asking.ask(document)
    assert "data" not in body
    assert {each["extensions"]["code"] for each in body["errors"]} == {"QUERY_TOO_COMPLEX"}
    assert message in body["errors"][0]["message"]


@pytest.mark.parametrize("opening", ["{ a ", "[", "{ a(b: [", "{ a(b: {c: "])
async def test_nesting_without_end_is_a_parse_error(asking: Asking, opening: str) -> None:
    body = await asking.ask(opening * 400)
    assert body["errors"][0]["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


def page(levels: int, first: str = "") -> str:
    """Connections within each other, so many levels deep."""
    document = "id"
    for level in range(levels):
        inner = "credentials" if level % 2 == 0 else "agent"
        document = (
            f"agent {{ {document} }}"
            if inner == "agent"
            else f"credentials{first} {{ nodes {{ {document} }} }}"
        )
    return f"{{ agents{first} {{ nodes {{ {document} }} }} }}"


@pytest.mark.parametrize(
    ("document", "variables", "refused"),
    [
        (page(1), {}, False),
        (page(1, "(first: 99)"), {}, False),
        (page(1, "(first: 100)"), {}, True),
        (page(1, "(last: 100)"), {}, True),
        (page(3), {}, False),
        (page(5), {}, True),
        ("query($n: Int)" + page(1, "(first: $n)"), {"n": 99}, False),
        ("query($n: Int)" + page(1, "(first: $n)"), {"n": 100}, True),
        ("query($n: Int)" + page(1, "(first: $n)"), {"n": None}, False),
        ("query($n: Int)" + page(1, "(first: $n)"), {}, False),
        ("query($n: Int = 100)" + page(1, "(first: $n)"), {}, True),
        ("query($n: Int = 100)" + page(1, "(first: $n)"), {"n": 5}, False),
        ("query($n: Int)" + page(1, "(first: 1, last: $n)"), {"n": 100}, True),
        (
            "{ agents(first: 100) { ...F } } fragment F on AgentConnection "
            "{ edges { node { credentials(first: 100) { nodes { id } } } } }",
            {},
            True,
        ),
        (
            "{ agents(first: 100) { ... { nodes { ... on Node { id } ... on Agent { "
            "credentials(first: 100) { totalCount } } } } } }",
            {},
            True,
        ),
        ("{ agents(first: 100) { nodes { credentials(first: 1) { totalCount } } } }", {}, False),
        (
            "{ agents(first: 100) { nodes { credentials(first: 1) { totalCount } "
            "auditEvents(first: 1) { totalCount } } } }",
            {},
            True,
        ),
        (
            'query { nodes(ids: ["x"]) { ... on Agent { credentials(first: 100) '
            "{ nodes { id } } } } }",
            {},
            True,
        ),
        ("{ agents(first: 100) { totalCount pageInfo { endCursor } } }", {}, False),
        (
            "{ " + " ".join(f"a{n}: agents(first: 100) {{ nodes {{ id }} }}" for n in range(20))
            + " }",
            {},
            False,
        ),
    ],
)  # fmt: skip
async def test_pages_within_pages_are_bounded_by_what_they_multiply_to(
    asking: Asking, document: str, variables: dict[str, object], refused: bool
) -> None:
    body = await asking.ask(document, variables)
    codes = {each["extensions"]["code"] for each in body.get("errors", [])}
    messages = {each["message"] for each in body.get("errors", [])}
    if refused:
        assert "data" not in body
        assert codes == {"QUERY_TOO_COMPLEX"}
        assert messages == {"too many rows: the limit is 10000"}
    else:
        assert "QUERY_TOO_COMPLEX" not in codes


async def test_introspection_reads_no_rows(asking: Asking) -> None:
    data = await asking.data(get_introspection_query(descriptions=False))
    assert data["__schema"]["queryType"]["name"] == "Query"
