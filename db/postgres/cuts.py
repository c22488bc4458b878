"""What cuts tokens off, made into the cache's text by PostgreSQL itself.

A million rows are a hundred strings then: fetched one by one, they would cost more than the cache
that they are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, TextClause, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine

from db.cuts import CLOCK_LEEWAY_SECONDS, CUT_LIFE, LEAST_ID, CutKind, Cuts
from db.postgres.connections import Reading

_LIFE = f"interval '{CUT_LIFE // CUT_LIFE.resolution // 1_000_000} seconds'"
_BOUNDS: dict[str, TypeEngine[Any]] = {
    "now": TIMESTAMP(timezone=True),
    "since": TIMESTAMP(timezone=True),
    "after": Uuid(),
    "most": BigInteger(),
}


def _until(end: str) -> str:
    """As `db.cuts.token_until`, in ten digits."""
    second = f"ceil(extract(epoch FROM {end})) + {CLOCK_LEEWAY_SECONDS}"
    return f"lpad(CAST(CAST({second} AS bigint) AS text), 10, '0')"


@dataclass(frozen=True, slots=True)
class _Source:
    """Where cuts of one kind are; `made_at` is the column that an index finds recent ones by."""

    table: str
    id: str
    made_at: str
    live: str
    line: str


_SOURCES = {
    CutKind.TOKEN: _Source(
        table='"{t}token_revocations"',
        id="jti",
        made_at="revoked_at",
        live="expires_at > :now",
        line=f"CAST(jti AS text) || {_until('expires_at')}",
    ),
    CutKind.CREDENTIAL: _Source(
        table='"{t}credentials"',
        id="credential_id",
        made_at="revoked_at",
        # Not one that came to its own end: `Credential.was_cut`.
        live="status = 'revoked' AND revoked_at IS DISTINCT FROM expires_at"
        f" AND revoked_at > :now - {_LIFE}",
        line=f"CAST(credential_id AS text) || {_until(f'revoked_at + {_LIFE}')}",
    ),
    CutKind.AGENT: _Source(
        table='"{t}agents"',
        id="agent_id",
        made_at="updated_at",
        # Word for word the condition of the index.
        live=f"token_generation > 0 AND updated_at > :now - {_LIFE}",
        line=f"CAST(agent_id AS text) || {_until(f'updated_at + {_LIFE}')}"
        " || lpad(CAST(token_generation AS text), 10, '0')",
    ),
}


def _select(kind: CutKind, *, since: bool) -> str:
    """One row: the kind, and the text, which is NULL when there is nothing."""
    source = _SOURCES[kind]
    recent = f" AND {source.made_at} >= :since" if since else ""
    return (
        f"SELECT '{kind}', string_agg(line, '') FROM (SELECT {source.line} AS line"
        f" FROM {source.table} WHERE {source.live}{recent} AND {source.id} > :after"
        f" ORDER BY {source.id} LIMIT :most) AS found"
    )


def _statement(sql: str, *names: str) -> TextClause:
    return text(sql).bindparams(*(bindparam(name, type_=_BOUNDS[name]) for name in names))


_ALL = {kind: _statement(_select(kind, since=False), "now", "after", "most") for kind in CutKind}
_SINCE = {
    kind: _statement(_select(kind, since=True), "now", "since", "after", "most") for kind in CutKind
}
_RECENT = _statement(
    " UNION ALL ".join(_select(kind, since=True) for kind in CutKind),
    "now", "since", "after", "most",
)  # fmt: skip


async def some(
    reading: Reading,
    kind: CutKind,
    now: datetime,
    since: datetime | None,
    after: UUID,
    limit: int,
) -> Cuts:
    values: dict[str, object] = {"now": now, "after": after, "most": limit}
    statement = _ALL[kind]
    if since is not None:
        statement, values["since"] = _SINCE[kind], since
    _, found = tuple((await reading.rows(statement, values))[0])
    return Cuts(kind, found or "")


async def recent(reading: Reading, now: datetime, since: datetime, limit: int) -> Sequence[Cuts]:
    values = {"now": now, "since": since, "after": LEAST_ID, "most": limit}
    rows = [tuple(row) for row in await reading.rows(_RECENT, values)]
    return [Cuts(CutKind(kind), found) for kind, found in rows if found]
