"""One client's connection: uvicorn's HTTP/1.1 protocol, with an end to what it reads and waits for.

uvicorn's own sets no bound to a request's head, to the requests that one client queues, or to the
time that either takes; each is memory or a socket that anyone may hold without having proved
anything. Bodies are bounded where they are read, in `gateway.http`.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog
from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD = 64 * 1024
HEAD_SECONDS = 15.0
# So many requests may wait for the answers to those before them.
MAX_WAITING = 32
# How long a client that was refused may go on sending: a socket that is closed with bytes unread
# is reset, and the answer is lost on its way.
LINGER_SECONDS = 2.0
# The limits are looked at between pieces. One of this size holds some two hundred requests, and
# ordinary ones come in one piece.
_PIECE = 4096

_log = structlog.get_logger(__name__)


class Connection(HttpToolsProtocol):
    # Bytes since a head, a body's content or a message last came to an end or went on: those of a
    # head that is not complete, or of trailers and of what stands between chunks.
    _unfinished = 0
    # Whether the piece that is being parsed brought any of that.
    _progressed = False
    # Once set, what arrives is thrown away.
    _deaf = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as in uvicorn's: a TCP transport is both
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._expect_a_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """In place of uvicorn's, which parses all of `data` before anything can be looked at."""
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        while data and not self._deaf:
            if len(data) <= _PIECE:
                piece, data = data, b""
            else:
                piece, data = data[:_PIECE], data[_PIECE:]
            self._progressed = False
            try:
                self.parser.feed_data(piece)
            except HttpParserUpgrade as upgrade:
                # No protocol is changed to, so what follows is HTTP as before; uvicorn would drop
                # it, and say in the log that a library is missing.
                data = piece[upgrade.args[0] :] + data
            except HttpParserError:
                self._refuse(400, "the request is not HTTP/1.1")
                return
            self._unfinished = 0 if self._progressed else self._unfinished + len(piece)
            if self._unfinished >= MAX_HEAD:
                self._refuse(431, f"the headers may hold at most {MAX_HEAD} bytes")
            elif len(self.pipeline) > MAX_WAITING:
                self._finish()
        if self._deadline is None and not self._answers():
            self._expect_a_head()

    def on_headers_complete(self) -> None:
        self._progressed = True
        self._stop_waiting()
        super().on_headers_complete()
        # Trailers are parsed as headers are, and would join those that the application has by now.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progressed = True
        super().on_message_complete()

    def _answers(self) -> bool:
        return bool(self.cycle and not self.cycle.response_complete)

    def _expect_a_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._waited_for_a_head)

    def _waited_for_a_head(self) -> None:
        if self._unfinished:
            self._refuse(408, f"the headers did not arrive within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, reason: str) -> None:
        """Ends the connection with an answer, unless the client would take it for the answer to a
        request before."""
        _log.info("connection refused", status=status, reason=reason)
        if self._answers():
            self._finish()
            return
        self._deaf = True
        # In OAuth's form: which endpoint was meant is not known.
        body = msgspec.json.encode({"error": "invalid_request", "error_description": reason})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self.transport.write_eof()
        self._stop_waiting()
        self._deadline = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _finish(self) -> None:
        """Reads no more; the last answer that is owed says that the connection closes after it."""
        self._deaf = True
        self.cycle.keep_alive = False
