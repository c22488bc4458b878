"""What was promised, what was answered, and what was going on meanwhile.

One loop writes to it, so that what is known when a check begins is known for certain. Instants are
`time.monotonic()`, which is one clock for every thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """UNAVAILABLE: no answer, or that there is none now (503)."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


@dataclass(eq=False, slots=True)
class Token:
    """`keeper` is the token that looks into it; None where it has to do that itself."""

    text: str = field(repr=False)
    slug: str
    keeper: str | None = field(repr=False)
    cut: Cut | None = None

    @property
    def is_gone(self) -> bool:
        """Its end has been acknowledged."""
        return self.cut is not None and self.cut.acknowledged is not None

    @property
    def is_whole(self) -> bool:
        """Nobody has asked for its end so far."""
        return self.cut is None or not self.cut.asked


@dataclass(eq=False, slots=True)
class Cut:
    """`ask` says whether it is acknowledged, `again` when it was asked before. `race` is a login
    beside it. `undo` lets its subject be used again, which brings no token back."""

    kind: str
    tokens: list[Token]
    ask: Callable[[int, bool], Awaitable[bool]]
    race: Callable[[int], Awaitable[Token | None]] | None = None
    undo: Callable[[], Awaitable[None]] | None = None
    asked: bool = False
    acknowledged: float | None = None

    def __post_init__(self) -> None:
        for token in self.tokens:
            token.cut = self

    def add(self, token: Token) -> None:
        token.cut = self
        self.tokens.append(token)


@dataclass(frozen=True, slots=True)
class Check:
    """A token was shown to a gateway. `known`: its end was acknowledged when this began; `whole`:
    nobody had asked for it when this was over."""

    token: Token
    gateway: int
    way: str
    began: float
    known: bool
    whole: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Outage:
    kind: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Wait:
    """How long one gateway did not accept one token that was good all along."""

    gateway: int
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def beyond(self, outage: Outage) -> float:
        """Seconds of it that lie before or after `outage`."""
        return max(0, outage.began - self.began) + max(0, self.ended - outage.ended)


@dataclass(slots=True)
class Ledger:
    """`accepted_after`, `refused_wrongly` and `unexpected` say what must not be."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    refused_after: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    put_off: Counter[str] = field(default_factory=Counter)
    raced: int = 0
    warmth: Counter[str] = field(default_factory=Counter)
    accepted_after: list[str] = field(default_factory=list)
    refused_wrongly: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    on: str = "nothing"
    began: float = field(default_factory=time.monotonic)

    @property
    def checks(self) -> int:
        return self.verdicts.total()

    @property
    def faults(self) -> Counter[str]:
        return Counter(outage.kind for outage in self.outages)

    def note(self, check: Check) -> None:
        self.verdicts[check.verdict] += 1
        if check.known:
            if check.verdict is Verdict.ACCEPTED:
                self.accepted_after.append(self._told(check))
            elif check.verdict is Verdict.REFUSED:
                self.refused_after += 1
        elif check.whole and check.verdict is Verdict.REFUSED:
            self.refused_wrongly.append(self._told(check))

    def acknowledge(self, cut: Cut) -> None:
        cut.acknowledged = time.monotonic()
        self.acknowledged[cut.kind] += 1

    @contextmanager
    def outage(self, kind: str) -> Iterator[None]:
        began, self.on = time.monotonic(), kind
        try:
            yield
        finally:
            self.outages.append(Outage(kind, began, time.monotonic()))
            self.on = f"{kind}, which is over"

    def report(self) -> str:
        longest = max((wait.seconds for wait in self.waits), default=0.0)
        lines = {
            "checks": f"{self.checks} {_listed(self.verdicts)}",
            "refused after acknowledged": str(self.refused_after),
            "accepted after acknowledged": str(len(self.accepted_after)),
            "cuts acknowledged": f"{self.acknowledged.total()} {_listed(self.acknowledged)}",
            "put off with 503": f"{self.put_off.total()} {_listed(self.put_off)}",
            "tokens issued during a cut": str(self.raced),
            "faults": f"{self.faults.total()} {_listed(self.faults)}",
            "seen": _listed(self.warmth),
            "longest time without a good token": f"{longest:.2f} s",
            "duration": f"{time.monotonic() - self.began:.1f} s",
        }
        return "\n".join(f"{name:>34}  {value}" for name, value in lines.items())

    def _told(self, check: Check) -> str:
        cut = check.token.cut
        since = "" if cut is None or cut.acknowledged is None else (
            f", {(check.began - cut.acknowledged) * 1000:.1f} ms after {cut.kind}"
        )  # fmt: skip
        return (
            f"{check.began - self.began:.3f} s: {check.verdict} by gateway {check.gateway} at"
            f" {check.way}{since}; last fault: {self.on}"
        )


def _listed(counted: Counter[str] | Counter[Verdict]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))
