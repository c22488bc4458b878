"""Values that grammar accepts, as wide as it does: what hypothesis draws the rows of a model from.

Ids, instants and addresses come from small sets, so that they meet; texts from all there is.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from hypothesis import strategies as st

from db.clock import event_id_floor
from db.fields import Record, field_names
from db.filters import (
    AgentFilter,
    AuditEventFilter,
    CredentialFilter,
    Span,
    TenantFilter,
    WorkFilter,
)
from db.records import (
    IDEMPOTENCY_SPAN,
    JSON,
    NIL_AGENT,
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
    Revocation,
    Severity,
    SigningKey,
    SigningKeyStatus,
    Tenant,
    TenantStatus,
)
from db.work import JobName, Work, WorkState, work_key
from tests.contract.cast import AWKWARD, MICROSECOND, NOW, SECOND

T = TypeVar("T")

_STORABLE = st.characters(codec="utf-8", exclude_characters="\x00")
_AWKWARD = st.sampled_from([AWKWARD, '"{t}agents"', "'; --", "%s %(a)s {0}", "\\", "NULL", " "])
_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2**53) + 1, 2**53 - 1)


def mostly(usual: T, rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return st.sampled_from([st.just(usual)] * 3 + [rare]).flatmap(lambda which: which)


def texts(most: int, least: int = 0) -> st.SearchStrategy[str]:
    return st.text(_STORABLE, min_size=least, max_size=min(most, 24)) | _AWKWARD.map(
        lambda text: text[:most]
    )


jsons: st.SearchStrategy[JSON] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | texts(24),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(12), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts(12), jsons, max_size=3)
instants: st.SearchStrategy[datetime] = st.builds(
    lambda seconds, microseconds: NOW + seconds * SECOND + microseconds * MICROSECOND,
    st.integers(-1, 1),
    st.integers(0, 1),
)
edges = instants | st.datetimes(timezones=st.just(UTC))
# Mostly before what there is: a window that hides everything shows little.
windows = st.sampled_from([NOW - 9 * SECOND, NOW - SECOND, NOW, NOW + MICROSECOND]) | edges


def _id(number: int) -> UUID:
    return UUID(int=number << 120 | 4 << 76 | 2 << 62)


# The first are in use from the beginning, and the first two have all the credentials.
ids = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8]).map(_id)
slugs = st.sampled_from(["acme", "globex", "a_b", "ab", "a1", "initech"])
emails = st.sampled_from([
    "1@known.example", "2@known.example", "a@b.c", "A@b.c", "o'neil%s@b.c", "{t}+x@b.c",
    "$1`|~@b.c", "a-_.b@b-c.example",
]) | st.from_regex(r"\A[a-z!#$%&'*+/=?^_`{|}~-]{1,20}@[a-z]{1,9}\.example\Z")  # fmt: skip
versions = st.sampled_from(["0.0.0", "1.4.0-rc.1+b.7", "10.20.30"])
capabilities = st.sampled_from(["agents:read", "audit:write", "a.b-c_d:e"])


def some(words: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(words, min_size=least, max_size=3).map(tuple)


agents = st.builds(
    Agent,
    agent_id=ids,
    email=emails,
    agent_type=st.sampled_from(AgentType),
    version=versions,
    capabilities=some(capabilities, 1),
    owner=texts(128, 1),
    deployment_env=st.sampled_from(DeploymentEnv),
    status=st.sampled_from(AgentStatus),
    created_at=instants,
    updated_at=instants,
    name=st.none() | texts(128),
    framework=st.none() | texts(64),
    description=st.none() | texts(500),
    channels=some(texts(128, 1)),
    tools=some(texts(128, 1)),
    permissions=jsons,
    metadata=jsons,
    composite_score=st.integers(0, 100),
    governance_level=st.integers(0, 4),
    token_generation=st.integers(0, 2**31 - 1),
    kill_switched_at=st.none() | instants,
    kill_switch_reason=st.none() | texts(500),
)
# Few, so that what was is sometimes what is there.
hashes = st.sampled_from(["$2b$04$a", "$2b$04$b", "!"]) | texts(255, 1)
credentials = st.builds(
    Credential,
    credential_id=ids,
    client_id=ids,
    secret_hash=hashes,
    status=st.sampled_from(CredentialStatus),
    created_at=instants,
    expires_at=st.none() | instants,
    revoked_at=st.none() | instants,
    label=st.none() | texts(64),
    last_used_at=st.none() | instants,
    secret_tag=st.none() | texts(8),
    public_key=jsons,
    replaced_by=st.none() | ids,
)


def _event_id(instant: datetime, tail: int) -> UUID:
    return UUID(int=event_id_floor(instant).int | tail)


_tails = st.sampled_from([0, 1, 2**62 - 1])
audit_events = instants.flatmap(
    lambda instant: st.builds(
        AuditEvent,
        event_id=st.builds(_event_id, st.just(instant), _tails),
        agent_id=mostly(_id(1), ids | st.just(NIL_AGENT)),
        action=st.sampled_from(AuditAction),
        outcome=st.sampled_from(AuditOutcome),
        ip_address=st.sampled_from(["127.0.0.1", "2001:db8::1", "unknown"]),
        user_agent=texts(200),
        metadata=objects,
        timestamp=st.just(instant),
        severity=st.sampled_from(Severity),
        event_type=st.none() | texts(64),
        policy_rule_id=st.none() | texts(128),
    )
)
operator_events = instants.flatmap(
    lambda instant: st.builds(
        OperatorEvent,
        event_id=st.builds(_event_id, st.just(instant), _tails),
        action=st.sampled_from(["tenant.onboarded", "tenant.suspended"]),
        tenant=st.none() | slugs,
        outcome=st.sampled_from(AuditOutcome),
        ip_address=st.just("127.0.0.1"),
        user_agent=texts(200),
        metadata=objects,
        timestamp=st.just(instant),
    )
)
revocations = st.builds(Revocation, jti=ids, expires_at=instants, revoked_at=instants)
tenants = st.builds(
    Tenant,
    slug=slugs,
    display_name=texts(128),
    status=st.sampled_from(TenantStatus),
    created_at=instants,
    updated_at=instants,
    revision=st.none() | texts(64),
    token_generation=st.integers(0, 2**31 - 1),
    retention_days=st.none() | st.integers(1, 36_500),
    resource_servers=some(texts(128, 1)),
    limits=jsons,
    status_reason=st.none() | texts(500),
    administrator_id=st.none() | ids,
    kill_switched_at=st.none() | instants,
    kill_switch_reason=st.none() | texts(500),
)
kids = st.sampled_from(["k1", "k2", "K1", "k-3"])
keys = st.builds(
    SigningKey,
    kid=kids,
    algorithm=st.just("ES256"),
    private_key=st.binary(max_size=16),
    status=st.sampled_from(SigningKeyStatus),
    created_at=instants,
    changed_at=instants,
)
idempotency_keys = st.builds(
    IdempotencyKey,
    scope=st.sampled_from(["operator", "acme", "Acme"]),
    key=ids,
    fingerprint=st.sampled_from(["0" * 64, "9f" * 32]),
    result=objects,
    created_at=st.builds(
        lambda instant, spans: instant + spans * IDEMPOTENCY_SPAN, instants, st.integers(-1, 1)
    ),
)
# Few, so that they meet.
jobs = st.sampled_from([JobName.PROVISION_TENANT, JobName.REMOVE_TENANT, JobName.WARM_REVOCATIONS])
work_tenants = st.none() | slugs
work_keys = st.builds(work_key, jobs, work_tenants)


@st.composite
def works(draw: st.DrawFn) -> Work:
    job, tenant = draw(jobs), draw(work_tenants)
    return draw(
        st.builds(
            Work,
            key=st.just(work_key(job, tenant)),
            job=st.just(job),
            state=st.sampled_from(WorkState),
            run_after=instants,
            created_at=instants,
            tenant=st.just(tenant),
            attempts=st.integers(0, 2**31 - 1),
            fence=st.integers(0, 2**53 - 1),
            worker=st.none() | texts(128),
            lease_until=st.none() | instants,
            progress=st.none() | objects,
            report=st.none() | objects,
            last_error=st.none() | texts(500),
            started_at=st.none() | instants,
            finished_at=st.none() | instants,
            succeeded_at=st.none() | instants,
            ms=st.none() | st.integers(0, 2**53 - 1),
        )
    )


@st.composite
def populations(draw: st.DrawFn) -> tuple[Agent | Credential | AuditEvent | Revocation, ...]:
    """A tenant to begin with: the first half of all ids, in use."""
    known = [_id(number) for number in range(1, 5)]
    rows: list[Agent | Credential | AuditEvent | Revocation] = [
        replace(draw(agents), agent_id=agent_id, email=f"{number}@known.example")
        for number, agent_id in enumerate(known)
    ]
    rows += [
        replace(draw(credentials), credential_id=each, client_id=draw(st.sampled_from(known[:2])))
        for each in known
    ]
    rows += draw(st.lists(audit_events, min_size=3, max_size=6))
    return (*rows, Revocation(jti=known[0], expires_at=NOW, revoked_at=NOW))


def _maybe(kind: type[StrEnum]) -> st.SearchStrategy[tuple[StrEnum, ...] | None]:
    few = st.lists(st.sampled_from(kind), max_size=2).map(tuple)
    return st.none() | st.just(tuple(kind)) | few


# Mostly what does not restrict: a list that is always empty shows little.
_spans = mostly(Span(), st.builds(Span, gte=st.none() | edges, lt=st.none() | edges))
agent_filters = mostly(
    AgentFilter(),
    st.builds(
        AgentFilter,
        status=_maybe(AgentStatus),
        agent_type=_maybe(AgentType),
        owner=st.none() | some(texts(128)),
        created_at=_spans,
    ),
)
credential_filters = mostly(
    CredentialFilter(),
    st.builds(
        CredentialFilter,
        client_id=st.none() | ids,
        status=_maybe(CredentialStatus),
        replaced=st.none() | st.booleans(),
        last_used_at=_spans,
    ),
)
audit_filters = mostly(
    AuditEventFilter(),
    st.builds(
        AuditEventFilter,
        agent_id=st.none() | ids,
        action=_maybe(AuditAction),
        outcome=_maybe(AuditOutcome),
        timestamp=_spans,
    ),
)
tenant_filters = mostly(TenantFilter(), st.builds(TenantFilter, status=_maybe(TenantStatus)))
work_filters = mostly(
    WorkFilter(),
    st.builds(
        WorkFilter,
        job=_maybe(JobName),
        state=_maybe(WorkState),
        tenant=st.none() | slugs | texts(24),
    ),
)


def wanted(kind: type[Record]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(field_names(kind)), max_size=4)
