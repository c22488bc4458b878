"""Any sequence of generating, rotating, revoking and waiting, against a model of a few lines.

After each step one secret is tried at the token endpoint, and every token that was ever got: the
model says which are accepted, and why an act is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import TypeAlias, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from db.errors import Refused
from gateway.services.minting import MAX_USABLE, FreshCredential
from tests.contract.cast import MICROSECOND
from tests.gateway import Client, RunningGateway, profile
from tests.services.test_credentials import accepted, logs_in
from tests.services.test_ended_credentials import expire

T = TypeVar("T")
Step: TypeAlias = tuple[str, int, int]
"""What is done, to which of the secrets there are, and a number of seconds."""

_NUMBERS = count()
_SECONDS = st.sampled_from([0, 1, 2, 3, 5, 8, 20])
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["generate", "rotate", "rotate", "rotate", "revoke", "wait", "until", "fill", "expire"]
        ),
        st.integers(0, 14),
        _SECONDS,
    ),
    max_size=24,
)


@dataclass
class Secret:
    credential_id: UUID
    client: Client
    end: datetime | None
    revoked: bool = False
    replaced: bool = False
    tokens: list[str] = field(default_factory=list)

    def works(self, now: datetime) -> bool:
        return not self.revoked and (self.end is None or now < self.end)


async def _tried(act: Awaitable[T]) -> T | str:
    """What came of it, or the code of its refusal."""
    try:
        return await act
    except Refused as refused:
        return refused.code


class Model:
    """What should be so; `secrets` are in the order in which they were made."""

    def __init__(self, gateway: RunningGateway, admin: Client, client: Client) -> None:
        self.gateway = gateway
        self.admin = admin
        self.client = client
        self.secrets: list[Secret] = []

    @property
    def now(self) -> datetime:
        return self.gateway.clock.now

    @property
    def full(self) -> bool:
        return sum(each.works(self.now) for each in self.secrets) >= MAX_USABLE

    async def do(self, step: Step) -> None:
        name, which, seconds = step
        if name == "wait":
            self.gateway.clock.advance(seconds)
        elif name == "expire":
            await expire(self.gateway)
        elif name == "generate" or not self.secrets:
            await self.generate(seconds)
        elif name == "fill":
            while not self.full:
                await self.generate(0)
        else:
            chosen = self.secrets[which % len(self.secrets)]
            if name == "until":
                # The instant of its end, or the last one before it.
                end = chosen.end or self.now
                self.gateway.clock.now = max(self.now, end - (seconds % 2) * MICROSECOND)
            elif name == "rotate":
                await self.rotate(chosen, seconds)
            else:
                await self.revoke(chosen)

    async def generate(self, seconds: int) -> None:
        """With an expiry in so many seconds, or with none."""
        end = self.now + timedelta(seconds=seconds) if seconds else None
        call = await self.gateway.as_caller(self.admin)
        expected = "TOO_MANY_CREDENTIALS" if self.full else None
        fresh = await _tried(
            self.gateway.gateway.credentials.generate(
                call, UUID(self.client.client_id), expires_at=end
            )
        )
        if expected:
            assert fresh == expected
            return
        assert isinstance(fresh, FreshCredential), fresh
        self.add(fresh.credential.credential_id, fresh.secret, end)

    async def rotate(self, old: Secret, overlap: int) -> None:
        call = await self.gateway.as_caller(self.admin)
        expected = None
        if not old.works(self.now) or old.replaced:
            expected = "CREDENTIAL_NOT_ACTIVE"
        elif overlap and self.full:
            expected = "TOO_MANY_CREDENTIALS"
        fresh = await _tried(
            self.gateway.gateway.credentials.rotate(
                call, old.credential_id, overlap_seconds=overlap
            )
        )
        if expected:
            assert fresh == expected
            return
        assert isinstance(fresh, FreshCredential), fresh
        self.add(fresh.credential.credential_id, fresh.secret, old.end)
        old.replaced = True
        if overlap:
            end = self.now + timedelta(seconds=overlap)
            old.end = end if old.end is None else min(end, old.end)
        else:
            old.revoked = True

    async def revoke(self, chosen: Secret) -> None:
        call = await self.gateway.as_caller(self.admin)
        ended = await _tried(self.gateway.gateway.credentials.revoke(call, chosen.credential_id))
        assert (ended == "CREDENTIAL_NOT_ACTIVE") is chosen.revoked
        chosen.revoked = True

    async def check(self, which: int) -> None:
        if not self.secrets:
            return
        tried = self.secrets[which % len(self.secrets)]
        works = await logs_in(self.gateway, tried.client, tried.client.secret)
        assert works is tried.works(self.now)
        if works:
            tried.tokens.append(await self.gateway.token(tried.client))
        for each in self.secrets:
            for token in each.tokens:
                assert await accepted(self.gateway, token) is not each.revoked

    def add(self, credential_id: UUID, secret: str, end: datetime | None) -> None:
        client = replace(self.client, secret=secret)
        self.secrets.append(Secret(credential_id, client, end))


@example([("generate", 0, 5), ("rotate", 0, 20), ("until", 0, 1), ("until", 0, 0)])
@example([("generate", 0, 0), ("rotate", 0, 5), ("until", 0, 0), ("revoke", 0, 0)])
@example([("generate", 0, 0), ("fill", 0, 0), ("rotate", 0, 5), ("rotate", 0, 0)])
@given(steps=_STEPS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_token_endpoint_accepts_exactly_what_the_model_says(
    in_memory: RunningGateway, steps: list[Step]
) -> None:
    """Each example has a tenant of its own; the gateway lives on."""
    gateway, number = in_memory, next(_NUMBERS)
    admin = await gateway.onboard(f"acme{number}")
    # What was tried in vain before is forgotten after a minute.
    gateway.clock.advance(60)
    agent = await gateway.gateway.agents.register(
        await gateway.as_caller(admin), profile("worker@agents.example", ["a:b"])
    )
    model = Model(gateway, admin, Client(admin.slug, str(agent.agent_id), ""))
    for step in steps:
        await model.do(step)
        await model.check(step[1])
