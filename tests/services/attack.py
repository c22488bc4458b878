"""Somebody who has got hold of one token, and tries everything that a tenant's callers can do.

The attacker knows the one token, every id in the tenant, and whatever its own requests have
answered: secrets, and the tokens that it got for these; and it has a key of its own, which it may
lay beside anybody's credentials if it is let. It takes its steps through the HTTP surface
alone. After each of them it is looked at what it holds, and what its request has given to whom.

Between its steps an honest administrator goes about its work: it suspends and brings back, and puts
right what was done to an agent's capabilities. It never gives an agent more than it had in the
beginning: who raises an agent for which the attacker holds a secret has raised the attacker, and
that is no step of the attacker's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from db.errors import AgentIdPError, Unauthenticated
from db.filters import CredentialFilter
from db.grammar import GATEWAY_CAPABILITIES, is_capability
from db.pages import PageRequest
from db.records import Agent, AgentStatus
from gateway.auth.principal import AgentPrincipal
from gateway.services.call import Call
from tests.client_keys import ASSERTION_TYPE, ClientKey
from tests.gateway import Client, RunningGateway, profile
from tests.graphql.asking import Asking, change
from tests.graphql.asking import profile as registration

FOREIGN = ("agents:admin", "billing:read")
EVERYTHING = (*sorted(GATEWAY_CAPABILITIES), *FOREIGN)
CONDITIONS = ("active", "suspended", "stopped")


class Escalated(AssertionError):
    """Somebody has more than the first token gave."""


@dataclass(frozen=True, slots=True)
class Start:
    """The agents of the tenant besides its administrator, each with its condition; the attacker's
    token is the first one's, with that scope."""

    agents: Sequence[tuple[Sequence[str], str]]
    scope: Sequence[str]


@dataclass(frozen=True, slots=True)
class Step:
    """One try. The numbers choose among what there is by then, the newest first."""

    rule: str
    token: int
    agent: int
    thing: int
    capabilities: Sequence[str]


@dataclass
class Attack:
    running: RunningGateway
    admin: Client
    login: UUID
    """The administrator's credential, which may be revoked by now."""
    scope: frozenset[str]
    meant: dict[UUID, Sequence[str]]
    tokens: list[str]
    secrets: list[tuple[str, str]] = field(default_factory=list)
    key: ClientKey = field(default_factory=ClientKey)
    done: int = 0
    """How many of its requests have changed something or given it something."""

    @classmethod
    async def begin(cls, running: RunningGateway, slug: str, start: Start) -> Attack:
        admin = await running.onboard(slug)
        gateway = running.gateway
        meant: dict[UUID, Sequence[str]] = {}
        clients = []
        for number, (capabilities, condition) in enumerate(start.agents):
            # Nothing here happens at the same instant, so what is newest is always the same.
            running.clock.advance(1)
            call = await running.as_caller(admin)
            new = profile(f"a{number}@agents.example", capabilities)
            agent_id = (await gateway.agents.register(call, new)).agent_id
            meant[agent_id] = capabilities
            secret = (await gateway.credentials.generate(call, agent_id)).secret
            clients.append(Client(slug, str(agent_id), secret))
            if condition == "suspended":
                await gateway.agents.suspend(call, agent_id)
            elif condition == "stopped":
                await gateway.kill_switch.engage(call, "to begin with", agent_id=agent_id)
        token = await running.token(clients[0], " ".join(start.scope))
        found = frozenset(start.scope) & GATEWAY_CAPABILITIES
        login = (await running.as_caller(admin)).agent.credential_id
        return cls(running, admin, login, found, meant, [token])

    async def take(self, step: Step) -> None:
        """Raises Escalated."""
        self.running.clock.advance(1)
        if step.rule in HONEST:
            # Whoever is cut off, or asks for what is so already, does nothing.
            with suppress(AgentIdPError):
                await HONEST[step.rule](self, step)
            return
        before = await self._agents(), await self._credentials()
        await RULES[step.rule](self, step)
        after = await self._agents(), await self._credentials()
        self.done += before != after
        self._judge_acts(step.rule, *before, *after)
        await self._judge_tokens()

    def _judge_acts(
        self,
        rule: str,
        agents_before: dict[UUID, Agent],
        secrets_before: dict[UUID, UUID],
        agents: dict[UUID, Agent],
        secrets: dict[UUID, UUID],
    ) -> None:
        for agent_id, agent in agents.items():
            if not all(map(is_capability, agent.capabilities)):
                raise Escalated(f"{rule}: {agent.capabilities} are outside the grammar")
            was = agents_before.get(agent_id)
            self._require(rule, _power(agent) - _power(was), "an agent can now")
            if was is not None:
                moved = _held(agent) ^ _held(was)
                self._require(rule, moved, "was given or taken away")
        for credential_id in secrets.keys() - secrets_before.keys():
            given = _held(agents[secrets[credential_id]])
            self._require(rule, given, "a new secret is worth")

    async def _judge_tokens(self) -> None:
        agents = await self._agents()
        for token in self.tokens:
            principal = await self._principal(token)
            if principal is None:
                continue
            self._require("a live token", principal.scope & GATEWAY_CAPABILITIES, "holds")
            if not principal.scope <= set(agents[principal.agent_id].capabilities):
                raise Escalated("a live token holds what its agent has not")

    def _require(self, rule: str, given: frozenset[str], how: str) -> None:
        if more := given - self.scope:
            raise Escalated(f"{rule}: {how} {sorted(more)}, beyond {sorted(self.scope)}")

    async def _principal(self, token: str) -> AgentPrincipal | None:
        authenticator = self.running.gateway.authenticator
        try:
            principal = await authenticator.bearer([f"Bearer {token}"], self.running.clock.now)
        except Unauthenticated:
            return None
        assert isinstance(principal, AgentPrincipal)
        return principal

    async def _agents(self) -> dict[UUID, Agent]:
        """The newest first."""
        reader = self.running.gateway.storage.read(self.admin.prefix).agents
        found = (await reader.page(PageRequest(first=100))).items
        ordered = sorted(found, key=lambda each: (each.created_at, each.email), reverse=True)
        return {each.agent_id: each for each in ordered}

    async def _credentials(self) -> dict[UUID, UUID]:
        """Whose each is, the newest first."""
        reader = self.running.gateway.storage.read(self.admin.prefix).credentials
        page = await reader.page(PageRequest(first=100), CredentialFilter())
        return {each.credential_id: each.client_id for each in page.items}

    async def agent(self, step: Step) -> str:
        """One of the tenant's, its administrator among them."""
        known = list(await self._agents())
        return str(known[step.agent % len(known)])

    async def credential(self, step: Step) -> str:
        agent = UUID(await self.agent(step))
        known = [each for each, owner in (await self._credentials()).items() if owner == agent]
        return str(known[step.thing % len(known)]) if known else str(UUID(int=0))

    def token(self, number: int) -> str:
        return self.tokens[-1 - number % len(self.tokens)]

    async def ask(self, step: Step, mutation: str, input: dict[str, Any]) -> dict[str, Any]:
        """The payload, or nothing when there is none."""
        asking = Asking(self.running, self.admin, self.token(step.token))
        answer = await asking.post({"query": change(mutation), "variables": {"input": input}})
        body = answer.json()
        for error in body.get("errors", []):
            assert error["extensions"]["code"] in ("UNAUTHENTICATED", "FORBIDDEN"), body
        payload: dict[str, Any] = (body.get("data") or {}).get(mutation) or {}
        return payload

    async def administrator(self) -> Call:
        """With all that it may do by now, as one that has just logged in."""
        agent = await self.running.agent(self.admin)
        tenant = await self.running.gateway.tenants.get(self.admin.slug)
        assert tenant is not None
        generation = (agent.token_generation, tenant.token_generation)
        scope = frozenset(agent.capabilities)
        principal = AgentPrincipal(tenant, agent.agent_id, self.login, scope, generation, jti=None)
        return self.running.call(principal)


def _held(agent: Agent | None) -> frozenset[str]:
    return frozenset() if agent is None else GATEWAY_CAPABILITIES & set(agent.capabilities)


def _power(agent: Agent | None) -> frozenset[str]:
    """What its secrets are worth right now."""
    return _held(agent) if agent is not None and agent.is_active else frozenset()


async def _register(attack: Attack, step: Step) -> None:
    email = f"b{len(await attack._agents())}@agents.example"
    new = registration(email=email, capabilities=list(step.capabilities))
    await attack.ask(step, "registerAgent", new)


async def _register_many(attack: Attack, step: Step) -> None:
    known = len(await attack._agents())
    many = [
        registration(email=f"c{known}x{n}@agents.example", capabilities=[each])
        for n, each in enumerate(step.capabilities)
    ]
    await attack.ask(step, "registerAgents", {"agents": many})


async def _update(attack: Attack, step: Step) -> None:
    """All of its capabilities are others now; or only one is given, or one taken away."""
    agent_id = await attack.agent(step)
    has = (await attack._agents())[UUID(agent_id)].capabilities
    one = step.capabilities[0]
    wanted = [
        list(step.capabilities),
        list(dict.fromkeys([*has, one])),
        [each for each in has if each != one] or ["billing:read"],
    ][step.thing % 3]
    await attack.ask(step, "updateAgent", {"agentId": agent_id, "capabilities": wanted})


def _on_agent(mutation: str, **more: str) -> Rule:
    async def rule(attack: Attack, step: Step) -> None:
        await attack.ask(step, mutation, {"agentId": await attack.agent(step), **more})

    return rule


async def _generate(attack: Attack, step: Step) -> None:
    payload = await attack.ask(step, "generateCredential", {"agentId": await attack.agent(step)})
    if secret := payload.get("clientSecret"):
        attack.secrets.append((payload["clientId"], secret))


async def _lay_key(attack: Attack, step: Step) -> None:
    input = {"agentId": await attack.agent(step), "publicKey": attack.key.public}
    await attack.ask(step, "generateCredential", input)


async def _replace_by_key(attack: Attack, step: Step) -> None:
    input = {"credentialId": await attack.credential(step), "publicKey": attack.key.public}
    await attack.ask(step, "rotateCredential", input)


async def _rotate(attack: Attack, step: Step) -> None:
    input = {"credentialId": await attack.credential(step)}
    payload = await attack.ask(step, "rotateCredential", input)
    if secret := payload.get("clientSecret"):
        attack.secrets.append((payload["credential"]["clientId"], secret))


async def _revoke(attack: Attack, step: Step) -> None:
    await attack.ask(step, "revokeCredential", {"credentialId": await attack.credential(step)})


async def _stop_all(attack: Attack, step: Step) -> None:
    await attack.ask(step, "engageKillSwitch", {"reason": "to see what it does"})


async def _release_all(attack: Attack, step: Step) -> None:
    await attack.ask(step, "releaseKillSwitch", {})


async def _issue(attack: Attack, step: Step) -> None:
    """By GraphQL, with any secret or with something that is none."""
    client_id, secret = _proof(attack, step)
    input = {"tenant": attack.admin.slug, "clientId": client_id, "clientSecret": secret}
    scope = _scope(step)
    payload = await attack.ask(step, "issueToken", input | ({"scope": scope} if scope else {}))
    if token := payload.get("accessToken"):
        attack.tokens.append(token)


async def _ask_for_token(attack: Attack, step: Step) -> None:
    scope = _scope(step)
    answer = await attack.running.client.post(
        f"/t/{attack.admin.slug}/oauth2/token",
        data={"grant_type": "client_credentials"} | ({"scope": scope} if scope else {}),
        auth=_proof(attack, step),
    )
    if answer.status_code == 200:
        attack.tokens.append(answer.json()["access_token"])


async def _assert(attack: Attack, step: Step) -> None:
    """By GraphQL, that it is anybody, with its own key."""
    scope = _scope(step)
    input = {"tenant": attack.admin.slug, "clientAssertion": await _assertion(attack, step)}
    payload = await attack.ask(step, "issueToken", input | ({"scope": scope} if scope else {}))
    if token := payload.get("accessToken"):
        attack.tokens.append(token)


async def _ask_by_assertion(attack: Attack, step: Step) -> None:
    scope = _scope(step)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": await _assertion(attack, step),
    }
    answer = await attack.running.client.post(
        f"/t/{attack.admin.slug}/oauth2/token", data=form | ({"scope": scope} if scope else {})
    )
    if answer.status_code == 200:
        attack.tokens.append(answer.json()["access_token"])


async def _assertion(attack: Attack, step: Step) -> str:
    running = attack.running
    issuer = running.gateway.authority.issuer(attack.admin.slug)
    return attack.key.assertion(await attack.agent(step), issuer, running.clock.now)


async def _introspect(attack: Attack, step: Step) -> None:
    await attack.ask(step, "introspectToken", {"token": attack.token(step.thing)})


async def _end_token(attack: Attack, step: Step) -> None:
    await attack.ask(step, "revokeToken", {"token": attack.token(step.thing)})


def _proof(attack: Attack, step: Step) -> tuple[str, str]:
    """A secret with its own client, the newest first."""
    if not attack.secrets:
        return attack.admin.client_id, "sk_live_" + "0" * 64
    return attack.secrets[-1 - step.thing % len(attack.secrets)]


def _scope(step: Step) -> str | None:
    """Everything that there is to have, two times out of three."""
    return " ".join(step.capabilities) if step.agent % 3 == 2 else None


async def _suspends(attack: Attack, step: Step) -> None:
    agent_id = UUID(await attack.agent(step))
    if str(agent_id) != attack.admin.client_id:
        await attack.running.gateway.agents.suspend(await attack.administrator(), agent_id)


async def _brings_back(attack: Attack, step: Step) -> None:
    agent_id, call = UUID(await attack.agent(step)), await attack.administrator()
    agent = (await attack._agents())[agent_id]
    if agent.status is AgentStatus.SUSPENDED:
        await attack.running.gateway.agents.reactivate(call, agent_id)
    if agent.kill_switched_at is not None:
        await attack.running.gateway.kill_switch.release(call, agent_id=agent_id)


async def _puts_right(attack: Attack, step: Step) -> None:
    agent_id, call = UUID(await attack.agent(step)), await attack.administrator()
    if agent_id in attack.meant:
        capabilities = list(attack.meant[agent_id])
        await attack.running.gateway.agents.update(call, agent_id, {"capabilities": capabilities})


Rule: TypeAlias = Callable[[Attack, Step], Awaitable[None]]
# What stands before the colon is the mutation, if it is one.
RULES: dict[str, Rule] = {
    "registerAgent": _register,
    "registerAgents": _register_many,
    "updateAgent": _update,
    "suspendAgent": _on_agent("suspendAgent"),
    "reactivateAgent": _on_agent("reactivateAgent"),
    "decommissionAgent": _on_agent("decommissionAgent"),
    "engageKillSwitch": _on_agent("engageKillSwitch", reason="to see what it does"),
    "engageKillSwitch:fleet": _stop_all,
    "releaseKillSwitch": _on_agent("releaseKillSwitch"),
    "releaseKillSwitch:fleet": _release_all,
    "generateCredential": _generate,
    "generateCredential:key": _lay_key,
    "rotateCredential": _rotate,
    "rotateCredential:key": _replace_by_key,
    "revokeCredential": _revoke,
    "issueToken": _issue,
    "issueToken:assertion": _assert,
    "token endpoint": _ask_for_token,
    "token endpoint:assertion": _ask_by_assertion,
    "introspectToken": _introspect,
    "revokeToken": _end_token,
}
HONEST: dict[str, Rule] = {
    "the administrator suspends": _suspends,
    "the administrator brings back": _brings_back,
    "the administrator puts right": _puts_right,
}
