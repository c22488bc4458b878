"""The register of abuses is whole, and every test that it names is there to be run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.abuse import ABUSES, Abuse

TESTS = Path(__file__).parents[1]


@cache
def _names(module: str) -> frozenset[str]:
    """The tests of a module as the register writes them; none where there is no module."""
    folder, _, name = module.partition("/")
    path = TESTS / folder / f"test_{name}.py"
    if not path.is_file():
        return frozenset()
    return frozenset(_found(ast.parse(path.read_text()).body, ""))


def _found(body: Sequence[ast.stmt], within: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _found(node.body, f"{node.name}::")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _is_run(node):
            yield within + node.name.removeprefix("test_")


def _is_run(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    marks = {ast.unparse(each).split("(")[0] for each in node.decorator_list}
    left_out = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
    return node.name.startswith("test_") and not marks & left_out


def missing(abuse: Abuse) -> list[str]:
    return [
        test for test in abuse.tests if test.split("::", 1)[1] not in _names(test.split("::", 1)[0])
    ]


def test_each_is_there_once_with_its_source_and_its_tests() -> None:
    assert list(ABUSES) == list(range(1, 67))
    assert len({abuse.what for abuse in ABUSES.values()}) == len(ABUSES)
    assert not [number for number, abuse in ABUSES.items() if not abuse.source or not abuse.tests]
    assert not [n for n, abuse in ABUSES.items() if len(set(abuse.tests)) < len(abuse.tests)]


@pytest.mark.parametrize("number", ABUSES)
def test_what_holds_against_it_is_there_to_be_run(number: int) -> None:
    assert missing(ABUSES[number]) == []


@pytest.mark.parametrize(
    "test",
    [
        "oauth/token_request::no_such_test",
        "oauth/no_such_module::a_form_is_accepted",
        "oauth/introspection::who_sends_no_proof_is_told_both_ways_and_of_no_error",
        "house/abuse_cases::_found",
    ],
)
def test_one_that_is_not_there_is_seen(test: str) -> None:
    assert missing(Abuse("something", "somewhere", (test,))) == [test]
