"""What of a record an operation is going to show, so that nothing else is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
)
from strawberry.utils.str_converters import to_snake_case

from db.fields import Record, field_names
from db.records import Agent, AuditEvent, Credential
from gateway.graphql.context import Info

Fragments: TypeAlias = Mapping[str, FragmentDefinitionNode]
Path: TypeAlias = Sequence[str]

ROWS: tuple[Path, ...] = (("nodes",), ("edges", "node"))
"""Where a connection has its rows."""
ITSELF: tuple[Path, ...] = ((),)
"""The field is the row."""


class Shown:
    """For one noun, which of its record's fields each GraphQL field is made of.

    A field has the record's own name in camel case, unless `made_of` says otherwise.
    """

    def __init__(self, kind: type[Record], made_of: Mapping[str, str | tuple[str, ...]]) -> None:
        self._names = frozenset(field_names(kind))
        self._made_of = made_of

    def wanted(self, info: Info, rows: Iterable[Path] = ROWS) -> frozenset[str] | None:
        """The record's fields that the operation may show; None, all of them, when in doubt.

        What @skip and @include leave out is still fetched, and so is what a fragment on another
        type asks for: too much is slower, too little would be an error.
        """
        fragments = info._raw_info.fragments
        fields: set[str] = set()
        for path in rows:
            for node in _at(info._raw_info.field_nodes, path, fragments):
                name = node.name.value
                if name == "__typename":
                    continue
                made_of = self._made_of.get(name, to_snake_case(name))
                parts = {made_of} if isinstance(made_of, str) else set(made_of)
                if not parts <= self._names:
                    return None
                fields |= parts
        return frozenset(fields)


AGENT = Shown(
    Agent,
    {
        "id": "agent_id",
        "credentials": "agent_id",
        "auditEvents": "agent_id",
        "killSwitch": ("kill_switched_at", "kill_switch_reason"),
    },
)
CREDENTIAL = Shown(Credential, {"id": "credential_id", "agent": "client_id"})
AUDIT_EVENT = Shown(AuditEvent, {"id": "event_id", "agent": "agent_id"})


def _at(nodes: Iterable[FieldNode], path: Path, fragments: Fragments) -> Iterator[FieldNode]:
    """The fields below `nodes`, at the end of `path`."""
    for node in nodes:
        if node.selection_set is None:
            continue
        below = _fields(node.selection_set, fragments)
        if path:
            yield from _at((n for n in below if n.name.value == path[0]), path[1:], fragments)
        else:
            yield from below


def _fields(
    selected: SelectionSetNode, fragments: Fragments, seen: set[str] | None = None
) -> Iterator[FieldNode]:
    seen = set() if seen is None else seen
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            yield from _fields(fragments[node.name.value].selection_set, fragments, seen)
