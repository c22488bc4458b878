"""Every root field says who may ask for it, and means it.

The fields are found in the schema: one that is new fails here until it is tried below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from graphql import (
    FieldDefinitionNode,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    get_named_type,
    is_composite_type,
)
from graphql.execution import get_directive_values

from db.filters import AuditEventFilter, CredentialFilter
from db.pages import PageRequest
from db.records import SigningAlgorithm
from gateway.auth.principal import Operator
from tests.gateway import RunningGateway, in_memory
from tests.graphql.asking import Asking, profile

__all__ = ["in_memory"]

SCHEMA = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text())
PUBLIC, AGENT, OPERATOR = "PUBLIC", "AGENT", "OPERATOR"


@dataclass(frozen=True, slots=True)
class Field:
    parent: str
    name: str
    requires: str
    or_self: bool
    or_operator: bool


def access_of(node: FieldDefinitionNode | None, schema: GraphQLSchema) -> dict[str, Any] | None:
    directive = schema.get_directive("access")
    assert directive is not None
    return None if node is None else get_directive_values(directive, node)


def roots() -> list[Field]:
    fields = []
    for kind in (SCHEMA.query_type, SCHEMA.mutation_type):
        assert kind is not None
        for name, field in kind.fields.items():
            access = access_of(field.ast_node, SCHEMA)
            assert access is not None, f"{kind.name}.{name} has no @access"
            self_too, operator_too = (bool(access.get(each)) for each in ("orSelf", "orOperator"))
            fields.append(Field(kind.name, name, access["requires"], self_too, operator_too))
    return fields


ROOTS = roots()
SCOPED = [each for each in ROOTS if ":" in each.requires]


def named(field: Field) -> str:
    return field.name


def test_every_field_that_leads_from_one_noun_to_another_is_guarded() -> None:
    nouns = {"Agent", "Credential", "AuditEvent"}
    # What is no more than some fields of the noun itself.
    parts = {"KillSwitch"}
    leading = {}
    for noun in nouns:
        kind = SCHEMA.get_type(noun)
        assert isinstance(kind, GraphQLObjectType)
        for name, field in kind.fields.items():
            target = get_named_type(field.type)
            if is_composite_type(target) and target.name not in parts:
                assert target.name.removesuffix("Connection") in nouns
                access = access_of(field.ast_node, SCHEMA)
                assert access is not None, f"{noun}.{name} has no @access"
                leading[f"{noun}.{name}"] = access["requires"]
    assert leading == {
        "Agent.credentials": "credentials:read",
        "Agent.auditEvents": "audit:read",
        "Credential.agent": "agents:read",
        "Credential.replacedBy": "credentials:read",
        "AuditEvent.agent": "agents:read",
    }


def test_one_field_alone_is_public() -> None:
    assert [each.name for each in ROOTS if each.requires == PUBLIC] == ["issueToken"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant with two agents besides its administrator: one that holds no scope of the gateway,
    and one on whom everything is tried, with its credential and a token of its own."""

    admin: Asking
    weak: Asking
    subject: str
    credential: str
    token: str
    key: str

    def document(self, field: Field) -> tuple[str, dict[str, Any]]:
        """One that asks for the field with arguments that would do something."""
        if field.parent == "Mutation":
            return self._mutation(field.name)
        arguments, selection = {
            "node": ('(id: "QWdlbnQ6")', "{ id }"),
            "nodes": ('(ids: ["QWdlbnQ6"])', "{ id }"),
            "viewer": ("", "{ agentId }"),
            "agent": (f'(agentId: "{self.subject}")', "{ agentId }"),
            "agentByEmail": ('(email: "subject@agents.example")', "{ agentId }"),
            "agents": ("", "{ totalCount nodes { agentId } }"),
            "credential": (f'(credentialId: "{self.credential}")', "{ credentialId }"),
            "credentials": ("", "{ totalCount nodes { credentialId } }"),
            "auditEvent": (f'(eventId: "{self.subject}")', "{ eventId }"),
            "auditEvents": ("", "{ totalCount nodes { eventId } }"),
            "tenant": ('(slug: "acme")', "{ slug }"),
            "tenants": ("", "{ totalCount nodes { slug } }"),
            "signingKeys": ("", "{ kid }"),
            "work": ("", "{ totalCount nodes { key } }"),
            "jobs": ("", "{ name }"),
        }[field.name]
        return f"{{ {field.name}{arguments} {selection} }}", {}

    def _mutation(self, name: str) -> tuple[str, dict[str, Any]]:
        agent, credential = {"agentId": self.subject}, {"credentialId": self.credential}
        new = profile(email="new@agents.example")
        input: dict[str, Any] = {
            "registerAgent": new,
            "registerAgents": {"agents": [new]},
            "updateAgent": agent | {"owner": "somebody else"},
            "suspendAgent": agent,
            "reactivateAgent": agent,
            "decommissionAgent": agent,
            "engageKillSwitch": agent | {"tenant": "acme", "reason": "it misbehaves"},
            "releaseKillSwitch": agent | {"tenant": "acme"},
            "generateCredential": agent,
            "rotateCredential": credential,
            "revokeCredential": credential,
            "issueToken": {
                "tenant": "acme",
                "clientId": self.subject,
                "clientSecret": "sk_live_wrong",
            },
            "introspectToken": {"token": self.token},
            "revokeToken": {"token": self.token},
            "onboardTenant": {
                "slug": "globex",
                "displayName": "G",
                "adminEmail": "root@globex.example",
            },
            "updateTenant": {"slug": "acme", "retentionDays": 30},
            "suspendTenant": {"slug": "acme"},
            "reactivateTenant": {"slug": "acme"},
            "removeTenant": {"slug": "acme"},
            "resetTenantAdministrator": {"slug": "acme"},
            "publishSigningKey": {"algorithm": "ES256"},
            "activateSigningKey": {"kid": self.key, "immediately": True},
            "retireSigningKey": {"kid": self.key},
            "runJob": {"job": "ENSURE_AUDIT_PARTITIONS"},
        }[name]
        input_type = name[0].upper() + name[1:] + "Input!"
        selection = "active" if name == "introspectToken" else "__typename"
        document = f"mutation($input: {input_type}) {{ {name}(input: $input) {{ {selection} }} }}"
        return document, {"input": input}

    async def stored(self) -> object:
        """Everything of the tenant and of the registry that a request could change."""
        storage, now = self.admin.running.gateway.storage, self.admin.running.clock.now
        reader = storage.read(self.admin.admin.prefix)
        everything = PageRequest(first=100)
        return (
            (await reader.agents.page(everything)).items,
            (await reader.credentials.page(everything, CredentialFilter())).items,
            (
                await reader.audit.page(
                    everything, now.replace(year=now.year - 1), AuditEventFilter()
                )
            ).items,
            (await storage.registry.tenants.page(everything)).items,
            await storage.registry.signing_keys.all(),
            (await storage.registry.operator_events.page(everything)).items,
            (await storage.registry.work.page(everything)).items,
        )

    async def answer(self, asking: Asking, field: Field) -> tuple[object, list[str]]:
        """What the field answered, and the codes of the errors beside it."""
        body = await asking.ask(*self.document(field))
        codes = [each["extensions"]["code"] for each in body.get("errors", [])]
        return (body["data"] or {}).get(field.name), codes


@pytest.fixture
async def scene(in_memory: RunningGateway) -> Scene:
    admin = await in_memory.onboard("acme")
    asking = Asking(in_memory, admin, await in_memory.token(admin))
    weak = await asking.enabled(await asking.registered(email="weak@agents.example"))
    subject = await asking.enabled(await asking.registered(email="subject@agents.example"))
    reader = in_memory.gateway.storage.read(admin.prefix)
    [credential] = await reader.credentials.of_client(UUID(subject.client_id), in_memory.clock.now)
    operator = in_memory.call(Operator())
    key = await in_memory.gateway.keys.publish(operator, SigningAlgorithm.ES256)
    return Scene(
        asking,
        await asking.by(weak),
        subject.client_id,
        str(credential.credential_id),
        await in_memory.token(subject),
        key.kid,
    )


# What is answered about another agent's things to whoever lacks the scope of an `orSelf` field.
OTHERS: dict[str, tuple[object, list[str]]] = {
    "credential": (None, []),
    "generateCredential": (None, ["FORBIDDEN"]),
    "rotateCredential": ({"__typename": "NotFound"}, []),
    "revokeCredential": ({"__typename": "NotFound"}, []),
    "introspectToken": ({"active": False}, []),
    "revokeToken": (None, ["FORBIDDEN"]),
}
# What is not refused to whoever may ask for it, but does nothing here.
NOT_NOW = {"reactivateAgent", "releaseKillSwitch", "introspectToken"}
# Looking into a token is written to the trail whatever the answer.
ALWAYS_WRITTEN = {"introspectToken"}


@pytest.mark.parametrize("field", ROOTS, ids=named)
async def test_nobody_is_let_in_without_a_token(scene: Scene, field: Field) -> None:
    before = await scene.stored()
    answer = await scene.answer(scene.admin.nobody, field)
    if field.requires == PUBLIC:
        assert answer == ({"__typename": "InvalidClient"}, [])
    else:
        assert answer == (None, ["UNAUTHENTICATED"])
        assert await scene.stored() == before


@pytest.mark.parametrize("field", ROOTS, ids=named)
async def test_an_agent_without_a_scope_has_what_is_every_agent_s(
    scene: Scene, field: Field
) -> None:
    before = await scene.stored()
    answer, codes = await scene.answer(scene.weak, field)
    if field.or_self:
        assert (answer, codes) == OTHERS[field.name]
    else:
        open_to_it = field.requires in (AGENT, PUBLIC)
        assert codes == ([] if open_to_it else ["FORBIDDEN"])
    if field.requires != PUBLIC and field.name not in ALWAYS_WRITTEN:
        assert await scene.stored() == before


@pytest.mark.parametrize("field", SCOPED, ids=named)
async def test_all_other_scopes_together_do_not_stand_for_the_one(
    scene: Scene, field: Field
) -> None:
    agent = await scene.admin.running.agent(scene.admin.admin)
    others = " ".join(each for each in agent.capabilities if each != field.requires)
    narrowed = await scene.admin.by(scene.admin.admin, others)
    before = await scene.stored()
    expected = OTHERS[field.name] if field.or_self else (None, ["FORBIDDEN"])
    assert await scene.answer(narrowed, field) == expected
    if field.name not in ALWAYS_WRITTEN:
        assert await scene.stored() == before


@pytest.mark.parametrize("field", SCOPED, ids=named)
async def test_the_scope_alone_is_enough(scene: Scene, field: Field) -> None:
    narrowed = await scene.admin.by(scene.admin.admin, field.requires)
    answer, codes = await scene.answer(narrowed, field)
    assert codes == []
    if field.or_self:
        assert (answer, codes) != OTHERS[field.name]
    if field.parent == "Mutation" and field.name not in NOT_NOW:
        assert isinstance(answer, dict)
        assert str(answer["__typename"]).endswith(("ed", "Token"))


@pytest.mark.parametrize("field", ROOTS, ids=named)
async def test_the_operator_has_its_own_fields_and_a_tenant_s_administrator_has_not(
    scene: Scene, field: Field
) -> None:
    before = await scene.stored()
    if field.requires == OPERATOR:
        answer, codes = await scene.answer(scene.admin, field)
        assert (answer, codes) == (None, ["FORBIDDEN"])
        assert await scene.stored() == before
        answer, codes = await scene.answer(scene.admin.operator, field)
        assert answer is not None
        assert codes == []
    elif field.or_operator:
        answer, codes = await scene.answer(scene.admin.operator, field)
        assert answer is not None
        assert codes == []
    elif field.requires != PUBLIC:
        answer, codes = await scene.answer(scene.admin.operator, field)
        assert (answer, codes) == (None, ["FORBIDDEN"])
        assert await scene.stored() == before
