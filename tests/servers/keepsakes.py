"""What is made up once and needed again: tokens, passwords, the demo client."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path


class UnreadableKeepsakes(RuntimeError):
    """The file is there and is not ours to understand; nothing in it is overwritten."""


class Keepsakes:
    """Words by name in one file that its owner alone can read, written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, str] = {}
        if path.exists():
            try:
                self._kept = {str(k): str(v) for k, v in json.loads(path.read_text()).items()}
            except (ValueError, AttributeError) as error:
                raise UnreadableKeepsakes(f"{path} is not a JSON object of words") from error

    def get(self, name: str) -> str | None:
        return self._kept.get(name)

    def secret(self, name: str) -> str:
        """The same random word every time it is asked for."""
        if name not in self._kept:
            self.keep(**{name: secrets.token_urlsafe(32)})
        return self._kept[name]

    def keep(self, **words: str) -> None:
        kept = {**self._kept, **words}
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(kept, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        self._kept = kept
