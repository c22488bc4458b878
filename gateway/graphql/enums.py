"""The records' own enums as GraphQL knows them, under their members' names.

`agent.created` is no name in GraphQL: there it is AGENT_CREATED.
"""

from __future__ import annotations

from enum import Enum

import strawberry

from db import filters, records, work

AgentType = records.AgentType
DeploymentEnv = records.DeploymentEnv
AgentStatus = records.AgentStatus
AgentOrder = filters.AgentOrder
CredentialStatus = records.CredentialStatus
AuditAction = records.AuditAction
AuditOutcome = records.AuditOutcome
Severity = records.Severity
TenantStatus = records.TenantStatus
SigningAlgorithm = records.SigningAlgorithm
SigningKeyStatus = records.SigningKeyStatus
JobName = work.JobName
WorkState = work.WorkState

for _enum, _description in (
    (AgentType, "What kind of work an agent does."),
    (DeploymentEnv, "Where an agent runs."),
    (AgentStatus, "Active and suspended turn into each other; decommissioned is final."),
    (AgentOrder, "How a list of agents is sorted."),
    (
        CredentialStatus,
        "Whether a credential has been revoked. One that ended by itself is shown so within "
        "some minutes of its `expiresAt`, which is when it ended.",
    ),
    (AuditAction, "What was done: `AGENT_CREATED` is the trail's `agent.created`, and so on."),
    (AuditOutcome, "How it ended; the last five are verdicts on what an agent was about to do."),
    (Severity, "How much attention an event deserves."),
    (TenantStatus, "A tenant is served while it is active, and only then."),
    (SigningAlgorithm, "What a key signs with; EDDSA is Ed25519, and `EdDSA` in a token's header."),
    (
        SigningKeyStatus,
        "One key signs. What is published verifies, before it signs and after; retired is final.",
    ),
    (JobName, "What time does; `jobs` says when and why."),
    (
        WorkState,
        "Queued work is done once it is due; what failed too often is left to the operator.",
    ),
):
    strawberry.enum(_enum, description=_description)


@strawberry.enum(description="How well an agent is governed: a fifth of its composite score each.")
class GovernanceLevel(Enum):
    UNREGISTERED = 0
    BASIC = 1
    MANAGED = 2
    GOVERNED = 3
    CERTIFIED = 4
