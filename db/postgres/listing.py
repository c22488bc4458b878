"""A list that can be paged, in SQL: one statement for each shape, built once for all tenants.

A shape is which columns are fetched, which conditions are given and which way the list is read;
the values of the conditions are parameters. The database thus prepares a handful of statements,
and SQLAlchemy compiles each of them once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import gt, lt
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    Uuid,
    any_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from db.pages import Bounds, Keyset, Page, PageRequest
from db.postgres.connections import Runs

T = TypeVar("T")
P = TypeVar("P", bound=tuple[object, ...])
Parameters = dict[str, object]
_SHAPES = 1024


def among(column: Column[Any], name: str) -> ColumnElement[bool]:
    """`column` is one of the parameter's values, however many: one statement for all lengths."""
    kind = Uuid() if isinstance(column.type, Uuid) else Text()
    return column == any_(bindparam(name, type_=ARRAY(kind)))


def given(**values: object) -> Parameters:
    """The parameters of a filter, without those that do not restrict."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


class Listing(Generic[T, P]):
    """One list, sorted by the columns of `key`.

    `conditions` are those that a filter may give, by the name of their parameter.
    """

    def __init__(
        self,
        key: Sequence[Column[Any]],
        conditions: Mapping[str, ColumnElement[bool]],
        *,
        descending: bool,
    ) -> None:
        self._key = tuple(key)
        self._table: FromClause = key[0].table
        self._descending = descending
        self._conditions = {
            **conditions,
            "after": self._beyond("after", lt if descending else gt),
            "before": self._beyond("before", gt if descending else lt),
        }
        self._page = lru_cache(_SHAPES)(self._page_statement)
        self._batch = lru_cache(_SHAPES)(self._batch_statement)
        self._count = lru_cache(_SHAPES)(self._count_statement)

    async def page(
        self,
        database: Runs,
        keyset: Keyset[T, P],
        request: PageRequest,
        filter: Parameters,
        names: tuple[str, ...],
        record: Callable[[Sequence[Any]], T],
    ) -> Page[T]:
        """Raises InvalidCursor."""
        bounds = keyset.open(request)
        statement = self._page(names, _shape(filter, bounds), bounds.backward)
        rows = await database.rows(statement, {**filter, **_edges(bounds)})
        return keyset.page(bounds, [record(row) for row in rows])

    async def pages(
        self,
        database: Runs,
        owner: Column[Any],
        keysets: Mapping[UUID, Keyset[T, P]],
        request: PageRequest,
        filter: Parameters,
        names: tuple[str, ...],
        record: Callable[[Sequence[Any]], T],
    ) -> dict[UUID, Page[T]]:
        """A page for each value of the column `owner`, in one statement. Raises InvalidCursor."""
        opened = {key: keyset.open(request) for key, keyset in keysets.items()}
        # A cursor is of one owner's list alone: where there are several, none was given.
        bounds = next(iter(opened.values()), Bounds(request.limit, request.backward, None, None))
        statement = self._batch(owner, names, _shape(filter, bounds), bounds.backward)
        parameters = {**filter, **_edges(bounds), "owners": list(keysets)}
        found: dict[UUID, list[T]] = {key: [] for key in keysets}
        at = names.index(owner.name)
        for row in await database.rows(statement, parameters):
            found[row[at]].append(record(row))
        return {key: keyset.page(opened[key], found[key]) for key, keyset in keysets.items()}

    async def count(self, database: Runs, filter: Parameters, cap: int) -> int:
        statement = self._count(frozenset(filter))
        [[counted]] = await database.rows(statement, {**filter, "limit": cap + 1})
        return int(counted)

    def _page_statement(
        self, names: tuple[str, ...], shape: frozenset[str], backward: bool
    ) -> Select[Any]:
        return (
            select(*(self._table.c[name] for name in names))
            .where(*self._restrictions(shape))
            .order_by(*self._order(self._key, backward))
            .limit(_LIMIT)
        )

    def _batch_statement(
        self, owner: Column[Any], names: tuple[str, ...], shape: frozenset[str], backward: bool
    ) -> Select[Any]:
        owners = bindparam("owners", type_=ARRAY(Uuid))
        asked = (
            func.unnest(owners).table_valued(column("owner", Uuid), name="asked").render_derived()
        )
        rows = (
            self._page_statement(names, shape, backward)
            .where(owner == asked.c.owner)
            .lateral("listed")
        )
        key = tuple(rows.c[each.name] for each in self._key)
        return (
            select(*rows.c)
            .select_from(asked.join(rows, true()))
            .order_by(*self._order(key, backward))
        )

    def _count_statement(self, shape: frozenset[str]) -> Select[Any]:
        some: Select[Any] = select(literal_column("1")).select_from(self._table)
        capped = some.where(*self._restrictions(shape)).limit(_LIMIT).subquery("capped")
        return select(func.count()).select_from(capped)

    def _restrictions(self, shape: frozenset[str]) -> list[ColumnElement[bool]]:
        return [self._conditions[name] for name in sorted(shape)]

    def _order(self, key: Sequence[ColumnElement[Any]], backward: bool) -> list[ColumnElement[Any]]:
        return [each.asc() if self._descending is backward else each.desc() for each in key]

    def _beyond(
        self, name: str, compare: Callable[[Any, Any], ColumnElement[bool]]
    ) -> ColumnElement[bool]:
        """The rows strictly on one side of a position; compared as a whole row, so that the index
        on the first column serves it."""
        edge = [bindparam(f"{name}_{i}", type_=each.type) for i, each in enumerate(self._key)]
        if len(self._key) == 1:
            return compare(self._key[0], edge[0])
        return compare(tuple_(*self._key), tuple_(*edge))


_LIMIT = bindparam("limit", type_=Integer)


def _shape(filter: Parameters, bounds: Bounds[Any]) -> frozenset[str]:
    edges = {"after": bounds.after, "before": bounds.before}
    return frozenset(filter).union(name for name, edge in edges.items() if edge is not None)


def _edges(bounds: Bounds[Any]) -> Parameters:
    parameters: Parameters = {"limit": bounds.limit + 1}
    for name, edge in (("after", bounds.after), ("before", bounds.before)):
        parameters.update({f"{name}_{i}": value for i, value in enumerate(edge or ())})
    return parameters
