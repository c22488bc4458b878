"""How many rows one call may make the gateway read: pages within pages multiply.

Variables decide, so that each call is judged by its own, unless the document could not ask for
too much whatever they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from db.pages import DEFAULT_PAGE, MAX_PAGE
from gateway.graphql.limits import Fragments

MAX_ROWS = 10_000
# A count is a statement of its own, which within a page is made for each of its rows.
_COUNTS = frozenset({"totalCount", "totalCountCapped"})
_OF_A_COUNT = 50
# A list inside a row is there with the row: nothing is read for it.
_WITH_ITS_ROW = frozenset({("WorkReport", "failures")})


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a selection set: its rows, and those for each row of the connection that it stands in."""

    rows: int = 0
    by_row: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.rows + other.rows, self.by_row + other.by_row)


def rows(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object] | None,
) -> int:
    """At most so many, for a valid document; None stands for any variables."""
    return _Walk(schema, document, operation, variables).all()


class _Walk:
    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: Mapping[str, object] | None,
    ) -> None:
        self._schema = schema
        self._operation = operation
        self._variables = variables
        self._fragments = Fragments(document, self._of_fragment, Cost())

    def all(self) -> int:
        root = self._schema.get_root_type(self._operation.operation)
        assert root is not None, "validation has seen to it"
        return self._below(self._operation.selection_set, root).rows

    def _below(self, selected: SelectionSetNode, parent: GraphQLCompositeType) -> Cost:
        total = Cost()
        for node in selected.selections:
            if isinstance(node, FieldNode):
                total += self._of_field(node, parent)
            elif isinstance(node, FragmentSpreadNode):
                total += self._fragments[node.name.value]
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                kind = self._composite(condition.name.value) if condition else parent
                total += self._below(node.selection_set, kind)
        return total

    def _of_fragment(self, definition: FragmentDefinitionNode) -> Cost:
        kind = self._composite(definition.type_condition.name.value)
        return self._below(definition.selection_set, kind)

    def _of_field(self, node: FieldNode, parent: GraphQLCompositeType) -> Cost:
        name = node.name.value
        if name in _COUNTS:
            return Cost(_OF_A_COUNT)
        # Introspection reads no rows.
        if node.selection_set is None or name.startswith("__"):
            return Cost()
        field = self._schema.get_field(parent, name)
        assert field is not None, "validation has seen to it"
        kind = get_named_type(field.type)
        assert is_composite_type(kind)
        inner = self._below(node.selection_set, kind)
        if "first" in field.args:
            size = self._page_size(node)
            return Cost(size + inner.rows + size * inner.by_row)
        if not is_list_type(get_nullable_type(field.type)):
            return Cost(inner.rows)
        if (parent.name, name) in _WITH_ITS_ROW:
            return inner
        if _is_connection(parent):
            return Cost(by_row=inner.rows)
        return Cost(MAX_PAGE * (1 + inner.rows))

    def _page_size(self, node: FieldNode) -> int:
        asked = [
            self._size(each.value)
            for each in node.arguments or ()
            if each.name.value in ("first", "last")
        ]
        return max((size for size in asked if size is not None), default=DEFAULT_PAGE)

    def _size(self, value: ValueNode) -> int | None:
        """Of a page, as far as it is known; what is out of range will be refused as such."""
        if isinstance(value, IntValueNode):
            return _within(int(value.value[:9]))
        if not isinstance(value, VariableNode):
            return None
        if self._variables is None:
            return MAX_PAGE
        name = value.name.value
        if name in self._variables:
            given = self._variables[name]
            return _within(given) if isinstance(given, int) else None
        for each in self._operation.variable_definitions or ():
            if each.variable.name.value == name and each.default_value is not None:
                return self._size(each.default_value)
        return None

    def _composite(self, name: str) -> GraphQLCompositeType:
        kind = self._schema.get_type(name)
        assert is_composite_type(kind), "validation has seen to it"
        return kind


def _is_connection(kind: GraphQLCompositeType) -> bool:
    return not isinstance(kind, GraphQLUnionType) and "pageInfo" in kind.fields


def _within(size: int) -> int:
    return max(0, min(size, MAX_PAGE))
