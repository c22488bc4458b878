"""`errors[]`: what is told of an error, with a code and the request's id, and what is not.

What nobody has foreseen is told as an internal error, and logged. The log gets its kind and where
it came from, and no message: messages of libraries hold statements, values and pieces of documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import structlog
from graphql import GraphQLError

from db.errors import Denied, Forbidden, Refused, Throttled, Unavailable
from db.log import log_fault
from gateway.graphql.scalars import Malformed

INTERNAL = "INTERNAL_SERVER_ERROR"
BAD_USER_INPUT = "BAD_USER_INPUT"

_log = structlog.get_logger(__name__)

# graphql-core repeats what it was sent, and people paste secrets into the wrong place. In its
# messages values come last, after one of these; names and types come before.
_VALUE = re.compile(
    r", but encountered error .*|, found: .*|(cannot represent[^:]*): .*"
    r"|(\b(?:Name|Int|Float|String|BlockString)) '.*",
    re.DOTALL,
)
_UNKNOWN_MEMBER = re.compile(r"Value '.*' does not exist in", re.DOTALL)


def entry(error: GraphQLError, request_id: str, code: str | None = None) -> dict[str, Any]:
    """An error as it stands in `errors[]`; `code` is for those that were found before running."""
    if code is None:
        message, extensions = _told(error)
    else:
        message, extensions = _without_values(error), {"code": code, **(error.extensions or {})}
    shown: dict[str, Any] = {"message": message}
    if error.locations:
        shown["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        shown["path"] = error.path
    shown["extensions"] = {**extensions, "requestId": request_id}
    return shown


def plain_entry(message: str, code: str, request_id: str) -> dict[str, Any]:
    """An entry for what is wrong with the request itself."""
    return {"message": message, "extensions": {"code": code, "requestId": request_id}}


def retry_after(errors: Iterable[GraphQLError]) -> int | None:
    """How many seconds to wait, when a store could not be reached or too much was asked."""
    late = (Throttled, Unavailable)
    return max(
        (cause.retry_after for cause in map(_cause, errors) if isinstance(cause, late)),
        default=None,
    )


def _told(error: GraphQLError) -> tuple[str, dict[str, Any]]:
    cause = _cause(error)
    match cause:
        case Refused():
            told: dict[str, Any] = {"code": BAD_USER_INPUT, "reason": cause.code}
            if cause.path is not None:
                told["argument"] = list(cause.path)
            return cause.message, told
        case Forbidden(scope=str(scope)):
            return cause.message, {"code": cause.code, "scope": scope}
        case Denied():
            return cause.message, {"code": cause.code}
        case Throttled():
            return cause.message, {"code": cause.code, "retryAfter": cause.retry_after}
        case Unavailable():
            _log.warning("unavailable", reason=cause.message)
            return cause.message, {"code": cause.code, "retryAfter": cause.retry_after}
        case GraphQLError(nodes=[_, *_]):
            # Of the request: an argument that its variables made wrong.
            return _without_values(cause), {"code": BAD_USER_INPUT}
    log_fault(cause)
    return "internal error", {"code": INTERNAL}


def _without_values(error: GraphQLError) -> str:
    """What graphql-core says, with what it repeats of the request cut off."""
    known = _UNKNOWN_MEMBER.sub("the value does not exist in", error.message)
    message = _VALUE.sub(lambda found: found[1] or found[2] or "", known)
    cause = _cause(error)
    return f"{message}: {cause}" if isinstance(cause, Malformed) else message


def _cause(error: GraphQLError) -> Exception:
    """What was raised; graphql-core wraps it in an error that knows the place."""
    cause: Exception = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause
