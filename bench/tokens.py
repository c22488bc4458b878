"""Tokens, issued and looked into, beside oidc-provider in the same run.

`python -m bench.tokens` (needs node and npm). Ours: bcrypt 12 at rest, the client's rows read each
time, a durable event for each answer, PostgreSQL with fsync on, Valkey warm. Theirs: secrets in
clear, no event; JWTs of the same algorithm with its memory adapter for issuing, opaque tokens in
the same Valkey for introspection, since it cannot introspect JWTs.

One process each, on one core; the load, PostgreSQL and Valkey on what is left. Rounds alternate.
Bars: tokens at least 1.2 times as many, introspections twice, and requests with a token at least
0.85 of those without.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.grounds import Bar, Grounds, grounds, judge, median, table
from bench.load import Measured, Plan, cpu_seconds, post, put_under_load
from bench.peers import OIDC_PROVIDER, install, oidc_provider
from db.clock import system_clock
from db.migrations import migrate
from tests.gateway import Client
from tests.journeys.served import Served, serving, working
from tests.servers.places import temporary_place
from tests.servers.process import wait_until

_CLIENTS = 8
_TOKENS = 400
_SERVER_CORE, _LOAD_CORE = 0, 1
_GRANT = b"grant_type=client_credentials"
# Where the time of a token goes: each of these does all that the one before it does, and more.
_UNGRANTED = "… the form read, the tenant proven"
_UNSCOPED = "… the client proven, an event kept"
_REGISTER = """
mutation($email: String!) {
  registerAgent(input: {email: $email, agentType: CUSTOM, version: "1.0.0", owner: "bench",
    capabilities: ["billing:read"], deploymentEnv: PRODUCTION}) {
    ... on AgentRegistered { agent { agentId } } ... on UserError { message } }
}
"""
_GENERATE = """
mutation($agent: UUID!) {
  generateCredential(input: {agentId: $agent}) {
    ... on CredentialGenerated { clientId clientSecret } ... on UserError { message } }
}
"""


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    port: int
    pid: int
    requests: list[bytes]
    status: int = 200
    runs: list[tuple[Measured, float]] = field(default_factory=list)

    def run(self, connections: int, seconds: float) -> None:
        before = cpu_seconds(self.pid)
        measured = put_under_load(
            Plan(self.port, self.requests, connections, seconds, self.status), _LOAD_CORE
        )
        if measured.refused:
            raise RuntimeError(f"{self.name}: {measured.refused} answers were refusals")
        spent = cpu_seconds(self.pid) - before
        self.runs.append((measured, spent / measured.answers * 1e6))

    @property
    def rate(self) -> float:
        return median([run.rate for run, _ in self.runs])

    def line(self) -> Sequence[object]:
        return (
            self.name,
            round(self.rate),
            round(median([cpu for _, cpu in self.runs])),
            median([run.p50 for run, _ in self.runs]),
            median([run.p99 for run, _ in self.runs]),
        )


def _basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def _introspections(path: str, tokens: Sequence[tuple[str, str]]) -> list[bytes]:
    return [post(path, f"token={token}".encode(), who) for token, who in tokens]


@contextmanager
def _ours(ground: Grounds, folder: Path) -> Iterator[Served]:
    """A gateway on its core with a worker beside it, the cache warm."""
    asyncio.run(migrate(ground.settings, now=system_clock()))
    assert ground.redis_url is not None
    environment = {
        "DATABASE_URL": ground.database.app_url,
        "DATABASE_OWNER_URL": ground.database.owner_url,
        "REDIS_URL": ground.redis_url,
        "BCRYPT_COST": "12",
    }
    with serving(folder, **environment) as served, working(folder, **environment):
        os.sched_setaffinity(served.process.pid, {_SERVER_CORE})

        def warm() -> bool:
            return bool(served.http.get("/health/ready").json()["revocations"] == "warm")

        wait_until(warm, served.process, served.output, "the revocation cache")
        yield served


def _clients(served: Served) -> list[Client]:
    admin = served.onboard("bench")
    token = served.token(admin)
    made = []
    for number in range(_CLIENTS):
        asked = served.graphql(_REGISTER, {"email": f"agent{number}@bench.example"}, token)
        agent = asked["data"]["registerAgent"]["agent"]["agentId"]
        found = served.graphql(_GENERATE, {"agent": agent}, token)["data"]["generateCredential"]
        made.append(Client("bench", found["clientId"], found["clientSecret"]))
    return made


def _our_workloads(served: Served, clients: Sequence[Client]) -> Mapping[str, Workload]:
    who = [_basic(client.client_id, client.secret) for client in clients]
    tokens = [
        (served.token(clients[number % len(clients)]), who[number % len(clients)])
        for number in range(_TOKENS)
    ]
    asked = b'{"query":"{__typename}"}'
    graphql = (
        b"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1\r\n%bcontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b"
    )
    bearers = [b"authorization: Bearer " + token.encode() + b"\r\n" for token, _ in tokens]
    port, pid = served.address[1], served.process.pid
    named = {
        "nothing (a route of Litestar)": [b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"],
        "nothing (OPTIONS of the endpoint)": [
            b"OPTIONS /t/bench/oauth2/token HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        ],
        _UNGRANTED: [post("/t/bench/oauth2/token", b"grant_type=none", each) for each in who],
        _UNSCOPED: [
            post("/t/bench/oauth2/token", _GRANT + b"&scope=not:mine", each) for each in who
        ],
        "token": [post("/t/bench/oauth2/token", _GRANT, each) for each in who],
        "introspection": _introspections("/t/bench/oauth2/introspect", tokens),
        "{__typename}, nobody": [graphql % (b"", len(asked), asked)],
        "{__typename}, a token": [graphql % (each, len(asked), asked) for each in bearers],
    }
    refused = {_UNGRANTED, _UNSCOPED}
    return {
        name: Workload(name, port, pid, requests, 400 if name in refused else 200)
        for name, requests in named.items()
    }


def _their_token(port: int, who: str) -> str:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/token",
        content=_GRANT,
        headers={"authorization": who, "content-type": "application/x-www-form-urlencoded"},
        trust_env=False,
    )
    token: str = json.loads(answer.text)["access_token"]
    return token


def _their_workloads(
    stack: ExitStack, folder: Path, clients: Sequence[Client], redis_socket: str
) -> Mapping[str, Workload]:
    pairs = [(client.client_id, client.secret) for client in clients]
    who = [_basic(*pair) for pair in pairs]
    resource = _GRANT + b"&resource=urn%3Abench%3Aapi"
    port, pid = stack.enter_context(oidc_provider(folder, pairs, jwt=True))
    os.sched_setaffinity(pid, {_SERVER_CORE})
    issuing = Workload(
        "oidc-provider: token", port, pid, [post("/token", resource, each) for each in who]
    )
    port, pid = stack.enter_context(
        oidc_provider(folder, pairs, jwt=False, redis_socket=redis_socket)
    )
    os.sched_setaffinity(pid, {_SERVER_CORE})
    tokens = [
        (_their_token(port, who[number % len(who)]), who[number % len(who)])
        for number in range(_TOKENS)
    ]
    looking = Workload(
        "oidc-provider: introspection", port, pid, _introspections("/token/introspection", tokens)
    )
    return {each.name: each for each in (issuing, looking)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tokens", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--connections", type=int, default=32)
    asked = parser.parse_args()
    with ExitStack() as stack:
        ground = stack.enter_context(grounds(valkey=True))
        folder = stack.enter_context(temporary_place())
        install(folder, OIDC_PROVIDER)
        served = stack.enter_context(_ours(ground, folder))
        clients = _clients(served)
        ours = _our_workloads(served, clients)
        assert ground.redis_url is not None
        theirs = _their_workloads(stack, folder, clients, urlsplit(ground.redis_url).path)
        workloads = [*ours.values(), *theirs.values()]
        # The first round warms up, theirs more than ours.
        for round_ in range(asked.rounds + 1):
            for each in workloads:
                each.run(asked.connections, asked.seconds)
                if round_ == 0:
                    each.runs.clear()
    table(
        ("", "requests/s", "CPU µs/request", "p50 ms", "p99 ms"),
        [each.line() for each in workloads],
    )

    def ratio(name: str, to: Workload) -> float:
        return ours[name].rate / to.rate

    issued = ratio("token", theirs["oidc-provider: token"])
    seen = ratio("introspection", theirs["oidc-provider: introspection"])
    known = ratio("{__typename}, a token", ours["{__typename}, nobody"])
    return judge(
        Bar("tokens against oidc-provider", issued, 1.2, "×", at_least=True),
        Bar("introspections against oidc-provider", seen, 2, "×", at_least=True),
        Bar("with a token against without", known, 0.85, "×", at_least=True),
    )


if __name__ == "__main__":
    sys.exit(main())
