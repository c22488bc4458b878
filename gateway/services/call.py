"""One object for each operation: who calls, for which tenant, from where, at what instant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from db.clock import event_id
from db.records import (
    AuditAction,
    AuditEvent,
    AuditOutcome,
    JSONObject,
    OperatorEvent,
    Severity,
    Tenant,
)
from gateway.auth.principal import AgentPrincipal, Principal, agent_of

_MAX_ADDRESS = 64
_MAX_USER_AGENT = 512


@dataclass(frozen=True, slots=True)
class Call:
    """`now` is the operation's only reading of the clock: all it does happens then."""

    principal: Principal
    now: datetime
    ip_address: str
    user_agent: str
    request_id: str

    @classmethod
    def make(
        cls, principal: Principal, now: datetime, ip_address: str, user_agent: str, request_id: str
    ) -> Call:
        """A call with what came from outside cut to what an audit event holds."""
        return cls(
            principal, now, _clean(ip_address, _MAX_ADDRESS) or "unknown",
            _clean(user_agent, _MAX_USER_AGENT), request_id,
        )  # fmt: skip

    @property
    def agent(self) -> AgentPrincipal:
        """Raises Unauthenticated or Forbidden when the caller is no agent."""
        return agent_of(self.principal)

    @property
    def tenant(self) -> Tenant:
        """The caller's own, and there is no other. Raises as `agent`."""
        return self.agent.tenant

    def by(self, principal: Principal) -> Call:
        """The same call, once it is known who makes it."""
        return replace(self, principal=principal)

    def event(
        self,
        action: AuditAction,
        metadata: JSONObject,
        *,
        agent_id: UUID | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        severity: Severity = Severity.INFO,
    ) -> AuditEvent:
        """An audit event of this call; its agent is the caller unless another is named."""
        return AuditEvent(
            event_id=event_id(self.now),
            agent_id=self.agent.agent_id if agent_id is None else agent_id,
            action=action,
            outcome=outcome,
            ip_address=self.ip_address,
            user_agent=self.user_agent,
            metadata=metadata,
            timestamp=self.now,
            severity=severity,
        )

    def operator_event(
        self,
        action: str,
        tenant: str | None,
        metadata: JSONObject,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> OperatorEvent:
        return OperatorEvent(
            event_id=event_id(self.now),
            action=action,
            tenant=tenant,
            outcome=outcome,
            ip_address=self.ip_address,
            user_agent=self.user_agent,
            metadata=metadata,
            timestamp=self.now,
        )


def _clean(text: str, most: int) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
