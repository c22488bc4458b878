"""All that a tenant has, as JSON Lines: an object a line, its `type` first, named as in GraphQL.

A secret's hash is in none. The lines are read and written a page at a time, whatever their number.
A file that has its name is complete: it is written under another and on the disk before it gets it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import anyio.to_thread
import msgspec

from db.contract import Storage, TenantReader
from db.errors import Misconfigured, TenantNotProvisioned
from db.fields import field_names
from db.filters import AgentOrder
from db.pages import MAX_PAGE, Page, PageRequest
from db.records import Agent, AuditEvent, Credential, Revocation, Tenant
from db.removal import ExportFile
from db.upkeep import Advance

Row: TypeAlias = Tenant | Agent | Credential | AuditEvent | Revocation
Pages: TypeAlias = AsyncIterator[Sequence[Row]]

_NEVER = frozenset({"secret_hash", "secret_tag"})
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ID = UUID(int=0)
_BATCH = 1000
# How much is counted for the sake of telling how far it is.
_MOST_COUNTED = 1_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """An export that is complete and has not got its name yet."""

    path: Path
    file: ExportFile

    async def keep(self) -> None:
        """Gives it its name, in place of an older one. Raises Misconfigured."""
        with _usable_directory():
            os.replace(self.path, self.path.with_name(self.file.name))
            await anyio.to_thread.run_sync(_sync_directory, self.path.parent)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


def file_name(tenant: Tenant, requested_at: datetime) -> str:
    """`acme-20261122T031418Z.jsonl`: a slug holds no hyphen."""
    return f"{tenant.slug}-{requested_at.astimezone(UTC):%Y%m%dT%H%M%SZ}.jsonl"


async def write(
    storage: Storage,
    tenant: Tenant,
    directory: Path,
    name: str,
    claim: int,
    now: datetime,
    advance: Advance,
) -> Draft:
    """Everything that the tenant's tables hold, however old; a table that was never made has no
    lines. `claim` keeps two writers apart. Raises Misconfigured when the directory is of no use.
    """
    sink = _open(directory, tenant.slug, name, claim)
    try:
        rows: dict[str, int] = {}
        reader, done = storage.read(tenant.prefix), 0
        total = await _size(reader)
        for kind, pages in _kinds(tenant, reader):
            rows[kind] = 0
            try:
                async for page in pages:
                    sink.write(_lines(kind, page))
                    rows[kind] += len(page)
                    done += len(page)
                    advance(done, max(done, total))
            except TenantNotProvisioned:
                if rows.pop(kind):
                    raise
        last = {"type": "summary", "tenant": tenant.slug, "exportedAt": now, "rows": rows}
        sink.write(msgspec.json.encode(last) + b"\n")
        await anyio.to_thread.run_sync(sink.end)
    except BaseException:
        sink.abandon()
        raise
    return Draft(sink.path, ExportFile(name, sink.digest, rows))


async def is_there(directory: Path, file: ExportFile) -> bool:
    """Whether the export lies there as it was written."""

    def digest() -> str | None:
        try:
            with (directory / file.name).open("rb") as written:
                return hashlib.file_digest(written, "sha256").hexdigest()
        except OSError:
            return None

    return await anyio.to_thread.run_sync(digest) == file.sha256


def _kinds(tenant: Tenant, reader: TenantReader) -> Sequence[tuple[str, Pages]]:
    """In the order of time where there is one."""
    return (
        ("tenant", _single(tenant)),
        (
            "agent",
            _forward(lambda request: reader.agents.page(request, order=AgentOrder.CREATED_AT_ASC)),
        ),
        ("credential", _backward(lambda request: reader.credentials.page(request))),
        ("auditEvent", _backward(lambda request: reader.audit.page(request, _BEGINNING))),
        ("revocation", _revocations(reader)),
    )


async def _single(row: Row) -> Pages:
    yield (row,)


async def _forward(ask: Callable[[PageRequest], Awaitable[Page[Any]]]) -> Pages:
    page = await ask(PageRequest(first=MAX_PAGE))
    while page.items:
        yield page.items
        page = await ask(PageRequest(first=MAX_PAGE, after=page.cursors[-1]))


async def _backward(ask: Callable[[PageRequest], Awaitable[Page[Any]]]) -> Pages:
    """A list whose newest come first, from its end."""
    page = await ask(PageRequest(last=MAX_PAGE))
    while page.items:
        yield page.items[::-1]
        page = await ask(PageRequest(last=MAX_PAGE, before=page.cursors[0]))


async def _revocations(reader: TenantReader) -> Pages:
    batch = await reader.revocations.batch(_FIRST_ID, _BATCH)
    while batch:
        yield batch
        batch = await reader.revocations.batch(batch[-1].jti, _BATCH)


async def _size(reader: TenantReader) -> int:
    counts: Sequence[Callable[[], Awaitable[int]]] = (
        lambda: reader.agents.count(cap=_MOST_COUNTED),
        lambda: reader.credentials.count(cap=_MOST_COUNTED),
        lambda: reader.audit.count(_BEGINNING, cap=_MOST_COUNTED),
    )
    counted = 1
    for count in counts:
        with suppress(TenantNotProvisioned):
            counted += await count()
    return counted


def _lines(kind: str, rows: Sequence[Row]) -> bytes:
    names = _NAMES[type(rows[0])]
    return b"".join(
        msgspec.json.encode({"type": kind} | {s: getattr(row, n) for n, s in names.items()}) + b"\n"
        for row in rows
    )


def _said(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_NAMES: Mapping[type[Row], Mapping[str, str]] = {
    kind: {name: _said(name) for name in field_names(kind) if name not in _NEVER}
    for kind in (Tenant, Agent, Credential, AuditEvent, Revocation)
}


class _Sink:
    """A file that nobody else can read or has opened, and the digest of what went into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")
        self._digest = hashlib.sha256()

    def write(self, lines: bytes) -> None:
        with _usable_directory():
            self._file.write(lines)
        self._digest.update(lines)

    def end(self) -> None:
        """Returns when it is on the disk, which may take a while."""
        with _usable_directory():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def _open(directory: Path, slug: str, name: str, claim: int) -> _Sink:
    # What a worker that was killed has left, of this removal or of one that was called off.
    left = re.compile(rf"\.{slug}-\d{{8}}T\d{{6}}Z\.jsonl\.\d+")
    with _usable_directory():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in directory.iterdir():
            if left.fullmatch(each.name):
                each.unlink(missing_ok=True)
        return _Sink(directory / f".{name}.{claim}")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _usable_directory() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Without the place, which is the operator's own business.
        reason = error.strerror or type(error).__name__
        raise Misconfigured(f"EXPORT_DIRECTORY is of no use: {reason}") from None
