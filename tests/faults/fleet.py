"""Several gateways and a worker, in processes of their own, all begun at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.gateway import KEY_ENCRYPTION_SECRET, OPERATOR_TOKEN
from tests.journeys.served import Served
from tests.servers.databases import Database
from tests.servers.process import end, launch, tail, wait_until

_ROOT = Path(__file__).parents[2]
# Of every process alike, or the one would not know the other's tokens.
_ISSUER = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Program:
    """What is run as `python -m module arguments` for each gateway."""

    module: str = "gateway"
    arguments: tuple[str, ...] = ()


REAL = Program()
# What PostgreSQL kept it from finishing is begun again soon, and not a minute later.
_WORKER = Program("tests.faults.worker")


@contextmanager
def fleet(
    folder: Path, database: Database, caches: Sequence[int], program: Program = REAL
) -> Iterator[list[Served]]:
    """Gateways that are ready, one for each port but the last in `caches`, where its own way to
    the cache begins; the last is the worker's. All of them still run when it is left."""
    stores = {"DATABASE_URL": database.app_url, "DATABASE_OWNER_URL": database.owner_url}
    *ways, of_worker = [f"redis://127.0.0.1:{port}/0" for port in caches]
    with ExitStack() as stack:
        served = [
            stack.enter_context(_gateway(folder, number, program, {**stores, "REDIS_URL": way}))
            for number, way in enumerate(ways)
        ]
        for each in served:
            wait_until(partial(_is_ready, each), each.process, each.output, "the gateway")
        worker = folder / "worker.log"
        process = stack.enter_context(_process(worker, _WORKER, {**stores, "REDIS_URL": of_worker}))
        yield served
        for ended, log in ((process, worker), *((each.process, each.output) for each in served)):
            assert ended.poll() is None, tail(log)


@contextmanager
def _gateway(
    folder: Path, number: int, program: Program, stores: dict[str, str]
) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **stores,
        "PORT": str(port),
        "PUBLIC_URL": _ISSUER,
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
        "KEY_ENCRYPTION_SECRET": KEY_ENCRYPTION_SECRET,
        "BCRYPT_COST": "10",
        # Every login here may come from an address of its own, and is not limited with the others.
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    output = folder / f"gateway-{number}.log"
    url = f"http://127.0.0.1:{port}"
    with (
        _process(output, program, environment) as process,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        yield Served(url, http, process, output)


@contextmanager
def _process(
    output: Path, program: Program, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as log:
        process = launch(
            [sys.executable, "-m", program.module, *program.arguments],
            output=log,
            environment=environment,
            folder=_ROOT,
        )
    try:
        yield process
    finally:
        end(process, signal.SIGTERM)


def _is_ready(served: Served) -> bool:
    try:
        return served.http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False
