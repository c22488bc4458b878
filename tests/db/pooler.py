"""A pooler in transaction mode, as strict as PgBouncer can turn out to be.

Between two transactions a client's next message always goes to another server connection than its
last, where nothing that the client has prepared exists. It forwards and never looks inside.

Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_STARTUP = b"\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00"
_TERMINATE = b"X"
_READY, _IDLE = b"Z", b"I"
# What the client waits for after a Sync, a Query, and the Flush behind the description of a
# statement: its columns, that it has none, or an error.
_LAST_ANSWERS = {b"S": _READY, b"Q": _READY, b"H": b"TnE"}

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def pooler(folder: Path, server: Path, size: int) -> AsyncIterator[None]:
    """Listens in `folder` for clients of the server, whose socket is `server` and which asks its
    superuser for no password."""
    pool: asyncio.Queue[Stream] = asyncio.Queue()
    connections = [await asyncio.open_unix_connection(server) for _ in range(size)]
    for connection in connections:
        greeting = await _greet(connection)
        pool.put_nowait(connection)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append((reader, writer))
        [length] = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(greeting)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await _forward(reader, writer, pool)
        writer.close()

    listener = await asyncio.start_unix_server(serve, folder / ".s.PGSQL.5432")
    try:
        yield
    finally:
        listener.close()
        for _, writer in connections:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pool: asyncio.Queue[Stream]
) -> None:
    server: Stream | None = None
    while True:
        kind, message = await _message(reader)
        if kind == _TERMINATE:
            return
        server = server or await pool.get()
        server[1].write(message)
        if last := _LAST_ANSWERS.get(kind):
            answer = b"-"
            while answer not in last:
                answer, message = await _message(server[0])
                writer.write(message)
            if answer == _READY and message.endswith(_IDLE):
                pool.put_nowait(server)
                server = None


async def _greet(server: Stream) -> bytes:
    """What the server says until it is ready: the same for every client."""
    reader, writer = server
    writer.write(struct.pack("!i", len(_STARTUP) + 4) + _STARTUP)
    greeting = kind = b""
    while kind != _READY:
        kind, message = await _message(reader)
        greeting += message
    return greeting


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    kind, length = struct.unpack("!ci", head)
    return kind, head + await reader.readexactly(length - 4)
