"""The processes of one terminal: what each says is marked with its name, and who ends is told."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.servers.process import end, launch, wait_or_kill

_WIDTH = 8  # of the longest name, so that the lines stand in one column
_PATIENCE = 30  # seconds: more than the gateway takes to drain


class Children:
    """Starts processes and tells who ended first; `stop` ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._running: list[tuple[subprocess.Popen[bytes], threading.Thread]] = []
        self._printing = threading.Lock()
        self._readable = True

    def say(self, name: str, line: str) -> None:
        with self._printing:
            if not self._readable:
                return
            try:
                print(f"{name:<{_WIDTH}} | {line}" if name else line, flush=True)
            except OSError:
                # The terminal is gone. The pipes are still emptied, or the children would block.
                self._readable = False
                self._ended.put(("the terminal", 0))
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def run(self, name: str, *module: str) -> int:
        """The exit status of `python -m module`, once it has ended."""
        process, reader = self._launch(name, module)
        try:
            return process.wait()
        finally:
            end(process, signal.SIGTERM, _PATIENCE)
            reader.join()

    def start(self, name: str, *module: str) -> None:
        """Starts `python -m module`."""
        process, reader = self._launch(name, module)
        self._running.append((process, reader))
        self.watch(name, process)

    def watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Tells of a process that somebody else started and stops."""

        def wait() -> None:
            self._ended.put((name, process.wait()))

        threading.Thread(target=wait, daemon=True).start()

    def first_to_end(self, seconds: float | None = None) -> tuple[str, int] | None:
        """A name and its exit status, waited for; None when all still run after `seconds`."""
        try:
            return self._ended.get(timeout=seconds)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """All at once, because the gateway drains while the worker finishes its job."""
        for process, _ in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process, reader in self._running:
            wait_or_kill(process, _PATIENCE)
            reader.join()

    def _launch(
        self, name: str, module: tuple[str, ...]
    ) -> tuple[subprocess.Popen[bytes], threading.Thread]:
        process = launch(
            [sys.executable, "-m", *module],
            output=subprocess.PIPE,
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            folder=self._folder,
        )

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    self.say(name, line.decode(errors="replace").rstrip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return process, reader
