"""What the resolvers of one operation share: the gateway, the call, and the loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import strawberry

from gateway.auth.principal import AgentPrincipal
from gateway.graphql.loaders import Loaders
from gateway.services.call import Call
from gateway.wiring import Gateway


class Context:
    """`authorization` is what the call's principal was made from."""

    def __init__(self, gateway: Gateway, call: Call, authorization: Sequence[str]) -> None:
        self.gateway = gateway
        self.call = call
        self.loaders = Loaders(gateway, call)
        self._authorization = authorization
        self._changed = False

    async def enter_root_field(self, *, changing: bool, renew: bool) -> None:
        """Before each root field; mutations run one after the other.

        What the mutation before has changed may be the caller's own standing, or what a loader
        remembers. `renew` asks for the standing again. Raises Unauthenticated and Unavailable.
        """
        if not changing:
            return
        if self._changed:
            if renew and isinstance(self.call.principal, AgentPrincipal):
                authenticator = self.gateway.authenticator
                principal = await authenticator.bearer(self._authorization, self.call.now)
                self.call = self.call.by(principal)
            self.loaders = Loaders(self.gateway, self.call)
        self._changed = True


Info: TypeAlias = strawberry.Info[Context, None]
