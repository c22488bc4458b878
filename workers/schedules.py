"""When a job comes again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Schedule(Protocol):
    def after(self, now: datetime) -> datetime:
        """The next time that is later than `now`."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Every:
    seconds: int

    def after(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.seconds)

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
