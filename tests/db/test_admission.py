"""What waits to be admitted comes back as it was laid there, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.admission import Admission
from db.contract import Storage
from db.errors import Misconfigured
from db.records import JSONObject
from db.work import JobName, new_work
from tests.contract import values
from tests.contract.cast import NOW, new_agent, new_credential, whole_agent, whole_event
from tests.contract.conftest import settings, storage

__all__ = ["settings", "storage"]

CANARY = "$2b$12$canary-canary-canary-canary"

admissions = st.builds(
    Admission,
    administrator=values.agents,
    credential=values.credentials,
    events=st.lists(values.audit_events, max_size=3).map(tuple),
)


@given(admissions)
def test_nothing_is_lost_on_the_way_through_json(admission: Admission) -> None:
    text = json.dumps(admission.to_json())

    assert Admission.from_json(json.loads(text)) == admission


async def test_nothing_is_lost_beside_a_row(storage: Storage) -> None:
    agent = whole_agent()
    admission = Admission(agent, new_credential(agent.agent_id), (whole_event(), whole_event()))
    work = new_work(JobName.PROVISION_TENANT, NOW, "acme", after=NOW)

    async with storage.registry_unit() as unit:
        await unit.work.add(work)
        await unit.work.seal(work.key, admission.to_json())
    async with storage.registry_unit() as unit:
        found = await unit.work.unseal(work.key)

    assert found is not None
    assert Admission.from_json(found) == admission


def lacking(sealed: JSONObject) -> None:
    del sealed["credential"]


def with_more(sealed: JSONObject) -> None:
    assert isinstance(sealed["administrator"], dict)
    sealed["administrator"]["of_another_version"] = 1


def of_another_kind(sealed: JSONObject) -> None:
    assert isinstance(sealed["credential"], dict)
    sealed["credential"]["created_at"] = CANARY


def no_record(sealed: JSONObject) -> None:
    sealed["administrator"] = CANARY


def no_list(sealed: JSONObject) -> None:
    sealed["events"] = {"a": 1}


@pytest.mark.parametrize("spoil", [lacking, with_more, of_another_kind, no_record, no_list])
def test_what_another_program_has_laid_there_is_refused_and_not_quoted(
    spoil: Callable[[JSONObject], None],
) -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id, secret_hash=CANARY)
    sealed = Admission(agent, credential, ()).to_json()
    spoil(sealed)

    with pytest.raises(Misconfigured) as refused:
        Admission.from_json(sealed)

    assert CANARY not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_hash_is_not_shown_by_accident() -> None:
    agent = new_agent()
    credential = new_credential(agent.agent_id, secret_hash=CANARY)

    assert CANARY not in repr(Admission(agent, credential, ()))
