"""Documents: parsed, limited and validated once, and remembered while there is room.

What is remembered depends on the text, the schema and whether introspection is allowed, and on
nothing of the request; so do the errors of a document that is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    ValuesOfCorrectTypeRule,
    parse,
    specified_rules,
    validate,
)

from gateway.graphql.faults import BAD_USER_INPUT
from gateway.graphql.limits import MAX_TOKENS, excess
from gateway.graphql.rows import MAX_ROWS, rows
from gateway.graphql.schema import SCHEMA

# A tree is a hundred times its text and more: a bound on entries or on their texts alone would let
# anybody fill the memory.
_MAX_ENTRIES = 1000
_MAX_BYTES = 24 * 1024 * 1024
_BYTES_OF_A_TOKEN = 600
_MAX_ERRORS = 20
TOO_COMPLEX = "QUERY_TOO_COMPLEX"
_TOO_MANY_TOKENS = f"Syntax Error: Document contains more than {MAX_TOKENS} "


class RefusedDocument(Exception):
    """What is not run; `code` is that of those of its errors that have none of their own."""

    def __init__(self, code: str, errors: Sequence[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Operation:
    """`bounded` says that it cannot ask for too many rows, whatever its variables are."""

    node: OperationDefinitionNode
    bounded: bool


@dataclass(frozen=True, slots=True)
class Document:
    """A document that may be run."""

    tree: DocumentNode
    operations: Mapping[str | None, Operation]

    def operation(self, name: str | None) -> Operation:
        """The one that is named, or the only one. Raises RefusedDocument."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        found = self.operations.get(name)
        if found is None:
            problem = "several operations: name one" if name is None else "none of that name"
            error = GraphQLError(f"the document has {problem}")
            raise RefusedDocument("OPERATION_RESOLUTION_FAILURE", [error])
        return found


class _Values(ValuesOfCorrectTypeRule):
    """A wrong value has one code, in the document as in its variables."""

    def report_error(self, error: GraphQLError) -> None:
        error.extensions = {"code": BAD_USER_INPUT}
        super().report_error(error)


_RULES = tuple(_Values if each is ValuesOfCorrectTypeRule else each for each in specified_rules)


class Documents:
    """Those seen last. `introspection` says whether the schema may be asked about."""

    def __init__(self, *, introspection: bool) -> None:
        self._rules = _RULES if introspection else (*_RULES, NoSchemaIntrospectionCustomRule)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, text: str) -> Document:
        """Raises RefusedDocument."""
        kept = self._kept.get(text)
        if kept is None:
            kept = self._kept[text] = _read(text, self._rules)
            self._bytes += kept.bytes
            while self._bytes > _MAX_BYTES or len(self._kept) > _MAX_ENTRIES:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.bytes
        else:
            self._kept.move_to_end(text)
        if isinstance(kept.found, RefusedDocument):
            # Raised again and again: the frames of those who did must not pile up in it.
            raise kept.found.with_traceback(None)
        return kept.found


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Document | RefusedDocument
    bytes: int


def _read(text: str, rules: Sequence[type[ASTValidationRule]]) -> _Kept:
    try:
        tree = parse(text, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_TOKENS)
    except GraphQLError as error:
        long = error.message.startswith(_TOO_MANY_TOKENS)
        code = TOO_COMPLEX if long else "GRAPHQL_PARSE_FAILED"
        return _Kept(RefusedDocument(code, [error]), len(text))
    found = _judged(tree, rules)
    return _Kept(found, len(text) + _BYTES_OF_A_TOKEN * _tokens(tree))


def _judged(
    tree: DocumentNode, rules: Sequence[type[ASTValidationRule]]
) -> Document | RefusedDocument:
    # First, because validation itself is slow for a document that is over the limits.
    if errors := excess(tree):
        return RefusedDocument(TOO_COMPLEX, errors[:_MAX_ERRORS])
    if errors := validate(SCHEMA, tree, rules, max_errors=_MAX_ERRORS, hide_suggestions=True):
        return RefusedDocument("GRAPHQL_VALIDATION_FAILED", errors)
    operations = [each for each in tree.definitions if isinstance(each, OperationDefinitionNode)]
    if not operations:
        error = GraphQLError("the document has no operation")
        return RefusedDocument("GRAPHQL_VALIDATION_FAILED", [error])
    return Document(
        tree,
        {
            each.name.value if each.name else None: Operation(
                each, bounded=rows(SCHEMA, tree, each, None) <= MAX_ROWS
            )
            for each in operations
        },
    )


def _tokens(tree: DocumentNode) -> int:
    number, token = 0, tree.loc.start_token if tree.loc else None
    while token is not None:
        number, token = number + 1, token.next
    return number
