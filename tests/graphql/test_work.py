"""What time does, through GraphQL: the operator looks at it and asks for it, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from db.records import JSONObject
from db.work import (
    JobName,
    Work,
    WorkState,
    claimed,
    failed,
    finished,
    new_work,
    renewed,
)
from tests.graphql.asking import Asking
from workers.queue import catalogue

CANARY = "$2b$12$what-nobody-may-read"
ROW = """key job tenant state attempts runAfter startedAt finishedAt succeededAt durationMs
    leaseUntil worker progress { done total } report { seen changed failures { subject reason } }
    lastError createdAt"""
REPORT: JSONObject = {"seen": 3, "changed": 2, "failures": {"globex": "blocked"}}


def instant(asking: Asking, seconds: float = 0) -> str:
    shown = asking.running.clock.now + timedelta(seconds=seconds)
    return shown.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


async def put(asking: Asking, *rows: Work, payload: JSONObject | None = None) -> None:
    async with asking.running.gateway.storage.registry_unit() as unit:
        for row in rows:
            await unit.work.add(row)
            await unit.work.save(row)
            await unit.work.seal(row.key, payload)


def waiting(asking: Asking, job: JobName, tenant: str | None = None) -> Work:
    now = asking.running.clock.now
    return new_work(job, now, tenant, after=now)


def running(asking: Asking, job: JobName, tenant: str | None = None) -> Work:
    claim = claimed(waiting(asking, job, tenant), "w1", asking.running.clock.now)
    assert claim is not None
    return claim


async def shown(asking: Asking, filter: str = "") -> list[dict[str, Any]]:
    document = f"{{ work{filter} {{ totalCount nodes {{ {ROW} }} }} }}"
    connection = (await asking.operator.data(document))["work"]
    nodes: list[dict[str, Any]] = connection["nodes"]
    assert connection["totalCount"] == len(nodes)
    return nodes


async def test_a_row_is_shown_with_all_that_became_of_it(stored: Asking) -> None:
    row = running(stored, JobName.MIGRATE_FLEET)
    await put(stored, row)
    [_, fresh] = sorted(await shown(stored), key=lambda node: str(node["job"]), reverse=True)
    assert fresh == {
        "key": "migrate_fleet",
        "job": "MIGRATE_FLEET",
        "tenant": None,
        "state": "RUNNING",
        "attempts": 1,
        "runAfter": instant(stored),
        "startedAt": instant(stored),
        "finishedAt": None,
        "succeededAt": None,
        "durationMs": None,
        "leaseUntil": instant(stored, 60),
        "worker": "w1",
        "progress": None,
        "report": None,
        "lastError": None,
        "createdAt": instant(stored),
    }
    row = renewed(row, stored.running.clock.now, {"done": 2, "total": 2**40})
    stored.running.clock.advance(1.5)
    ended = failed(
        row, stored.running.clock.now, "1 of 3", most_attempts=1, again_at=None, report=REPORT
    )
    await put(stored, replace(ended, succeeded_at=row.created_at))
    [node] = await shown(stored, "(filter: {job: {in: [MIGRATE_FLEET]}})")
    assert node == fresh | {
        "state": "FAILED",
        "finishedAt": instant(stored),
        "succeededAt": instant(stored, -1.5),
        "durationMs": 1500,
        "leaseUntil": None,
        "worker": None,
        # Beyond the largest number that GraphQL has it is that.
        "progress": {"done": 2, "total": 2**31 - 1},
        "report": {
            "seen": 3,
            "changed": 2,
            "failures": [{"subject": "globex", "reason": "blocked"}],
        },
        "lastError": "1 of 3",
    }


async def test_rows_come_by_key_in_pages_and_as_they_are_filtered(stored: Asking) -> None:
    slugs = ["ab", "a_z", "a1"]
    await put(stored, *(waiting(stored, JobName.REMOVE_TENANT, slug) for slug in slugs))
    await put(stored, running(stored, JobName.WARM_REVOCATIONS))
    everything = [
        "provision_tenant:acme",
        "remove_tenant:a1",
        "remove_tenant:a_z",
        "remove_tenant:ab",
        "warm_revocations",
    ]
    assert [node["key"] for node in await shown(stored)] == everything
    for filter, keys in (
        ("{job: {in: [REMOVE_TENANT]}}", everything[1:4]),
        ("{job: {in: []}}", []),
        ("{state: {in: [RUNNING, DONE]}}", [everything[0], everything[4]]),
        ('{tenant: {eq: "a1"}}', everything[1:2]),
        ("{tenant: {eq: null}, job: null, state: {in: null}}", everything),
        ('{tenant: {eq: "a1"}, state: {in: [RUNNING]}}', []),
    ):
        assert [node["key"] for node in await shown(stored, f"(filter: {filter})")] == keys
    pages = """query($after: String) { work(first: 2, after: $after) {
        edges { cursor node { key } } pageInfo { hasNextPage endCursor } } }"""
    found, after = [], None
    while True:
        page = (await stored.operator.data(pages, {"after": after}))["work"]
        found += [edge["node"]["key"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert found == everything
    backwards = "{ work(last: 2) { nodes { key } pageInfo { hasPreviousPage } } }"
    assert (await stored.operator.data(backwards))["work"] == {
        "nodes": [{"key": key} for key in everything[-2:]],
        "pageInfo": {"hasPreviousPage": True},
    }


async def test_a_cursor_or_a_filter_that_is_none_is_refused(stored: Asking) -> None:
    tenants = await stored.operator.data("{ tenants { edges { cursor } } }")
    foreign = tenants["tenants"]["edges"][0]["cursor"]
    document = "query($after: String) { work(after: $after) { totalCount } }"
    for cursor in (foreign, "nonsense"):
        assert await stored.operator.code(document, {"after": cursor}) == "BAD_USER_INPUT"
    filtered = "query($slug: String) { work(filter: {tenant: {eq: $slug}}) { totalCount } }"
    assert await stored.operator.code(filtered, {"slug": "a\x00"}) == "BAD_USER_INPUT"
    assert await stored.operator.data(filtered, {"slug": "nobody"}) == {"work": {"totalCount": 0}}


async def test_what_is_sealed_beside_a_row_is_nowhere(stored: Asking) -> None:
    await put(stored, waiting(stored, JobName.REMOVE_TENANT, "acme"), payload={"hash": CANARY})
    answer = await stored.operator.post(
        {"query": f"{{ work {{ nodes {{ {ROW} }} }} jobs {{ name lastRun {{ {ROW} }} }} }}"}
    )
    assert answer.status_code == 200
    assert "remove_tenant:acme" in answer.text
    assert CANARY not in answer.text
    for field in ("payload", "sealed", "fence"):
        assert "errors" in await stored.operator.ask(f"{{ work {{ nodes {{ {field} }} }} }}")


async def test_a_whole_page_of_rows_may_be_asked_for_with_all_their_failures(
    stored: Asking,
) -> None:
    now = stored.running.clock.now
    rows = [
        finished(running(stored, JobName.REMOVE_TENANT, f"t{place:02}"), now, REPORT, None)
        for place in range(99)
    ]
    await put(stored, *rows)
    connection = (await stored.operator.data(f"{{ work(first: 100) {{ nodes {{ {ROW} }} }} }}"))[
        "work"
    ]
    assert len(connection["nodes"]) == 100
    assert [len(node["report"]["failures"]) for node in connection["nodes"]] == [0] + [1] * 99


async def test_the_list_of_jobs_is_whole_and_says_how_each_stands(stored: Asking) -> None:
    document = f"""{{ jobs {{ name reason schedule ofTenant queued running failed lagSeconds
        lastSuccessAt lastRun {{ {ROW} }} }} }}"""
    await put(stored, waiting(stored, JobName.SWEEP_REVOCATIONS))
    now = stored.running.clock.now
    ended = finished(running(stored, JobName.TAIL_REVOCATIONS), now, REPORT, None)
    await put(stored, replace(ended, state=WorkState.QUEUED))
    stored.running.clock.advance(2.5)
    jobs = (await stored.operator.data(document))["jobs"]
    assert [
        (job["name"].lower(), job["reason"], job["schedule"], job["ofTenant"]) for job in jobs
    ] == [(each.name, each.reason, each.schedule, each.of_tenant) for each in catalogue()]
    by_name = {job["name"]: job for job in jobs}
    assert by_name["SWEEP_REVOCATIONS"]["lagSeconds"] == 2.5
    tail = by_name["TAIL_REVOCATIONS"]
    assert (tail["queued"], tail["running"], tail["failed"]) == (1, 0, 0)
    assert tail["lastSuccessAt"] == instant(stored, -2.5)
    assert tail["lastRun"]["report"]["failures"] == [{"subject": "globex", "reason": "blocked"}]
    idle = by_name["WARM_REVOCATIONS"]
    assert (idle["queued"], idle["lagSeconds"], idle["lastRun"]) == (0, 0.0, None)


async def test_a_job_is_queued_and_the_answer_is_its_row(stored: Asking) -> None:
    with stored.running.queue.held():
        payload = await stored.operator.change("runJob", {"job": "SWEEP_REVOCATIONS"})
    assert payload == {
        "__typename": "JobQueued",
        "work": {"key": "sweep_revocations", "state": "QUEUED", "tenant": None},
    }
    assert stored.running.queue.waiting == ["sweep_revocations"]
    [row] = await shown(stored, "(filter: {job: {in: [SWEEP_REVOCATIONS]}})")
    assert row["runAfter"] == instant(stored)


async def test_a_run_that_is_on_goes_on(stored: Asking) -> None:
    await put(stored, running(stored, JobName.WARM_REVOCATIONS))
    payload = await stored.operator.change("runJob", {"job": "WARM_REVOCATIONS"})
    assert payload["work"]["state"] == "RUNNING"


@pytest.mark.parametrize(
    ("input", "kind", "path"),
    [
        ({"job": "PROVISION_TENANT"}, "InvalidInput", ["tenant"]),
        ({"job": "PROVISION_TENANT", "tenant": None}, "InvalidInput", ["tenant"]),
        ({"job": "WARM_REVOCATIONS", "tenant": "acme"}, "InvalidInput", ["tenant"]),
        ({"job": "REMOVE_TENANT", "tenant": "acme"}, "NotFound", ["tenant"]),
        ({"job": "PROVISION_TENANT", "tenant": "nobody"}, "NotFound", ["tenant"]),
        # It is made, and made once.
        ({"job": "PROVISION_TENANT", "tenant": "acme"}, "InvalidTransition", ["tenant"]),
    ],
)
async def test_what_cannot_be_run_is_refused_and_nothing_is_queued(
    stored: Asking, input: dict[str, str], kind: str, path: list[str]
) -> None:
    before = await shown(stored)
    payload = await stored.operator.change("runJob", input)
    assert (payload["__typename"], payload["path"]) == (kind, path)
    assert await shown(stored) == before


async def test_a_job_that_is_none_is_no_job(stored: Asking) -> None:
    for job in ("DROP_TABLES", "warm_revocations", ""):
        error = await stored.operator.denied("runJob", {"job": job})
        assert error["code"] == "BAD_USER_INPUT"
    assert [row["key"] for row in await shown(stored)] == ["provision_tenant:acme"]


@pytest.mark.parametrize(
    "document",
    [
        "{ work { totalCount } }",
        "{ jobs { name } }",
        "mutation { runJob(input: {job: WARM_REVOCATIONS}) { __typename } }",
    ],
)
async def test_a_tenant_s_administrator_is_not_let_in(asking: Asking, document: str) -> None:
    before = await shown(asking)
    assert await asking.code(document) == "FORBIDDEN"
    assert await asking.nobody.code(document) == "UNAUTHENTICATED"
    assert await shown(asking) == before
    assert asking.running.queue.waiting == []
