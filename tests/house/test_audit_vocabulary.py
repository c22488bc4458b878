"""Mutations and the trail stay in step, both ways: what each writes, and who writes each word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from graphql import build_schema
from graphql.execution import get_directive_values

from db.pages import PageRequest
from db.records import AuditAction
from tests.gateway import Client, RunningGateway, backend, gateway
from tests.graphql.asking import Asking, change, profile

__all__ = ["backend", "gateway"]

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
UNKNOWN = "00000000-0000-4000-8000-000000000000"
A = AuditAction
# The seed's words, and those of the kill switch.
WORDS = {
    A.AGENT_CREATED, A.AGENT_UPDATED, A.AGENT_DECOMMISSIONED, A.AGENT_SUSPENDED,
    A.AGENT_REACTIVATED, A.TOKEN_ISSUED, A.TOKEN_REVOKED, A.TOKEN_INTROSPECTED,
    A.CREDENTIAL_GENERATED, A.CREDENTIAL_ROTATED, A.CREDENTIAL_REVOKED, A.AUTH_FAILED,
    A.KILL_SWITCH_ENGAGED, A.KILL_SWITCH_RELEASED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Writes:
    """What a mutation writes to the trail when it succeeds, and when it is refused."""

    done: tuple[AuditAction, ...]
    refused: tuple[AuditAction, ...] = ()


TABLE = {
    "registerAgent": Writes((A.AGENT_CREATED,)),
    "registerAgents": Writes((A.AGENT_CREATED, A.AGENT_CREATED)),
    "updateAgent": Writes((A.AGENT_UPDATED,)),
    "suspendAgent": Writes((A.AGENT_SUSPENDED,)),
    "reactivateAgent": Writes((A.AGENT_REACTIVATED,)),
    # With each of its credentials, of which there is one here.
    "decommissionAgent": Writes((A.AGENT_DECOMMISSIONED, A.CREDENTIAL_REVOKED)),
    "engageKillSwitch": Writes((A.KILL_SWITCH_ENGAGED,)),
    "releaseKillSwitch": Writes((A.KILL_SWITCH_RELEASED,)),
    "generateCredential": Writes((A.CREDENTIAL_GENERATED,)),
    "rotateCredential": Writes((A.CREDENTIAL_ROTATED,)),
    "revokeCredential": Writes((A.CREDENTIAL_REVOKED,)),
    "issueToken": Writes((A.TOKEN_ISSUED,), (A.AUTH_FAILED,)),
    # There is no refusing to look into a token: what is none is told to be not active.
    "introspectToken": Writes((A.TOKEN_INTROSPECTED,), (A.TOKEN_INTROSPECTED,)),
    "revokeToken": Writes((A.TOKEN_REVOKED,)),
}
WRITERS = {
    A.AGENT_CREATED: {"registerAgent", "registerAgents"},
    A.AGENT_UPDATED: {"updateAgent"},
    A.AGENT_DECOMMISSIONED: {"decommissionAgent"},
    A.AGENT_SUSPENDED: {"suspendAgent"},
    A.AGENT_REACTIVATED: {"reactivateAgent"},
    A.TOKEN_ISSUED: {"issueToken"},
    A.TOKEN_REVOKED: {"revokeToken"},
    A.TOKEN_INTROSPECTED: {"introspectToken"},
    A.CREDENTIAL_GENERATED: {"generateCredential"},
    A.CREDENTIAL_ROTATED: {"rotateCredential"},
    A.CREDENTIAL_REVOKED: {"revokeCredential", "decommissionAgent"},
    A.AUTH_FAILED: {"issueToken"},
    A.KILL_SWITCH_ENGAGED: {"engageKillSwitch"},
    A.KILL_SWITCH_RELEASED: {"releaseKillSwitch"},
}


def test_every_mutation_of_a_tenant_s_callers_is_in_the_table() -> None:
    mutation, directive = SCHEMA.mutation_type, SCHEMA.get_directive("access")
    assert mutation is not None
    assert directive is not None
    tenants = set()
    for name, field in mutation.fields.items():
        assert field.ast_node is not None
        access = get_directive_values(directive, field.ast_node)
        if access and access["requires"] != "OPERATOR":
            tenants.add(name)
    assert tenants == set(TABLE)


def test_each_word_of_the_specification_is_written_by_the_mutations_that_are_said_to() -> None:
    assert set(WRITERS) == WORDS
    for action in AuditAction:
        writers = {name for name, w in TABLE.items() if action in (*w.done, *w.refused)}
        assert writers == WRITERS.get(action, set()), action


@dataclass(frozen=True, slots=True)
class Fresh:
    """A tenant of its own, with an agent that has one credential, and a token of it."""

    asking: Asking
    agent_id: str
    credential_id: str
    secret: str
    token: str

    @classmethod
    async def make(cls, running: RunningGateway) -> Fresh:
        admin = await running.onboard("acme")
        asking = Asking(running, admin, await running.token(admin))
        client = await asking.enabled(await asking.registered())
        reader = running.gateway.storage.read(admin.prefix)
        [credential] = await reader.credentials.of_client(UUID(client.client_id), running.clock.now)
        token = await running.token(client)
        return cls(asking, client.client_id, str(credential.credential_id), client.secret, token)

    def input(self, mutation: str) -> Mapping[str, Any]:
        """That succeeds."""
        agent, credential = {"agentId": self.agent_id}, {"credentialId": self.credential_id}
        inputs: dict[str, Mapping[str, Any]] = {
            "registerAgent": profile(email="new@agents.example"),
            "registerAgents": {
                "agents": [profile(email=f"new{n}@agents.example") for n in range(2)]
            },
            "updateAgent": agent | {"owner": "somebody else"},
            "suspendAgent": agent,
            "reactivateAgent": agent,
            "decommissionAgent": agent,
            "engageKillSwitch": agent | {"reason": "it misbehaves"},
            "releaseKillSwitch": agent,
            "generateCredential": agent,
            "rotateCredential": credential,
            "revokeCredential": credential,
            "issueToken": {
                "tenant": "acme", "clientId": self.agent_id, "clientSecret": self.secret,
            },
            "introspectToken": {"token": self.token},
            "revokeToken": {"token": self.token},
        }  # fmt: skip
        return inputs[mutation]

    def refused(self, mutation: str) -> Mapping[str, Any]:
        """That is refused, after everything that can be looked at has been."""
        inputs: dict[str, Mapping[str, Any]] = {
            "registerAgent": profile(),
            "registerAgents": {"agents": [profile(), profile(email="nope")]},
            "engageKillSwitch": {"agentId": UNKNOWN, "reason": "it misbehaves"},
            "generateCredential": {"agentId": self.agent_id, "label": "a" * 65},
            "rotateCredential": {"credentialId": UNKNOWN},
            "revokeCredential": {"credentialId": UNKNOWN},
            "issueToken": {**self.input("issueToken"), "clientSecret": "sk_live_wrong"},
            "introspectToken": {"token": "nope"},
            "revokeToken": {"token": "nope"},
        }
        return inputs.get(mutation, {"agentId": UNKNOWN})

    async def written(self, since: int) -> Counter[str]:
        trail = await self.asking.running.trail(self.asking.admin)
        return Counter(event.action.value for event in trail[since:])

    async def length(self) -> int:
        return len(await self.asking.running.trail(self.asking.admin))


def words(actions: tuple[AuditAction, ...]) -> Counter[str]:
    return Counter(action.value for action in actions)


@pytest.mark.parametrize("mutation", TABLE)
async def test_a_mutation_writes_exactly_what_it_is_said_to(
    gateway: RunningGateway, mutation: str
) -> None:
    fresh = await Fresh.make(gateway)
    if mutation == "reactivateAgent":
        await fresh.asking.change("suspendAgent", {"agentId": fresh.agent_id})
    if mutation == "releaseKillSwitch":
        await fresh.asking.change("engageKillSwitch", fresh.input("engageKillSwitch"))
    since = await fresh.length()
    payload = await fresh.asking.change(mutation, fresh.input(mutation))
    assert payload["__typename"].endswith(("ed", "TokenIntrospection")), payload
    assert await fresh.written(since) == words(TABLE[mutation].done)
    # Who did it, and on whom.
    for event in (await gateway.trail(fresh.asking.admin))[since:]:
        actor = fresh.agent_id if mutation == "issueToken" else fresh.asking.admin.client_id
        assert str(event.agent_id) == actor
        assert event.outcome.value == "success"


@pytest.mark.parametrize("mutation", TABLE)
async def test_and_when_it_is_refused_nothing_but_what_is_allowed(
    gateway: RunningGateway, mutation: str
) -> None:
    fresh = await Fresh.make(gateway)
    before = await stored(fresh)
    since = await fresh.length()
    payload = await fresh.asking.change(mutation, fresh.refused(mutation))
    if mutation == "registerAgents":
        kinds = [each["__typename"] for each in payload["results"]]
        assert kinds == ["EmailTaken", "InvalidInput"]
    elif mutation in ("introspectToken", "revokeToken"):
        assert payload["active"] is False
    else:
        assert payload["__typename"] in {
            "EmailTaken", "NotFound", "InvalidInput", "InvalidClient",
        }  # fmt: skip
    assert await fresh.written(since) == words(TABLE[mutation].refused)
    assert await stored(fresh) == before


@pytest.mark.parametrize("mutation", [each for each in TABLE if each != "issueToken"])
async def test_a_mutation_that_may_not_be_made_writes_nothing(
    gateway: RunningGateway, mutation: str
) -> None:
    fresh = await Fresh.make(gateway)
    before, since = await stored(fresh), await fresh.length()
    body = await fresh.asking.nobody.ask(change(mutation), {"input": fresh.input(mutation)})
    assert body["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert await fresh.written(since) == Counter()
    assert await stored(fresh) == before


async def stored(fresh: Fresh) -> object:
    running = fresh.asking.running
    reader = running.gateway.storage.read(fresh.asking.admin.prefix)
    everything = PageRequest(first=100)
    credentials = (await reader.credentials.page(everything)).items
    return (
        (await reader.agents.page(everything)).items,
        # When each was used is noted behind the requests, whenever that may be.
        [replace(each, last_used_at=None) for each in credentials],
    )


async def test_what_the_operator_does_is_written_to_its_own_trail(
    gateway: RunningGateway,
) -> None:
    fresh = await Fresh.make(gateway)
    since = await fresh.length()
    registry = gateway.gateway.storage.registry
    before = (await registry.operator_events.page(PageRequest(first=100))).items
    made = await fresh.asking.operator.change(
        "onboardTenant",
        {"slug": "globex", "displayName": "G", "adminEmail": "root@globex.example"},
    )
    after = (await registry.operator_events.page(PageRequest(first=100))).items
    assert [event.action for event in after[: len(after) - len(before)]] == [
        "tenant.provisioned", "tenant.onboarded",
    ]  # fmt: skip
    assert await fresh.written(since) == Counter()
    operator = fresh.asking.operator
    await operator.change("updateTenant", {"slug": "globex", "retentionDays": 30})
    newest = (await registry.operator_events.page(PageRequest(first=1))).items[0]
    assert (newest.action, newest.tenant) == ("tenant.updated", "globex")
    for mutation, said in (
        ("suspendTenant", "tenant.suspended"),
        ("reactivateTenant", "tenant.reactivated"),
        ("removeTenant", "tenant.removal_requested"),
        ("reactivateTenant", "tenant.removal_cancelled"),
    ):
        await operator.change(mutation, {"slug": "globex"})
        newest = (await registry.operator_events.page(PageRequest(first=1))).items[0]
        assert (newest.action, newest.tenant) == (said, "globex")
        assert await fresh.written(since) == Counter()
    # The tenant's own trail begins with its administrator.
    globex = Client("globex", made["clientId"], made["clientSecret"])
    assert await gateway.actions(globex) == ["agent.created", "credential.generated"]
    # The kill switch is in both trails.
    for mutation, said in (
        ("engageKillSwitch", "kill_switch.engaged"),
        ("releaseKillSwitch", "kill_switch.released"),
    ):
        await operator.change(mutation, {"tenant": "globex", "reason": "to see what it does"})
        newest = (await registry.operator_events.page(PageRequest(first=1))).items[0]
        assert (newest.action, newest.tenant) == (said, "globex")
        assert (await gateway.actions(globex))[-1] == said
        gateway.clock.advance(1)
