"""Something that is away is said to be away once, and to be there again once."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outage:
    """`what` does not answer; every try that fails in between stays quiet. Addresses may hold
    passwords, so of an error only the words that the caller chooses are told."""

    what: str
    lasts: bool = False

    def met(self, reason: str) -> None:
        if not self.lasts:
            _log.warning(f"{self.what} does not answer", reason=reason)
        self.lasts = True

    def over(self) -> None:
        if self.lasts:
            _log.info(f"{self.what} answers again")
        self.lasts = False
