"""Documents are read once, and what is remembered has its bounds."""

from __future__ import annotations

import traceback

import pytest

from gateway.graphql import documents
from gateway.graphql.documents import Documents, RefusedDocument
from tests.gateway import memory_settings, running
from tests.graphql.asking import Asking


def refused(kept: Documents, text: str) -> RefusedDocument:
    with pytest.raises(RefusedDocument) as raised:
        kept.get(text)
    return raised.value


@pytest.fixture
def kept() -> Documents:
    return Documents(introspection=True)


def test_a_document_is_read_once(kept: Documents) -> None:
    assert kept.get("{ __typename }") is kept.get("{ __typename }")
    assert kept.get("{ __typename }") is not kept.get("{__typename}")


@pytest.mark.parametrize("text", ["{ nope", "{ nope }", "{ " + "a: __typename " * 60 + "}"])
def test_a_refusal_is_remembered_too_and_grows_by_no_frame(kept: Documents, text: str) -> None:
    first = refused(kept, text)
    assert first.errors
    for _ in range(3):
        again = refused(kept, text)
        assert again is first
    # One of the test's, one of `get`.
    assert len(traceback.extract_tb(again.__traceback__)) == 2


def test_no_more_than_a_number_are_remembered(
    kept: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MAX_ENTRIES", 2)
    a = kept.get("query A { __typename }")
    b = kept.get("query B { __typename }")
    assert kept.get("query A { __typename }") is a
    kept.get("query C { __typename }")
    # The one that was not asked for the longest has gone.
    assert kept.get("query A { __typename }") is a
    assert kept.get("query B { __typename }") is not b


def test_large_documents_are_remembered_in_smaller_number(
    kept: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_MAX_BYTES", 100_000)
    small = kept.get("{ __typename }")
    assert kept.get("{ __typename }") is small
    # Its text has a thousand bytes, its tree a hundred times as many.
    large = "{ agents { nodes { " + "id " * 300 + "} } }"
    assert kept.get(large) is not kept.get(large)
    assert kept.get("{ __typename }") is not small
    # A text alone can be too much as well.
    long = "{ __typename } #" + "x" * 100_000
    assert kept.get(long) is not kept.get(long)


def test_an_operation_is_found_by_its_name(kept: Documents) -> None:
    document = kept.get("query A { __typename } query B { __typename }")
    assert document.operation("B").node.name is not None
    for name in (None, "C", ""):
        with pytest.raises(RefusedDocument) as raised:
            document.operation(name)
        assert raised.value.code == "OPERATION_RESOLUTION_FAILURE"
    only = kept.get("query A { __typename }")
    assert only.operation(None) is only.operation("A")
    with pytest.raises(RefusedDocument):
        only.operation("")


def test_no_more_than_twenty_errors_are_told(kept: Documents) -> None:
    found = refused(kept, "{ agents { nodes { " + "nope " * 40 + "} } }")
    assert len(found.errors) == 21
    assert "Too many validation errors" in found.errors[-1].message


async def test_no_answer_suggests_what_else_there_is(asking: Asking) -> None:
    for document in (
        "{ agent_ { id } }",
        "{ agents(firs: 1) { nodes { id } } }",
        "{ agents { node { id } } }",
        "{ agents { nodes { ... on Agen { id } } } }",
        "{ agents(filter: {statu: {}}) { nodes { id } } }",
        "{ agents(filter: {status: {in: [ACTIV]}}) { nodes { id } } }",
    ):
        body = await asking.ask(document)
        assert "did you mean" not in str(body).lower()
    body = await asking.ask(
        "query($filter: AgentFilter) { agents(filter: $filter) { nodes { id } } }",
        {"filter": {"statu": {}}},
    )
    assert "did you mean" not in str(body).lower()


async def test_the_schema_can_be_asked_about_where_that_is_allowed() -> None:
    schema, name = "{ __schema { queryType { name } } }", '{ __type(name: "Agent") { name } }'
    async with running(memory_settings(introspection=False)) as started:
        closed = Asking(started, await started.onboard("acme"))
        for document in (schema, name):
            for error in (await closed.ask(document))["errors"]:
                assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
                assert "introspection has been disabled" in error["message"]
        assert await closed.data("{ __typename }") == {"__typename": "Query"}
    # Both at once in one process: neither sees the other's documents.
    async with running(memory_settings(introspection=True)) as started:
        opened = Asking(started, await started.onboard("acme"))
        assert (await opened.data(name))["__type"] == {"name": "Agent"}


async def test_variables_and_callers_are_no_part_of_what_is_remembered(asking: Asking) -> None:
    document = "query($n: Int) { viewer { credentials(first: $n) { nodes { status } } } }"
    assert await asking.data(document, {"n": 1})
    assert await asking.code(document, {"n": 0}) == "BAD_USER_INPUT"
    assert await asking.nobody.code(document, {"n": 1}) == "UNAUTHENTICATED"
    assert await asking.code(document, {"n": "x"}) == "BAD_USER_INPUT"
    assert await asking.data(document)
