"""Whose turn it is at a row that many share and a few change.

PostgreSQL hands out the locks of a row without a queue: whoever shares one that is shared already
never waits, so whoever is to change it may wait for ever behind a stream of them. A tenant that has
gone wild is such a stream, and would keep its own kill switch from being engaged. An advisory lock
is taken in turn; here it stands in front of the row's, in the same statement. Whoever comes after
somebody who is going to change the row waits until that is done, and then reads what it has become.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Function,
    Select,
    Table,
    Text,
    cast,
    func,
    literal_column,
    select,
    true,
)


def held(rows: Select[Any], table: Table, name: ColumnElement[Any]) -> Select[Any]:
    """`rows` of the `table`, at most one, FOR UPDATE; `name` is no other row's."""
    return _after(func.pg_advisory_xact_lock(_number(table, name)), rows, table).with_for_update(
        of=table
    )


def shared(
    rows: Select[Any], table: Table, name: ColumnElement[Any], *, key_share: bool = False
) -> Select[Any]:
    """As `held`, against a change: FOR SHARE, or FOR KEY SHARE."""
    turn = func.pg_advisory_xact_lock_shared(_number(table, name))
    return _after(turn, rows, table).with_for_update(read=True, key_share=key_share, of=table)


def _number(table: Table, name: ColumnElement[Any]) -> Function[Any]:
    # The table's name as it is written elsewhere in the statement, so that it is a tenant's own.
    whose = literal_column(f"'\"{table.name}\" '", Text)
    # Two that come to one number wait for each other, which is rare and does no harm.
    return func.hashtextextended(whose + cast(name, Text), literal_column("0"))


def _after(turn: Function[Any], rows: Select[Any], table: Table) -> Select[Any]:
    """The row's own lock is the last step of the statement, when all that it is joined with is
    there."""
    return rows.join_from(table, select(turn.label("taken")).cte("turn"), true())
