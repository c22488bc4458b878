"""`make run`: the gateway with a tenant in it, and lines to paste.

What is set in the environment is honoured; only what is unset is made up. In memory the tenant
is new at every start; in a database it is onboarded once, and its secret shown that once.
"""

from __future__ import annotations

import os
import secrets
import sys

import anyio
import uvloop

from db import log
from db.errors import AgentIdPError, Misconfigured, SlugTaken
from db.records import TenantStatus
from gateway.auth.principal import Operator
from gateway.server import serve
from gateway.services.call import Call
from gateway.settings import GatewaySettings
from gateway.wiring import Gateway, started

TENANT = "demo"
_PATIENCE = 60  # seconds; five attempts are over by then
_POLL = 0.02


def main() -> int:
    os.environ.setdefault("OPERATOR_TOKEN", secrets.token_urlsafe(32))
    try:
        settings = GatewaySettings.load()
        log.configure()
        uvloop.run(_run(settings))
    except AgentIdPError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: GatewaySettings) -> None:
    async with started(settings) as gateway:
        client_id, client_secret = await prepare(gateway)
        operator = settings.operator_token.get_secret_value() if settings.operator_token else ""
        text = banner(settings.issuer_base, operator, client_id, client_secret)
        await serve(gateway, lambda: print(text, flush=True))


async def prepare(gateway: Gateway, patience: float = _PATIENCE) -> tuple[str, str]:
    """The client id and secret of the demo tenant, or what stands for them in the lines to paste,
    once the tenant is made. Raises Misconfigured when it is not, after `patience` seconds."""
    client = await _onboard(gateway)
    await _made(gateway, patience)
    return client


async def _onboard(gateway: Gateway) -> tuple[str, str]:
    call = Call.make(Operator(), gateway.clock(), "127.0.0.1", "make run", "make-run")
    try:
        fresh = await gateway.onboarding.onboard(call, TENANT, "Demo", "admin@demo.example")
    except SlugTaken:
        # Its secret was shown when it was made, and is kept nowhere.
        return _UNKNOWN_CLIENT, "$CLIENT_SECRET"
    assert fresh.secret is not None, "only a repetition has none"
    return str(fresh.client_id), fresh.secret


async def _made(gateway: Gateway, patience: float) -> None:
    with anyio.move_on_after(patience):
        while True:
            tenant = await gateway.tenants.get(TENANT)
            assert tenant is not None, "a tenant's row is never deleted"
            if tenant.status is TenantStatus.FAILED:
                raise Misconfigured(
                    f"the tenant {TENANT} could not be made: {tenant.status_reason}"
                )
            if tenant.status is not TenantStatus.PROVISIONING:
                return
            await anyio.sleep(_POLL)
    raise Misconfigured(
        f"the tenant {TENANT} is not made after {patience:g} s: with a REDIS_URL that is for a"
        " worker to do, `python -m workers`"
    )


def banner(public_url: str, operator_token: str, client_id: str, client_secret: str) -> str:
    """What a newcomer pastes: it works in any POSIX shell with curl and sed."""
    text = _BANNER if client_id != _UNKNOWN_CLIENT else _BANNER.replace(_FIRST, _KNOWN + _FIRST)
    for name, value in (
        ("@URL@", public_url),
        ("@OPERATOR@", operator_token),
        ("@CLIENT@", client_id),
        ("@SECRET@", client_secret),
        ("@TENANT@", TENANT),
    ):
        text = text.replace(name, value)
    return text


# What the lines to paste have instead of a client that only the newcomer can know.
_UNKNOWN_CLIENT = "$CLIENT_ID"
_FIRST = ": 1. "
_KNOWN = """: The demo tenant is there already. A secret is shown only when it is made: put
: yours in, or have the operator call resetTenantAdministrator for another.
CLIENT_ID=... CLIENT_SECRET=...

"""
# A comment would be an error in an interactive zsh: what explains is a command that does nothing.
_BANNER = r"""
AgentIdP is ready.

  GraphiQL        @URL@/graphql
  operator token  @OPERATOR@
  demo client     @CLIENT@
  demo secret     @SECRET@

Paste these into another terminal, in this order:

: 1. A token for the administrator of the demo tenant.
token() { curl -s @URL@/t/@TENANT@/oauth2/token -u "$1:$2" -d grant_type=client_credentials; }
field() { sed -E 's/.*"'"$1"'":"([^"]*)".*/\1/'; }
TOKEN=$(token @CLIENT@ \
  @SECRET@ | field access_token)

: 2. Register an agent.
gql() { printf '{"query":"%s"}' "$(printf %s "$1" | tr '\n' ' ' | sed 's/"/\\"/g')" |
  curl -s @URL@/graphql -H "Authorization: Bearer $TOKEN" \
    -H 'Content-Type: application/json' -d @- && echo; }
gql 'mutation { registerAgent(input: {
    email: "screener@demo.example", agentType: SCREENER, version: "1.0.0", owner: "talent",
    capabilities: ["resume:read", "audit:read"], deploymentEnv: PRODUCTION
  }) { ... on AgentRegistered { agent { agentId email status } }
       ... on UserError { code message } } }'

: 3. Generate its credential. The secret is in this answer and nowhere else.
AGENT=$(gql '{ agentByEmail(email: "screener@demo.example") { agentId } }' | field agentId)
SECRET=$(gql 'mutation { generateCredential(input: { agentId: "'"$AGENT"'" }) {
    ... on CredentialGenerated { clientSecret } ... on UserError { code message } } }' |
  field clientSecret)

: 4. The token of the new agent itself.
TOKEN=$(token "$AGENT" "$SECRET" | field access_token); echo "$TOKEN"

: 5. The audit log of all of the above.
gql '{ auditEvents(first: 20) { nodes { timestamp action outcome agentId metadata } } }'

Ctrl-C stops it.
"""


if __name__ == "__main__":
    sys.exit(main())
