"""What one unit would make of a table. Nobody else sees it until it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar
from uuid import UUID

from db.errors import IdTaken, NotFound
from db.memory.rows import Rows
from db.memory.units import Life

R = TypeVar("R")
P = TypeVar("P", bound=tuple[object, ...])


class Draft(Generic[R, P]):
    """The committed rows, under those that the unit has added or changed; each is a `noun`."""

    def __init__(self, rows: Rows[R, P], noun: str, life: Life) -> None:
        self._rows = rows
        self._noun = noun
        self._life = life
        self._changed: dict[object, R] = {}

    def get(self, identifier: object) -> R | None:
        self._life.go_on()
        changed = self._changed.get(identifier)
        return self._rows.get(identifier) if changed is None else changed

    def of_group(self, group: UUID) -> Sequence[R]:
        """In ascending order."""
        self._life.go_on()
        changed = [row for row in self._changed.values() if self._rows.group_of(row) == group]
        rows = {self._rows.position(row): row for row in (*self._rows.of_group(group), *changed)}
        return [rows[position] for position in sorted(rows)]

    def new(self, row: R) -> None:
        """Raises IdTaken unless the row's id is new; does not add it yet."""
        if self.get(self._rows.position(row)[-1]) is not None:
            raise self._life.fail(IdTaken(f"the {self._noun}_id is there already"))

    def known(self, identifier: object) -> R:
        """Raises NotFound."""
        row = self.get(identifier)
        if row is None:
            raise self._life.fail(NotFound(f"there is no such {self._noun}"))
        return row

    def put(self, row: R) -> None:
        self._life.go_on()
        self._changed[self._rows.position(row)[-1]] = row

    def keep(self) -> None:
        for row in self._changed.values():
            self._rows.put(row)
