"""How far a long task is, for whoever sits before it: a bar on a terminal, elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from db.upkeep import Advance


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """On standard error, where the terminal is, until the task is done; lines that are printed
    meanwhile stay above it."""
    if not sys.stderr.isatty():
        yield _unseen
        return
    # Whoever pipes the output away does not wait for this to load.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        # A pipe beside the terminal must get its lines itself.
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def _unseen(done: int, total: int) -> None:
    """Nobody watches."""
