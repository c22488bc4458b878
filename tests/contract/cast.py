"""The rows that act in these tests: valid, all different, and complete unless a test says."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from db.clock import event_id
from db.contract import Storage, UnitOfWork
from db.namespace import TenantPrefix
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
    JSONObject,
    OperatorEvent,
    Revocation,
    Severity,
    SigningKey,
    SigningKeyStatus,
    Tenant,
    TenantStatus,
)
from db.work import JobName, Work, WorkState, work_key

ACME = TenantPrefix("acme")
GLOBEX = TenantPrefix("globex")

# In the middle of a month, and with a microsecond that a millisecond would lose.
NOW = datetime(2026, 5, 17, 12, 0, 0, 123457, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)

# Every character that some layer could take for its own: quotes of SQL, formats, the tenant token.
AWKWARD = '"{t}agents" %s %(x)s {0} $1 :name ?\'; -- \\ \t\n é ﷽ 🦉 \u202e \U0010ffff'


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_agent(**changes: Any) -> Agent:
    agent_id = changes.pop("agent_id", uuid4())
    values: dict[str, Any] = {
        "email": f"{agent_id.hex}@agents.example",
        "agent_type": AgentType.SCREENER,
        "version": "1.4.0-rc.1+build.7",
        "capabilities": ("agents:read", "resume:read"),
        "owner": "talent",
        "deployment_env": DeploymentEnv.PRODUCTION,
        "status": AgentStatus.ACTIVE,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Agent(agent_id=agent_id, **{**values, **changes})


def whole_agent(**changes: Any) -> Agent:
    """With something in every field."""
    return new_agent(
        **{
            "name": AWKWARD,
            "framework": "langgraph",
            "description": AWKWARD * 20,
            "channels": ("slack", AWKWARD),
            "tools": ("search", "mail", "search"),
            "permissions": ["a", 1, 2.5, True, None, {"b": {}}],
            "metadata": {"longer": AWKWARD, "b": [], "a": {"deep": [[-1]]}, AWKWARD: 2**53 - 1},
            "composite_score": 87,
            "governance_level": 4,
            "token_generation": 3,
            "kill_switched_at": after(7),
            "kill_switch_reason": AWKWARD,
            **changes,
        }
    )


def new_credential(client_id: UUID, **changes: Any) -> Credential:
    values: dict[str, Any] = {
        "credential_id": uuid4(),
        "secret_hash": "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde",
        "status": CredentialStatus.ACTIVE,
        "created_at": NOW,
    }
    return Credential(client_id=client_id, **{**values, **changes})


def whole_credential(client_id: UUID, **changes: Any) -> Credential:
    """With something in every field."""
    return new_credential(
        client_id,
        **{
            "secret_hash": "!",
            "status": CredentialStatus.REVOKED,
            "expires_at": after(3600),
            "revoked_at": after(60),
            "label": AWKWARD[:64],
            "last_used_at": after(30),
            "secret_tag": "00c0ffee",
            "public_key": {"longer": AWKWARD, "kty": "EC", "b": [1, {}], "x": 2.5},
            "replaced_by": uuid4(),
            **changes,
        },
    )


def new_event(instant: datetime = NOW, **changes: Any) -> AuditEvent:
    values: dict[str, Any] = {
        "event_id": event_id(instant),
        "agent_id": uuid4(),
        "action": AuditAction.AGENT_CREATED,
        "outcome": AuditOutcome.SUCCESS,
        "ip_address": "2001:db8::1",
        "user_agent": "agent/1.0",
        "metadata": {"subject": "someone"},
    }
    return AuditEvent(timestamp=instant, **{**values, **changes})


def whole_event(**changes: Any) -> AuditEvent:
    """With something in every field."""
    return new_event(
        **{
            "user_agent": AWKWARD,
            "metadata": {"longer": AWKWARD, "b": [1, {"c": None}], AWKWARD: 0.25},
            "severity": Severity.CRITICAL,
            "event_type": "invoice.paid",
            "policy_rule_id": "rule-7",
            **changes,
        }
    )


def new_revocation(**changes: Any) -> Revocation:
    values: dict[str, Any] = {"jti": uuid4(), "expires_at": after(900), "revoked_at": NOW}
    return Revocation(**{**values, **changes})


def new_tenant(slug: str, **changes: Any) -> Tenant:
    values: dict[str, Any] = {
        "display_name": slug.title(),
        "status": TenantStatus.ACTIVE,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Tenant(slug=slug, **{**values, **changes})


def new_operator_event(instant: datetime = NOW, **changes: Any) -> OperatorEvent:
    values: dict[str, Any] = {
        "event_id": event_id(instant),
        "action": "tenant.onboarded",
        "tenant": "acme",
        "outcome": AuditOutcome.SUCCESS,
        "ip_address": "127.0.0.1",
        "user_agent": "curl/8",
        "metadata": {},
    }
    return OperatorEvent(timestamp=instant, **{**values, **changes})


def new_key(**changes: Any) -> SigningKey:
    values: dict[str, Any] = {
        "kid": uuid4().hex,
        "algorithm": "ES256",
        "private_key": b"\x00encrypted\xff",
        "status": SigningKeyStatus.PUBLISHED,
        "created_at": NOW,
        "changed_at": NOW,
    }
    return SigningKey(**{**values, **changes})


def new_row(
    job: JobName = JobName.WARM_REVOCATIONS, tenant: str | None = None, **changes: Any
) -> Work:
    """Of `work`: one that has never run, due now."""
    values: dict[str, Any] = {"state": WorkState.QUEUED, "run_after": NOW, "created_at": NOW}
    return Work(key=work_key(job, tenant), job=job, tenant=tenant, **{**values, **changes})


def whole_row(
    job: JobName = JobName.PROVISION_TENANT, tenant: str | None = "acme", **changes: Any
) -> Work:
    """With something in every field."""
    values: dict[str, Any] = {
        "state": WorkState.RUNNING,
        "run_after": after(-5),
        "created_at": after(-9),
        "attempts": 3,
        "fence": 2**40,
        "worker": AWKWARD,
        "lease_until": after(60),
        "progress": {"done": 3, "total": 2**40},
        "report": {"seen": 7, "changed": 0, "failures": {AWKWARD: AWKWARD, "acme": "blocked"}},
        "last_error": AWKWARD,
        "started_at": NOW,
        "finished_at": after(-3),
        "succeeded_at": after(-4),
        "ms": 2**40,
    }
    return new_row(job, tenant, **{**values, **changes})


def new_idempotency_key(**changes: Any) -> IdempotencyKey:
    values: dict[str, Any] = {
        "scope": "operator",
        "key": uuid4(),
        "fingerprint": "9f" * 32,
        "result": {"slug": "initech"},
        "created_at": NOW,
    }
    return IdempotencyKey(**{**values, **changes})


Row = Agent | Credential | AuditEvent | Revocation


class Interrupted(Exception):
    """What a unit's block raises for no reason of storage."""


async def put(storage: Storage, tenant: TenantPrefix, *rows: Row) -> None:
    """Commits `rows` in one unit, in the order given."""
    async with storage.unit(tenant) as unit:
        await add(unit, *rows)


async def put_and_interrupt(storage: Storage, tenant: TenantPrefix, *rows: Row) -> None:
    """As `put`, in a unit whose block raises in the end."""
    with suppress(Interrupted):
        async with storage.unit(tenant) as unit:
            await add(unit, *rows)
            raise Interrupted


async def add(unit: UnitOfWork, *rows: Row) -> None:
    for row in rows:
        match row:
            case Agent():
                await unit.agents.add(row)
            case Credential():
                await unit.credentials.add(row)
            case AuditEvent():
                await unit.audit.append(row)
            case Revocation():
                await unit.revocations.add(row)


async def put_rows(storage: Storage, *rows: Work) -> None:
    """Commits rows of work, none of which is there yet."""
    async with storage.registry_unit() as unit:
        for row in rows:
            assert await unit.work.add(row)


async def seal(storage: Storage, key: str, payload: JSONObject | None) -> None:
    async with storage.registry_unit() as unit:
        await unit.work.seal(key, payload)


async def unsealed(storage: Storage, key: str) -> JSONObject | None:
    async with storage.registry_unit() as unit:
        return await unit.work.unseal(key)
