"""Every tenant's tables are brought to head."""

from __future__ import annotations

from datetime import datetime

from workers.state import Report, State


async def run(state: State, now: datetime) -> Report:
    """Cut off, it is begun again and finds what is done already. Raises MigrationFailed when the
    registry itself cannot be migrated."""
    summary = await state.storage.upkeep.migrate(now, state.advance)
    failures = {each.subject: f"{each.revision}: {each.error}" for each in summary.failed}
    if summary.left:
        # One line for all of them: there may be thousands.
        names = summary.left[0] if len(summary.left) == 1 else f"{len(summary.left)} others"
        failures[names] = "not begun, because too much before failed"
    return Report(summary.seen, summary.changed, failures)
