"""How much one document may ask for, decided before it is validated or run.

What fragments stand for counts wherever they are spread, so that none can hide a large document in
a small text. Each fragment is measured once, whatever the number of its spreads: the measures are
added up, not walked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from graphql import (
    DefinitionNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)

MAX_TOKENS = 2000
MAX_DEPTH = 12
MAX_SELECTIONS = 500
MAX_NESTED_FRAGMENTS = 50
MAX_ALIASES = 50
MAX_DIRECTIVES = 50
MAX_ROOT_FIELDS = 20
MAX_MUTATIONS = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a selection set with everything in it; `fields` are those at its own level, and `nested`
    is how many fragments stand within each other."""

    depth: int = 0
    nested: int = 0
    fields: int = 0
    selections: int = 0
    aliases: int = 0
    directives: int = 0

    def __add__(self, other: Shape) -> Shape:
        return Shape(
            max(self.depth, other.depth),
            max(self.nested, other.nested),
            self.fields + other.fields,
            self.selections + other.selections,
            self.aliases + other.aliases,
            self.directives + other.directives,
        )


class Fragments(Generic[T]):
    """What each fragment measures, found when it is first spread."""

    def __init__(
        self,
        document: DocumentNode,
        measure: Callable[[FragmentDefinitionNode], T],
        nothing: T,
    ) -> None:
        self._definitions = {
            each.name.value: each
            for each in document.definitions
            if isinstance(each, FragmentDefinitionNode)
        }
        self._measure = measure
        self._nothing = nothing
        self._measures: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        measured = self._measures.get(name)
        if measured is None:
            definition = self._definitions.get(name)
            # Inside itself a fragment counts for nothing; validation refuses circles, and spreads
            # of what is not there.
            self._measures[name] = self._nothing
            measured = self._nothing if definition is None else self._measure(definition)
            self._measures[name] = measured
        return measured


def excess(document: DocumentNode) -> list[GraphQLError]:
    """What of a document's shape is beyond the limits; nothing for one that may be validated."""

    def shape(selected: SelectionSetNode) -> Shape:
        total = Shape()
        for node in selected.selections:
            own = Shape(selections=1, directives=len(node.directives or ()))
            if isinstance(node, FieldNode):
                inner = shape(node.selection_set) if node.selection_set else Shape()
                deep = 0 if _introspects(node.name.value) else inner.depth
                aliases = inner.aliases + bool(node.alias)
                total += own + replace(inner, depth=1 + deep, fields=1, aliases=aliases)
            elif isinstance(node, FragmentSpreadNode):
                inner = fragments[node.name.value]
                total += own + replace(inner, nested=1 + inner.nested)
            elif isinstance(node, InlineFragmentNode):
                total += own + shape(node.selection_set)
        return total

    def whole(definition: DefinitionNode) -> Shape:
        if isinstance(definition, FragmentDefinitionNode):
            inner = shape(definition.selection_set)
            if _introspects(definition.type_condition.name.value):
                inner = replace(inner, depth=0)
            return inner + Shape(directives=len(definition.directives or ()))
        if isinstance(definition, OperationDefinitionNode):
            variables = definition.variable_definitions or ()
            directives = len(definition.directives or ())
            directives += sum(len(each.directives or ()) for each in variables)
            return shape(definition.selection_set) + Shape(directives=directives)
        return Shape()

    fragments = Fragments(document, whole, Shape())
    try:
        # Fragments too, each by itself: one that is never spread is validated all the same.
        return [error for each in document.definitions for error in _over(whole(each), each)]
    except RecursionError:
        return [_too_many("fragments within each other", MAX_NESTED_FRAGMENTS)]


def _introspects(name: str) -> bool:
    """Whether a field or type is of the schema itself, which is as deep as types are; graphql-core
    bounds what of it can repeat."""
    return name.startswith("__")


def _over(shape: Shape, definition: DefinitionNode) -> Iterator[GraphQLError]:
    limits = [
        ("levels", shape.depth, MAX_DEPTH),
        ("fragments within each other", shape.nested, MAX_NESTED_FRAGMENTS),
        ("selections", shape.selections, MAX_SELECTIONS),
        ("aliases", shape.aliases, MAX_ALIASES),
        ("directives", shape.directives, MAX_DIRECTIVES),
    ]
    if isinstance(definition, OperationDefinitionNode):
        changing = definition.operation is OperationType.MUTATION
        limits.append(("root fields", shape.fields, MAX_MUTATIONS if changing else MAX_ROOT_FIELDS))
    for what, number, most in limits:
        if number > most:
            yield _too_many(what, most, definition)


def _too_many(what: str, most: int, at: DefinitionNode | None = None) -> GraphQLError:
    return GraphQLError(f"too many {what}: the limit is {most}", at)
