"""How many rows one call may make the gateway read: pages within pages multiply.

Variables decide, so that each call is judged by its own, unless the document could not ask for
too much whatever they are.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
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
# A nested count is a statement for each of the rows around it.
_COUNTS = frozenset({"totalCount", "totalCountCapped"})
_OF_A_COUNT = 50


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
        self._fragments = Fragments(document, self._of_fragment, 0)

    def all(self) -> int:
        root = self._schema.get_root_type(self._operation.operation)
        assert root is not None, "validation has seen to it"
        return self._below(self._operation.selection_set, root)

    def _below(self, selected: SelectionSetNode, parent: GraphQLCompositeType) -> int:
        total = 0
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

    def _of_fragment(self, definition: FragmentDefinitionNode) -> int:
        kind = self._composite(definition.type_condition.name.value)
        return self._below(definition.selection_set, kind)

    def _of_field(self, node: FieldNode, parent: GraphQLCompositeType) -> int:
        name = node.name.value
        if name in _COUNTS:
            return _OF_A_COUNT
        # Introspection reads no rows.
        if node.selection_set is None or name.startswith("__"):
            return 0
        field = self._schema.get_field(parent, name)
        assert field is not None, "validation has seen to it"
        kind = get_named_type(field.type)
        assert is_composite_type(kind)
        each = self._below(node.selection_set, kind)
        number = self._number(node, field, parent)
        return each if number is None else number * (1 + each)

    def _number(
        self, node: FieldNode, field: GraphQLField, parent: GraphQLCompositeType
    ) -> int | None:
        """How many rows the field has; None where it has no list of its own."""
        if "first" in field.args:
            asked = [
                self._size(each.value)
                for each in node.arguments or ()
                if each.name.value in ("first", "last")
            ]
            return max((size for size in asked if size is not None), default=DEFAULT_PAGE)
        of_connection = not isinstance(parent, GraphQLUnionType) and "pageInfo" in parent.fields
        if of_connection or not is_list_type(get_nullable_type(field.type)):
            return None
        return MAX_PAGE

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


def _within(size: int) -> int:
    return max(0, min(size, MAX_PAGE))
