"""What Prometheus is told: how each job stands, from one look at the rows for each scrape.

Whoever reaches the port may read it, so no label names a tenant and none holds the text of an
error. What is measured is made anew each time and shared by nobody: two gateways of one process,
or two scrapes at once, know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import anyio
import structlog
from litestar import HttpMethod, Response, route
from litestar.datastructures import State
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from db.errors import AgentIdPError
from gateway.services.work import JobStanding, report_of
from gateway.wiring import Gateway

_READING = [HttpMethod.GET, HttpMethod.HEAD]
_PATIENCE = 3  # seconds, well within what Prometheus waits
_log = structlog.get_logger(__name__)

_PREFIX = "agentidp_job_"
# Each has a line for every job of the list: what has never run says 0, and can be alerted on.
_BY_JOB: tuple[tuple[str, str, Callable[[JobStanding], float]], ...] = (
    (
        "last_run_timestamp_seconds",
        "When the last run ended; 0: never.",
        lambda job: _epoch(job.summary.last.finished_at if job.summary.last else None),
    ),
    (
        "last_success_timestamp_seconds",
        "When a run last ended well; 0: never.",
        lambda job: _epoch(job.summary.succeeded_at),
    ),
    (
        "last_duration_seconds",
        "How long the last run took.",
        lambda job: ((job.summary.last and job.summary.last.ms) or 0) / 1000,
    ),
    (
        "last_failed",
        "1 when the last run ended badly, else 0.",
        lambda job: float(job.summary.last is not None and job.summary.last.last_error is not None),
    ),
    ("last_seen", "How many things the last run looked at.", lambda job: _report(job)[0]),
    ("last_changed", "How many things the last run changed.", lambda job: _report(job)[1]),
    ("last_failures", "How many things the last run could not do.", lambda job: _report(job)[2]),
    (
        "lag_seconds",
        "How long the longest waiting of the rows that are due has waited; 0: none is.",
        lambda job: job.lag_seconds,
    ),
)


class JobsCollector(Collector):
    """The standings of an instant, as Prometheus reads them."""

    def __init__(self, standings: Sequence[JobStanding]) -> None:
        self._standings = standings

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, meaning, value in _BY_JOB:
            family = GaugeMetricFamily(_PREFIX + name, meaning, labels=["job"])
            for each in self._standings:
                family.add_metric([each.listed.name.value], value(each))
            yield family
        rows = GaugeMetricFamily(
            "agentidp_work_rows",
            "Rows of work that wait, are done right now, or are left to the operator.",
            labels=["job", "state"],
        )
        for each in self._standings:
            summary = each.summary
            for state in ("queued", "running", "failed"):
                rows.add_metric([each.listed.name.value, state], getattr(summary, state))
        yield rows


@route("/metrics", http_method=_READING)
async def metrics(state: State) -> Response[bytes]:
    """503 while storage cannot be read: a number that is not known is not made up."""
    gateway: Gateway = state.gateway
    try:
        with anyio.fail_after(_PATIENCE):
            standings = await gateway.work.jobs(gateway.clock())
    except (AgentIdPError, TimeoutError) as error:
        _log.warning("metrics cannot be read", reason=str(error) or type(error).__name__)
        return Response(b"storage is not ready\n", status_code=503, media_type="text/plain")
    registry = CollectorRegistry()
    registry.register(JobsCollector(standings))
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


def _epoch(instant: datetime | None) -> float:
    return 0.0 if instant is None else instant.timestamp()


def _report(job: JobStanding) -> tuple[int, int, int]:
    last = job.summary.last
    report = None if last is None else report_of(last)
    return (0, 0, 0) if report is None else (report.seen, report.changed, len(report.failures))
