"""`python -m gateway` serves; `python -m gateway schema` prints the GraphQL SDL."""

from __future__ import annotations

import argparse
import sys

import uvloop

from db import log
from db.errors import AgentIdPError
from gateway.graphql.schema import sdl
from gateway.server import serve
from gateway.settings import GatewaySettings
from gateway.wiring import started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "schema"], default="serve")
    if parser.parse_args().command == "schema":
        sys.stdout.write(sdl())
        return 0
    try:
        settings = GatewaySettings.load()
        log.configure()
        uvloop.run(_serve(settings))
    except AgentIdPError as error:
        print(f"gateway: {error.message}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: GatewaySettings) -> None:
    async with started(settings) as gateway:
        await serve(gateway)


if __name__ == "__main__":
    sys.exit(main())
