"""What cuts tokens off before their own end, as text that the revocation cache takes as it is.

There may be a million live ones: each is a few characters of a long string, made where it is
stored, and none of them becomes an object on its way to the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

CLOCK_LEEWAY_SECONDS = 30
"""How far the clocks of two processes may be apart, with the time that a change takes from reading
its clock until it is committed: refusals are kept for longer by this much."""

LONGEST_TOKEN_LIFE = timedelta(seconds=86_400)
"""The most that TOKEN_TTL_SECONDS may say. A cut counts for this long whatever it says now: it may
have said more when the tokens were issued."""

CUT_LIFE = LONGEST_TOKEN_LIFE + timedelta(seconds=CLOCK_LEEWAY_SECONDS)
"""How long a cut counts from the instant that it holds. The last token before it may have been
issued later than that, by the clock of another process or while the cut was being committed."""

LAST_SECOND = 253_402_300_799
"""The last one that a token may say it ends at, which a timestamp column can hold. Until then a
retired key is known as that: who has stolen it says of a token's life what he likes."""

LEAST_ID = UUID(int=0)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_ID, _UNTIL, _GENERATION = 36, 10, 10  # characters


class CutKind(StrEnum):
    """TOKEN is one that was revoked, CREDENTIAL all that were issued for it, AGENT all of its that
    are of an older generation."""

    TOKEN = "token"
    CREDENTIAL = "credential"
    AGENT = "agent"

    @property
    def width(self) -> int:
        """How many characters one of them is in `Cuts.text`."""
        return _ID + _UNTIL + (_GENERATION if self is CutKind.AGENT else 0)


@dataclass(frozen=True, slots=True)
class Cut:
    id: UUID
    until: int
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Cuts:
    """Some cuts of one kind, by id in the order of its bytes. In `text` each is its id in the usual
    form, the second of the Unix clock until which it has to be known (`until` below) in ten digits,
    and of an agent the generation in ten more; nothing stands between them."""

    kind: CutKind
    text: str = ""

    def __len__(self) -> int:
        return len(self.text) // self.kind.width

    def __iter__(self) -> Iterator[Cut]:
        for piece in self.split(1):
            generation = piece[_ID + _UNTIL :]
            yield Cut(
                UUID(piece[:_ID]),
                int(piece[_ID : _ID + _UNTIL]),
                int(generation) if generation else None,
            )

    @property
    def last(self) -> UUID:
        """The id of the last of them, after which the next ones come; there must be one."""
        start = len(self.text) - self.kind.width
        return UUID(self.text[start : start + _ID])

    def split(self, most: int) -> Iterator[str]:
        """`text` in pieces of `most` cuts."""
        step = most * self.kind.width
        for start in range(0, len(self.text), step):
            yield self.text[start : start + step]


def token_until(expires_at: datetime) -> int:
    """Until when the revocation of a token that ends then has to be known: the first whole second
    at which no clock accepts it any more."""
    return -((_EPOCH - expires_at) // _SECOND) + CLOCK_LEEWAY_SECONDS


def cut_until(cut_at: datetime) -> int:
    """As `token_until`, of the last token that can have been issued before `cut_at`."""
    return token_until(cut_at + CUT_LIFE)


def as_text(cut: Cut) -> str:
    """One of `Cuts.text`."""
    generation = "" if cut.generation is None else f"{cut.generation:0{_GENERATION}d}"
    return f"{cut.id}{cut.until:0{_UNTIL}d}{generation}"
