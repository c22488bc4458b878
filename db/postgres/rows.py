"""Rows to records and back. A column of a table and a field of its record have the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic

from sqlalchemy import Column, Table

from db import tables
from db.contract import Wanted
from db.fields import Record, field_names, partial
from db.lists import AGENT_KEYS, AUDIT_EVENT_KEYS, CREDENTIAL_KEYS
from db.records import (
    Agent,
    AgentStatus,
    AgentType,
    AuditAction,
    AuditEvent,
    AuditOutcome,
    Credential,
    CredentialStatus,
    DeploymentEnv,
    IdempotencyKey,
    OperatorEvent,
    Purge,
    Revocation,
    Severity,
    SigningKey,
    SigningKeyStatus,
    Tenant,
    TenantStatus,
)
from db.work import JobName, Work, WorkState

Decode = Callable[[Any], object]


class Codec(Generic[Record]):
    """The rows of one table as records of one kind, whole or only the fields that are wanted.

    `keys` are fetched whatever is wanted; `decoders` turn what the driver gives into what the
    record holds, for the columns where these differ.
    """

    def __init__(
        self,
        kind: type[Record],
        table: Table,
        keys: Sequence[str],
        decoders: Mapping[str, Decode],
    ) -> None:
        self.names = field_names(kind)
        self._kind: type[Record] = kind
        self._whole: Callable[..., Record] = kind
        self._table = table
        self._keys = frozenset(keys)
        self._decoders = decoders

    def wanted(self, wanted: Wanted) -> tuple[str, ...]:
        """The names to fetch, in one order whatever the caller's, so that statements are shared."""
        if wanted is None:
            return self.names
        asked = self._keys.union(wanted)
        if unknown := asked.difference(self.names):
            raise AttributeError(f"{self._kind.__name__} has no {', '.join(sorted(unknown))}")
        return tuple(name for name in self.names if name in asked)

    def columns(self, names: Sequence[str]) -> list[Column[Any]]:
        return [self._table.c[name] for name in names]

    def record(self, row: Sequence[Any], names: Sequence[str] | None = None) -> Record:
        """The record of a row that begins with the columns `names`, or with all of them."""
        names = self.names if names is None else names
        decoders = self._decoders
        values = (
            decoders[name](value) if name in decoders else value
            for name, value in zip(names, row, strict=False)
        )
        if len(names) == len(self.names):
            return self._whole(*values)
        return partial(self._kind, names, values)


AGENTS = Codec(
    Agent,
    tables.agents,
    AGENT_KEYS,
    {
        "agent_type": AgentType,
        "capabilities": tuple,
        "deployment_env": DeploymentEnv,
        "status": AgentStatus,
        "channels": tuple,
        "tools": tuple,
    },
)
CREDENTIALS = Codec(Credential, tables.credentials, CREDENTIAL_KEYS, {"status": CredentialStatus})
AUDIT_EVENTS = Codec(
    AuditEvent,
    tables.audit_events,
    AUDIT_EVENT_KEYS,
    {"action": AuditAction, "outcome": AuditOutcome, "severity": Severity},
)
TENANTS = Codec(
    Tenant, tables.tenants, ("slug",), {"status": TenantStatus, "resource_servers": tuple}
)


OPERATOR_EVENTS = Codec(
    OperatorEvent, tables.operator_events, ("event_id",), {"outcome": AuditOutcome}
)
SIGNING_KEYS = Codec(SigningKey, tables.signing_keys, ("kid",), {"status": SigningKeyStatus})
WORK = Codec(Work, tables.work, ("key",), {"job": JobName, "state": WorkState})
REVOCATIONS = Codec(Revocation, tables.token_revocations, ("jti",), {})
PURGES = Codec(Purge, tables.purge_log, ("purge_id",), {})
IDEMPOTENCY_KEYS = Codec(IdempotencyKey, tables.idempotency_keys, ("scope", "key"), {})


def parameters(
    record: Agent
    | Credential
    | AuditEvent
    | Revocation
    | Tenant
    | OperatorEvent
    | SigningKey
    | Work
    | Purge
    | IdempotencyKey,
) -> dict[str, object]:
    """A record's fields as what the driver takes: lists for tuples."""
    return {
        each.name: list(value) if isinstance(value := getattr(record, each.name), tuple) else value
        for each in fields(record)
    }
