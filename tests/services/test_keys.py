"""Signing keys in rotation: published before they sign, verifying after, and dead once retired."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import uuid4

import anyio
import pytest

from db.errors import IdempotencyKeyReused, InvalidTransition, NotFound, Refused, Unauthenticated
from db.pages import PageRequest
from db.records import SigningAlgorithm, SigningKeyStatus
from gateway.auth.keyring import JWKS_MAX_AGE, RELOAD_SECONDS
from gateway.auth.principal import Operator
from gateway.services.call import Call
from gateway.services.keys import MOST_KEYS, OVERLAP, KeyService, KeyStanding
from tests.auth import forging
from tests.gateway import RunningGateway, memory_settings, running

ES256, RS256, EDDSA = SigningAlgorithm.ES256, SigningAlgorithm.RS256, SigningAlgorithm.EDDSA
PUBLISHED, SIGNING = SigningKeyStatus.PUBLISHED, SigningKeyStatus.SIGNING
RETIRED = SigningKeyStatus.RETIRED


def operator(gateway: RunningGateway) -> Call:
    return gateway.call(Operator())


def service(gateway: RunningGateway) -> KeyService:
    return gateway.gateway.keys


async def publish(gateway: RunningGateway, algorithm: SigningAlgorithm = ES256) -> KeyStanding:
    return await service(gateway).publish(operator(gateway), algorithm)


async def activate(gateway: RunningGateway, kid: str) -> KeyStanding:
    return await service(gateway).activate(operator(gateway), kid, immediately=True)


async def statuses(gateway: RunningGateway) -> list[tuple[str, SigningKeyStatus]]:
    return [(key.kid, key.status) for key in await service(gateway).all()]


async def in_jwks(gateway: RunningGateway) -> list[str]:
    keys = await gateway.gateway.authority.published(gateway.clock.now)
    return [key["kid"] for key in json.loads(keys.jwks)["keys"]]


async def accepts(gateway: RunningGateway, token: str) -> bool:
    try:
        await gateway.gateway.authenticator.bearer([f"Bearer {token}"], gateway.clock.now)
    except Unauthenticated:
        return False
    return True


async def events(gateway: RunningGateway) -> list[tuple[str, object]]:
    page = await gateway.gateway.storage.registry.operator_events.page(PageRequest(first=50))
    return [
        (event.action, event.metadata)
        for event in reversed(page.items)
        if event.action.startswith("signing_key.")
    ]


async def test_a_new_deployment_signs_with_es256(gateway: RunningGateway) -> None:
    now = gateway.clock.now
    [only] = await service(gateway).all()
    assert (only.algorithm, only.status) == (ES256, SIGNING)
    assert (only.created_at, only.changed_at) == (now, now)
    assert await in_jwks(gateway) == [only.kid]
    assert await events(gateway) == []


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
async def test_a_rotation_has_three_steps_and_loses_no_token(
    gateway: RunningGateway, algorithm: SigningAlgorithm
) -> None:
    admin = await gateway.onboard()
    [old] = await service(gateway).all()
    before = await gateway.token(admin)

    new = await publish(gateway, algorithm)
    assert (new.algorithm, new.status) == (algorithm, PUBLISHED)
    assert await in_jwks(gateway) == [old.kid, new.kid]
    assert forging.signed_by(await gateway.token(admin)) == old.kid

    gateway.clock.advance(OVERLAP.total_seconds())
    signing = await service(gateway).activate(operator(gateway), new.kid)
    assert (signing.status, signing.changed_at) == (SIGNING, gateway.clock.now)
    assert await in_jwks(gateway) == [new.kid, old.kid]
    after = await gateway.token(admin)
    assert forging.signed_by(after) == new.kid
    assert await accepts(gateway, before)
    assert await accepts(gateway, after)

    gone = await service(gateway).retire(operator(gateway), old.kid)
    assert (gone.status, gone.changed_at) == (RETIRED, gateway.clock.now)
    assert await in_jwks(gateway) == [new.kid]
    assert await statuses(gateway) == [(new.kid, SIGNING), (old.kid, RETIRED)]
    assert not await accepts(gateway, before)
    assert await accepts(gateway, after)
    named = {"kid": new.kid, "algorithm": algorithm.value}
    assert await events(gateway) == [
        ("signing_key.published", named),
        ("signing_key.activated", named | {"before": old.kid, "immediately": False}),
        ("signing_key.retired", {"kid": old.kid, "algorithm": "ES256"}),
    ]


async def test_a_key_signs_once_every_verifier_can_know_it(gateway: RunningGateway) -> None:
    [old] = await service(gateway).all()
    new = await publish(gateway)
    assert timedelta(seconds=JWKS_MAX_AGE + RELOAD_SECONDS) <= OVERLAP
    assert new.ready_at == gateway.clock.now + OVERLAP
    gateway.clock.advance(OVERLAP.total_seconds() - 0.001)
    with pytest.raises(InvalidTransition, match=re.escape(f"before {new.ready_at.isoformat()}")):
        await service(gateway).activate(operator(gateway), new.kid)
    assert await statuses(gateway) == [(old.kid, SIGNING), (new.kid, PUBLISHED)]
    assert [action for action, _ in await events(gateway)] == ["signing_key.published"]
    gateway.clock.advance(0.001)
    await service(gateway).activate(operator(gateway), new.kid)
    assert await statuses(gateway) == [(new.kid, SIGNING), (old.kid, PUBLISHED)]


async def test_who_cannot_wait_says_so_and_the_trail_keeps_it(gateway: RunningGateway) -> None:
    [old] = await service(gateway).all()
    new = await publish(gateway)
    await activate(gateway, new.kid)
    said = {"kid": new.kid, "algorithm": "ES256", "before": old.kid, "immediately": True}
    assert (await events(gateway))[-1] == ("signing_key.activated", said)


async def test_the_key_before_can_be_taken_back_at_once(gateway: RunningGateway) -> None:
    """It never left the key set."""
    [old] = await service(gateway).all()
    new = await publish(gateway)
    gateway.clock.advance(OVERLAP.total_seconds())
    await service(gateway).activate(operator(gateway), new.kid)
    await service(gateway).activate(operator(gateway), old.kid)
    assert await statuses(gateway) == [(old.kid, SIGNING), (new.kid, PUBLISHED)]


async def test_what_cannot_be_done_to_a_key_changes_nothing(gateway: RunningGateway) -> None:
    keys, call = service(gateway), operator(gateway)
    [signing] = await keys.all()
    gone = await publish(gateway)
    await keys.retire(call, gone.kid)
    gateway.clock.advance(1000)
    call = operator(gateway)
    before, said = await keys.all(), await events(gateway)
    for act, kid, kind in (
        (keys.activate, signing.kid, InvalidTransition),
        (keys.activate, gone.kid, InvalidTransition),
        (keys.retire, signing.kid, InvalidTransition),
        (keys.retire, gone.kid, InvalidTransition),
        *((act, kid, NotFound) for act in (keys.activate, keys.retire) for kid in NOBODY),
    ):
        with pytest.raises(kind) as refused:
            await act(call, kid)
        assert isinstance(refused.value, Refused)
        assert refused.value.path == ("kid",)
    assert await keys.all() == before
    assert await events(gateway) == said


NOBODY = ("", "unknown", "x" * 43, "x" * 65, "a\x00b", "\ud800", "ключ", "' or 1=1 --")


async def test_a_retired_key_is_forgotten_and_not_only_hidden(gateway: RunningGateway) -> None:
    new = await publish(gateway)
    registry = gateway.gateway.storage.registry
    kept = await registry.signing_keys.get(new.kid)
    assert kept is not None
    assert kept.private_key
    await service(gateway).retire(operator(gateway), new.kid)
    kept = await registry.signing_keys.get(new.kid)
    assert kept is not None
    assert kept.private_key == b""


async def test_of_keys_that_are_to_sign_at_once_one_does(gateway: RunningGateway) -> None:
    """The others are told, or came after it: never do two sign, and none is lost."""
    rivals = [(await publish(gateway)).kid for _ in range(4)]
    answers: list[str] = []

    async def rival(kid: str) -> None:
        try:
            await activate(gateway, kid)
        except InvalidTransition as refused:
            answers.append(refused.message)

    async with anyio.create_task_group() as group:
        for kid in rivals:
            group.start_soon(rival, kid)
    assert set(answers) <= {"another key came to sign meanwhile: look again"}
    found = [status for _, status in await statuses(gateway)]
    assert found == [SIGNING] + [PUBLISHED] * 4
    activations = [said for action, said in await events(gateway) if action.endswith("activated")]
    assert len(activations) == len(rivals) - len(answers) >= 1


async def test_a_publication_that_is_repeated_makes_one_key(gateway: RunningGateway) -> None:
    keys, call, name = service(gateway), operator(gateway), uuid4()
    first = await keys.publish(call, EDDSA, name)
    assert await keys.publish(call, EDDSA, name) == first
    with pytest.raises(IdempotencyKeyReused):
        await keys.publish(call, ES256, name)
    assert len(await keys.all()) == 2
    assert [action for action, _ in await events(gateway)] == ["signing_key.published"]


async def test_there_are_not_more_keys_than_a_verifier_wants_to_read(
    gateway: RunningGateway,
) -> None:
    made = [await publish(gateway) for _ in range(MOST_KEYS - 1)]
    with pytest.raises(InvalidTransition, match="retire one"):
        await publish(gateway)
    assert len(await service(gateway).all()) == MOST_KEYS
    await service(gateway).retire(operator(gateway), made[0].kid)
    await publish(gateway)


async def test_the_retired_are_listed_last_the_newest_of_them_first(
    gateway: RunningGateway,
) -> None:
    [signing] = await service(gateway).all()
    made = []
    for _ in range(3):
        gateway.clock.advance(1)
        made.append(await publish(gateway))
    for key in made[:2]:
        gateway.clock.advance(1)
        await service(gateway).retire(operator(gateway), key.kid)
    assert await statuses(gateway) == [
        (signing.kid, SIGNING),
        (made[2].kid, PUBLISHED),
        (made[1].kid, RETIRED),
        (made[0].kid, RETIRED),
    ]
    assert [key.ready_at is None for key in await service(gateway).all()] == [False] * 2 + [
        True
    ] * 2


class TestGiven:
    """SIGNING_KEYS decides then, and is read when the gateway starts."""

    async def test_they_are_listed_without_dates(self) -> None:
        keys = [forging.key_for(each) for each in (EDDSA, ES256)]
        async with given(keys) as gateway:
            assert await service(gateway).all() == [
                KeyStanding(forging.kid_of(keys[0]), EDDSA, SIGNING),
                KeyStanding(forging.kid_of(keys[1]), ES256, PUBLISHED),
            ]

    async def test_nothing_here_changes_them(self) -> None:
        keys = [forging.key_for(each) for each in (EDDSA, ES256)]
        async with given(keys) as gateway:
            call, before = operator(gateway), await service(gateway).all()
            for act in (
                service(gateway).publish(call, ES256),
                service(gateway).activate(call, before[1].kid, immediately=True),
                service(gateway).retire(call, before[1].kid),
            ):
                with pytest.raises(InvalidTransition, match="SIGNING_KEYS says"):
                    await act
            assert await service(gateway).all() == before
            assert await events(gateway) == []


def given(
    keys: Sequence[forging.PrivateKey],
) -> AbstractAsyncContextManager[RunningGateway]:
    return running(memory_settings(signing_keys="".join(map(forging.pem, keys))))
