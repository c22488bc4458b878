"""One operation, run to its end or to the end of its time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from inspect import isawaitable

from graphql import ExecutionResult, GraphQLError, execute
from graphql.execution import Executor

from gateway.graphql.context import Context
from gateway.graphql.documents import TOO_COMPLEX, Document, Operation, RefusedDocument
from gateway.graphql.rows import MAX_ROWS, rows
from gateway.graphql.schema import SCHEMA

OPERATION_SECONDS = 10.0


class TimedOut(Exception):
    """The operation was cancelled; whether its last change was kept is not known."""


async def run(
    document: Document,
    operation: Operation,
    variables: Mapping[str, object] | None,
    context: Context,
) -> ExecutionResult:
    """Raises RefusedDocument, TimedOut."""
    node, values = operation.node, dict(variables or {})
    if not operation.bounded and rows(SCHEMA, document.tree, node, values) > MAX_ROWS:
        error = GraphQLError(f"too many rows: the limit is {MAX_ROWS}", node)
        raise RefusedDocument(TOO_COMPLEX, [error])
    try:
        async with asyncio.timeout(OPERATION_SECONDS):
            result = execute(
                SCHEMA,
                document.tree,
                context_value=context,
                variable_values=values,
                operation_name=node.name.value if node.name else None,
                executor_class=Executor,
                hide_suggestions=True,
            )
            return await result if isawaitable(result) else result
    except TimeoutError:
        raise TimedOut from None
