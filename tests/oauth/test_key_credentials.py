"""Key credentials as a client uses them: several at once, named or not, ended, stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from db.records import AuditAction
from gateway.auth.principal import Operator
from tests.oauth.asking import Asking, error_of
from tests.oauth.signing import Signer, enrolled, jwk_of, new_key, present

INVALID_CLIENT = (401, "invalid_client")


async def reason_of(asking: Asking, answer: httpx.Response) -> object:
    """Why it was refused, by the last event of its kind."""
    assert error_of(answer) == INVALID_CLIENT
    [*_, told] = await asking.running.trail(asking.admin, AuditAction.AUTH_FAILED)
    return told.metadata["reason"]


async def worker(asking: Asking, algorithm: str = "ES256") -> Signer:
    return await enrolled(asking, algorithm, await asking.running.client_of(asking.admin))


async def test_any_of_several_keys_is_good_and_the_token_says_which(stored: Asking) -> None:
    signers = [await enrolled(stored, each) for each in ("ES256", "ES256", "RS256", "EdDSA")]
    for signer in signers:
        assert (await present(stored, signer.assertion())).status_code == 200
    issued = await stored.running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
    credentials = [str(signer.credential.credential_id) for signer in signers]
    assert [event.metadata["credentialId"] for event in issued[-4:]] == credentials


class TestKid:
    """It says which key is meant, where keys have names, and proves nothing."""

    async def test_it_picks_the_key_of_that_name(self, asking: Asking) -> None:
        first, second = [await enrolled(asking, kid=each) for each in ("first", "second")]
        for signer, kid in ((first, "first"), (second, "second"), (first, None), (second, None)):
            answer = await present(asking, signer.assertion({"kid": kid}))
            assert answer.status_code == 200

    async def test_the_key_of_another_name_did_not_sign_it(self, asking: Asking) -> None:
        first, _ = [await enrolled(asking, kid=each) for each in ("first", "second")]
        answer = await present(asking, first.assertion({"kid": "second"}))
        assert await reason_of(asking, answer) == "wrong_signature"

    @pytest.mark.parametrize("kid", ["third", "", "First", "../../etc/passwd", "' or 1=1 --",
                                     "k" * 4000, "\x00", "é"])  # fmt: skip
    async def test_a_name_that_no_key_has_is_of_no_key(self, asking: Asking, kid: str) -> None:
        signer = await enrolled(asking, kid="first")
        answer = await present(asking, signer.assertion({"kid": kid}))
        assert await reason_of(asking, answer) == "no_key"

    async def test_a_key_without_a_name_may_be_meant_by_any(self, asking: Asking) -> None:
        """A library that names its keys by their thumbprint signs for one that was given bare."""
        signer, named = await enrolled(asking), await enrolled(asking, kid="named")
        assert (await present(asking, signer.assertion({"kid": "x"}))).status_code == 200
        answer = await present(asking, named.assertion({"kid": "x"}))
        assert await reason_of(asking, answer) == "wrong_signature"

    async def test_two_keys_of_one_name_are_both_good(self, asking: Asking) -> None:
        for signer in [await enrolled(asking, kid="same") for _ in range(2)]:
            assert (await present(asking, signer.assertion({"kid": "same"}))).status_code == 200


async def test_an_rsa_key_that_says_its_alg_signs_with_no_other(asking: Asking) -> None:
    signer = await enrolled(asking, "RS256", alg="PS256")
    assert await reason_of(asking, await present(asking, signer.assertion())) == "no_key"
    other = Signer(signer.running, signer.client_id, "PS256", signer.key, signer.credential)
    assert (await present(asking, other.assertion())).status_code == 200


async def test_the_seconds_in_which_it_is_good(asking: Asking) -> None:
    """To the second of its end; five minutes ahead, and the leeway of two clocks more."""
    signer = await enrolled(asking)
    now = signer.running.clock.now
    second = int(now.timestamp())
    rows: tuple[dict[str, Any], ...] = (
        {"exp": second + 1},
        {"exp": second + 330},
        {"iat": second + 30},
        {"nbf": second + 30},
        {"iat": second - 329, "exp": second + 1},
        {"nbf": -1},
        {"iat": None},
        {"jti": "j" * 255},
        {"jti": "j"},
        {"jti": "\x00"},
        {"jti": "\ud800"},
    )
    for claims in rows:
        answer = await present(asking, signer.assertion(**claims))
        assert answer.status_code == 200, claims
    short = signer.assertion(exp=second + 2, jti="last")
    signer.running.clock.now = now.replace(microsecond=999_999) + timedelta(seconds=1)
    assert (await present(asking, short)).status_code == 200


async def test_a_revoked_key_signs_no_more(stored: Asking) -> None:
    signer = await worker(stored)
    running = stored.running
    assert (await present(stored, signer.assertion())).status_code == 200
    call = await running.as_caller(stored.admin)
    await running.gateway.credentials.revoke(call, signer.credential.credential_id)
    # The agent has a secret besides.
    assert await reason_of(stored, await present(stored, signer.assertion())) == "no_key"


async def test_a_key_signs_to_the_second_of_its_end(stored: Asking) -> None:
    signer = await enrolled(stored, expires_in=10)
    clock = stored.running.clock
    clock.advance(9.999_999)
    assert (await present(stored, signer.assertion())).status_code == 200
    clock.advance(0.000_001)
    assert await reason_of(stored, await present(stored, signer.assertion())) == "no_key"


async def test_during_an_overlap_both_keys_sign_and_then_the_new_one_alone(
    stored: Asking,
) -> None:
    running, signer = stored.running, await enrolled(stored)
    key = new_key("EdDSA")
    call = await running.as_caller(stored.admin)
    fresh = await running.gateway.credentials.rotate_to_key(
        call, signer.credential.credential_id, jwk_of(key), overlap_seconds=60
    )
    successor = Signer(running, signer.client_id, "EdDSA", key, fresh)
    for each in (signer, successor):
        assert (await present(stored, each.assertion())).status_code == 200
    running.clock.advance(60)
    assert (await present(stored, successor.assertion())).status_code == 200
    assert await reason_of(stored, await present(stored, signer.assertion())) == "no_key"


async def test_an_agent_that_is_stopped_does_not_get_in_by_its_key(stored: Asking) -> None:
    running, gateway = stored.running, stored.running.gateway
    signer = await worker(stored)
    agent_id = UUID(signer.client_id)
    call = await running.as_caller(stored.admin)
    unused = signer.assertion()
    await gateway.agents.suspend(call, agent_id)
    assert await reason_of(stored, await present(stored, unused)) == "agent_suspended"
    await gateway.agents.reactivate(call, agent_id)
    # What was refused was not used up.
    assert (await present(stored, unused)).status_code == 200
    await gateway.agents.decommission(call, agent_id)
    answer = await present(stored, signer.assertion())
    assert await reason_of(stored, answer) == "no_credential"


async def test_the_kill_switch_of_its_tenant_stops_it_too(stored: Asking) -> None:
    running, gateway = stored.running, stored.running.gateway
    signer = await worker(stored)
    operator = running.call(Operator())
    await gateway.kill_switch.engage(operator, "an incident", slug="acme")
    before = await running.trail(stored.admin, AuditAction.TOKEN_ISSUED)
    assert error_of(await present(stored, signer.assertion())) == INVALID_CLIENT
    assert await running.trail(stored.admin, AuditAction.TOKEN_ISSUED) == before
    await gateway.kill_switch.release(operator, "it is over", slug="acme")
    assert (await present(stored, signer.assertion())).status_code == 200


async def test_wrong_signatures_are_counted_as_wrong_secrets_are(stored: Asking) -> None:
    """Whoever tries too many has to wait; the owner of the key does not."""
    signer = await enrolled(stored)
    forger = Signer(
        stored.running, signer.client_id, "ES256", new_key("ES256"), signer.credential
    )  # fmt: skip
    answers = [await present(stored, forger.assertion()) for _ in range(31)]
    assert [answer.status_code for answer in answers] == [401] * 30 + [429]
    assert error_of(answers[-1]) == (429, "too_many_requests")
    assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    told = await stored.running.trail(stored.admin, AuditAction.AUTH_FAILED)
    reasons = [event.metadata["reason"] for event in told]
    assert reasons == ["wrong_signature"] * 30 + ["throttled"]
    assert (await present(stored, signer.assertion())).status_code == 200
