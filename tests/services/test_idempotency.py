"""A request that its caller has named is done once, however often it is sent."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import anyio
import pytest

from db.errors import IdempotencyKeyReused, InvalidInput, SlugTaken
from db.pages import PageRequest
from db.records import IDEMPOTENCY_SPAN, JSONObject, TenantStatus
from gateway.auth.principal import Operator
from gateway.auth.secrets import HashedSecret, SecretHasher
from gateway.services.idempotency import Attempt
from gateway.services.onboarding import OnboardedTenant
from gateway.settings import GatewaySettings
from tests.gateway import CHEAPEST_BCRYPT, RunningGateway, running
from tests.services.test_onboarding import client_of, everything, onboard, sealed, stored

KEY = UUID("5f0c1d9e-6b7a-4c1d-8e2f-0123456789ab")


class Counting(SecretHasher):
    """Knows how often it was asked for a hash."""

    def __init__(self) -> None:
        super().__init__(CHEAPEST_BCRYPT)
        self.hashed = 0

    async def hash(self, secret: str, whence: str = "") -> HashedSecret:
        self.hashed += 1
        return await super().hash(secret, whence)


async def test_a_repetition_tells_what_came_of_the_first_but_for_the_secret(
    backend: GatewaySettings,
) -> None:
    hasher = Counting()
    async with running(backend, hasher=hasher) as gateway:
        with gateway.queue.held():
            first = await onboard(gateway, idempotency_key=KEY)
            waiting = await everything(gateway)
            gateway.clock.advance(1)
            again = await onboard(gateway, idempotency_key=KEY)

            assert again == OnboardedTenant(first.tenant, first.client_id, secret=None)
            assert await everything(gateway) == waiting
            assert gateway.queue.waiting == ["provision_tenant:acme"]
            await gateway.queue.run()

        later = await onboard(gateway, idempotency_key=KEY)

        # As the tenant is by now.
        assert (later.client_id, later.secret) == (first.client_id, None)
        assert later.tenant == await stored(gateway)
        assert later.tenant.status is TenantStatus.ACTIVE
        assert await gateway.token(client_of(first))
        assert hasher.hashed == 1


@pytest.mark.parametrize(
    "other",
    [{"slug": "globex"}, {"display_name": "Acme Inc"}, {"admin_email": "other@acme.example"}],
)
async def test_a_key_of_another_request_is_refused(
    gateway: RunningGateway, other: dict[str, str]
) -> None:
    first = await onboard(gateway, idempotency_key=KEY)
    before = await everything(gateway)

    with pytest.raises(IdempotencyKeyReused) as refused:
        await onboard(gateway, idempotency_key=KEY, **other)

    assert refused.value.path == ("idempotencyKey",)
    assert await everything(gateway) == before
    assert await gateway.token(client_of(first))


async def test_of_two_at_once_with_one_key_one_is_told_the_secret(
    gateway: RunningGateway,
) -> None:
    made: list[OnboardedTenant] = []

    async def attempt() -> None:
        made.append(await onboard(gateway, idempotency_key=KEY))

    with gateway.queue.held():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(attempt)

    assert len({(each.tenant, each.client_id) for each in made}) == 1
    [told] = [each for each in made if each.secret is not None]
    assert gateway.queue.waiting == ["provision_tenant:acme"]
    events = await gateway.gateway.storage.registry.operator_events.page(PageRequest())
    assert [event.action for event in events.items] == ["tenant.onboarded"]
    assert (await sealed(gateway))["administrator"]["agent_id"] == str(told.client_id)
    await gateway.queue.run()
    assert await gateway.token(client_of(told))


async def test_a_key_holds_for_a_day(gateway: RunningGateway) -> None:
    first = await onboard(gateway, idempotency_key=KEY)

    gateway.clock.advance((IDEMPOTENCY_SPAN - timedelta(seconds=1)).total_seconds())
    assert (await onboard(gateway, idempotency_key=KEY)).client_id == first.client_id

    gateway.clock.advance(1)
    with pytest.raises(SlugTaken):
        await onboard(gateway, idempotency_key=KEY)
    other = await onboard(gateway, slug="globex", idempotency_key=KEY)
    assert other.secret is not None
    assert (await onboard(gateway, slug="globex", idempotency_key=KEY)).secret is None


async def test_a_refused_request_leaves_its_key_as_good_as_new(gateway: RunningGateway) -> None:
    await gateway.onboard("acme")
    before = await everything(gateway)

    with pytest.raises(SlugTaken):
        await onboard(gateway, idempotency_key=KEY)
    with pytest.raises(InvalidInput):
        await onboard(gateway, slug="A", idempotency_key=KEY)
    assert await everything(gateway) == before

    assert (await onboard(gateway, slug="globex", idempotency_key=KEY)).secret is not None


async def test_without_a_key_a_repetition_is_another_request(gateway: RunningGateway) -> None:
    await onboard(gateway)

    with pytest.raises(SlugTaken):
        await onboard(gateway)
    with pytest.raises(SlugTaken):
        await onboard(gateway, idempotency_key=KEY)


async def test_two_callers_may_think_of_the_same_key(in_memory: RunningGateway) -> None:
    admin, other = await in_memory.onboard("acme"), await in_memory.onboard("globex")
    worker = await in_memory.client_of(admin)
    callers = [
        in_memory.call(Operator()),
        *[await in_memory.as_caller(client) for client in (admin, other, worker)],
    ]
    attempts = [
        Attempt.of(call, KEY, "registerAgent", {"email": "a@b.example"}) for call in callers
    ]

    assert len({attempt.scope for attempt in attempts}) == len(attempts)
    for attempt in attempts:
        assert len(attempt.scope) <= 64
        async with in_memory.gateway.storage.registry_unit() as unit:
            assert await attempt.claim(unit, {"for": attempt.scope}) is None
        found = await attempt.earlier(in_memory.gateway.storage.registry)
        assert found == {"for": attempt.scope}


async def test_the_operation_and_all_that_is_said_make_a_request_the_same(
    in_memory: RunningGateway,
) -> None:
    call, key = in_memory.call(Operator()), uuid4()
    first = Attempt.of(call, key, "registerAgent", {"a": 1, "b": ["x", None]})

    assert Attempt.of(call, key, "registerAgent", {"b": ["x", None], "a": 1}) == first
    others: list[tuple[str, JSONObject]] = [
        ("generateCredential", {"a": 1, "b": ["x", None]}),
        ("registerAgent", {"a": 1}),
        ("registerAgent", {"a": 1, "b": [None, "x"]}),
        ("registerAgent", {"a": "1", "b": ["x", None]}),
    ]
    for operation, said in others:
        assert Attempt.of(call, key, operation, said).fingerprint != first.fingerprint
