"""Wires to a server on a unix socket, one for each of its clients: each can be cut or go dead by
itself, and all can be led to another server.

It is what lies between processes and a cache in earnest: an address that is moved at a failover,
and a network that fails one machine and not the next.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

from tests.faults.aside import Aside

_CHUNK = 65_536


class Wire:
    """A port on 127.0.0.1 that leads to the unix socket `upstream`."""

    def __init__(self, aside: Aside, upstream: Path) -> None:
        self._aside = aside
        self._upstream = upstream
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._cut = False
        self._flowing = asyncio.Event()
        self._passing: set[asyncio.Task[None]] = set()
        aside.do(self._listen())

    def cut(self) -> None:
        """What is connected is cut off, and who comes is turned away."""
        self._aside.do(self._set(cut=True))

    def hang(self) -> None:
        """Whoever comes is let in, and nothing goes either way. What was said meanwhile arrives
        late, when it is mended: as with packets that are sent again until they come through."""
        self._aside.do(self._set(hung=True))

    def mend(self) -> None:
        self._aside.do(self._set())

    def lead_to(self, upstream: Path) -> None:
        """The other server has the address from now on; nobody stays connected to the one."""
        self._upstream = upstream
        self._aside.do(self._drop())

    def close(self) -> None:
        self._aside.do(self._close())

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._let_in, sock=self._listening)

    async def _set(self, *, cut: bool = False, hung: bool = False) -> None:
        self._cut = cut
        if hung:
            self._flowing.clear()
        else:
            self._flowing.set()
        if cut:
            await self._drop()

    async def _drop(self) -> None:
        passing = list(self._passing)
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _close(self) -> None:
        self._server.close()
        await self._drop()

    def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        # Here, because one that is cancelled before it began never comes to its own end.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        with suppress(OSError):
            there, back = await asyncio.open_unix_connection(self._upstream)
            both = [
                asyncio.create_task(self._carry(reader, back)),
                asyncio.create_task(self._carry(there, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
                back.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
