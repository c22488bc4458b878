"""When a job comes again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    def after(self, now: datetime) -> datetime:
        """The next time that is later than `now`."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Every:
    """On the seconds since 1970 that `seconds` divides: counted from the end of the last run, what
    is due would wait for the next look every time."""

    seconds: int

    def after(self, now: datetime) -> datetime:
        span = timedelta(seconds=self.seconds)
        return _EPOCH + ((now - _EPOCH) // span + 1) * span

    def __str__(self) -> str:
        return f"every {self.seconds} s"


@dataclass(frozen=True, slots=True)
class Daily:
    """At `hour`:`minute` UTC."""

    hour: int
    minute: int

    def after(self, now: datetime) -> datetime:
        today = now.astimezone(UTC).replace(
            hour=self.hour, minute=self.minute, second=0, microsecond=0
        )
        return today if today > now else today + timedelta(days=1)

    def __str__(self) -> str:
        return f"daily at {self.hour:02d}:{self.minute:02d} UTC"
