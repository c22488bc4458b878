"""Global ids, and the two fields that take any of them.

An id that is malformed, unknown or another tenant's answers the same: null.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast
from uuid import UUID

import strawberry

from db import records
from db.errors import InvalidInput
from gateway.graphql.access import AGENT, Access, guarded
from gateway.graphql.context import Context, Info
from gateway.graphql.scalars import canonical_uuid

MAX_NODES = 100


# A record's type has the name of its class.
_ID_FIELDS: dict[type, str] = {
    records.Agent: "agent_id",
    records.Credential: "credential_id",
    records.AuditEvent: "event_id",
}


@strawberry.interface(description="Anything that has an id of its own across all types.")
class Node:
    @strawberry.field
    def id(parent: strawberry.Parent[object]) -> strawberry.ID:
        kind = type(parent)
        return global_id(kind.__name__, getattr(parent, _ID_FIELDS[kind]))


Finder: TypeAlias = Callable[[Context, UUID], Awaitable[Node | None]]
# By type name: the access that reading the noun needs, and how one of them is found. The nouns
# enter themselves.
FINDERS: dict[str, tuple[Access, Finder]] = {}


def global_id(type_name: str, identifier: UUID) -> strawberry.ID:
    return strawberry.ID(b64encode(f"{type_name}:{identifier}".encode()).decode())


def _opened(text: str) -> tuple[str, UUID] | None:
    try:
        type_name, _, rest = b64decode(text, validate=True).decode("ascii").partition(":")
    except (ValueError, binascii.Error):
        return None
    identifier = canonical_uuid(rest)
    # Only the spelling that we gave out: one thing has one id.
    if type_name not in FINDERS or identifier is None or global_id(type_name, identifier) != text:
        return None
    return type_name, identifier


async def _find(context: Context, text: str) -> Node | None:
    """Raises Forbidden where the noun's own field would."""
    opened = _opened(text)
    if opened is None:
        return None
    type_name, identifier = opened
    access, find = FINDERS[type_name]
    access.check(context.call.principal)
    return await find(context, identifier)


async def _find_or_say(context: Context, text: str) -> Node | Exception | None:
    """The executor shows an exception in a list as a null and an error beside it."""
    try:
        return await _find(context, text)
    except Exception as error:
        return error


@strawberry.type
class NodeQueries:
    @guarded(
        AGENT, description="What has this id; reading it needs the scope that its own field needs."
    )
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        return await _find(info.context, id)

    @guarded(AGENT, description=f"As `node`, for up to {MAX_NODES} ids, in their order.")
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None]:
        if len(ids) > MAX_NODES:
            raise InvalidInput(f"ask for at most {MAX_NODES} ids", ("ids",))
        found = await asyncio.gather(*(_find_or_say(info.context, each) for each in ids))
        return cast("list[Node | None]", found)
