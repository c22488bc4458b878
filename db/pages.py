"""Keyset pages: what is asked for, what comes back, and the one cursor codec of both backends.

A cursor is opaque. It holds the position of one row and a digest of that position and of whose
list it is, how sorted and how filtered, so that it means nothing changed and nothing anywhere else:
there it raises InvalidCursor. The digest is no secret. Whoever forges one can name a position in a
list that they may read anyway, and only one that both backends can compare.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from db.errors import InvalidCursor, InvalidInput
from db.namespace import TenantPrefix

T = TypeVar("T")
P = TypeVar("P", bound=tuple[object, ...])

DEFAULT_PAGE = 20
MAX_PAGE = 100
COUNT_CAP = 10_000
_DIGEST_BYTES = 8
_MAX_CURSOR = 512


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Relay's four arguments. Raises InvalidInput outside 1–100, or when both directions are asked.

    Source: GraphQL Cursor Connections Specification §4.
    """

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None:
            raise InvalidInput("ask for first or last, not both", ("last",))
        for name, value in (("first", self.first), ("last", self.last)):
            if value is not None and not 1 <= value <= MAX_PAGE:
                raise InvalidInput(f"{name} must be from 1 to {MAX_PAGE}", (name,))

    @property
    def limit(self) -> int:
        return self.last or self.first or DEFAULT_PAGE

    @property
    def backward(self) -> bool:
        return self.last is not None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows in the list's own order, with one cursor each."""

    items: tuple[T, ...] = ()
    cursors: tuple[str, ...] = ()
    has_next_page: bool = False
    has_previous_page: bool = False


@dataclass(frozen=True, slots=True)
class Bounds(Generic[P]):
    """A page request with its cursors opened: rows strictly after `after` and before `before`."""

    limit: int
    backward: bool
    after: P | None
    before: P | None


class Keyset(Generic[T, P]):
    """One list: whose it is, its sort and its filter.

    `position` gives the sort key of a row; both backends compare positions and nothing else. The
    `decoder` knows a position's types and limits. `db.lists` has every list there is.
    """

    def __init__(
        self,
        owner: TenantPrefix | None,
        name: str,
        filter: object,
        decoder: msgspec.msgpack.Decoder[P],
        position: Callable[[T], P],
    ) -> None:
        label = msgspec.msgpack.encode(
            (1, str(owner) if owner else None, name, filter), order="deterministic"
        )
        self._digest = hashlib.blake2b(label, digest_size=_DIGEST_BYTES)
        self._decoder = decoder
        self._position = position

    def cursor(self, row: T) -> str:
        packed = msgspec.msgpack.encode(self._position(row))
        return urlsafe_b64encode(self._sign(packed) + packed).rstrip(b"=").decode()

    def open(self, request: PageRequest) -> Bounds[P]:
        """Raises InvalidCursor."""
        return Bounds(
            limit=request.limit,
            backward=request.backward,
            after=self._decode(request.after, "after"),
            before=self._decode(request.before, "before"),
        )

    def page(self, bounds: Bounds[P], rows: Sequence[T]) -> Page[T]:
        """A page from up to `limit + 1` rows, read in the direction of `bounds`."""
        more = len(rows) > bounds.limit
        kept = tuple(rows[: bounds.limit])
        if bounds.backward:
            kept = kept[::-1]
        return Page(
            items=kept,
            cursors=tuple(self.cursor(row) for row in kept),
            has_next_page=bounds.before is not None if bounds.backward else more,
            has_previous_page=more if bounds.backward else bounds.after is not None,
        )

    def _sign(self, packed: bytes) -> bytes:
        digest = self._digest.copy()
        digest.update(packed)
        return digest.digest()

    def _decode(self, cursor: str | None, path: str) -> P | None:
        if cursor is None:
            return None
        try:
            if len(cursor) > _MAX_CURSOR:
                raise ValueError("too long")
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            whole = urlsafe_b64decode(padded)
            digest, packed = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
            # urlsafe_b64decode passes over foreign characters; a cursor is what we wrote, exactly.
            if urlsafe_b64encode(whole).rstrip(b"=").decode() != cursor:
                raise ValueError("not canonical")
            if digest != self._sign(packed):
                raise ValueError("changed, or of another list")
            position = self._decoder.decode(packed)
            # One position has one form; another, such as an instant in words, was not ours.
            if msgspec.msgpack.encode(position) != packed:
                raise ValueError("not canonical")
            return position
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise InvalidCursor(
                "the cursor is malformed, or comes from another tenant, sort or filter", (path,)
            ) from None
