"""`python -m workers` runs a worker; `python -m workers check` asks whether one is alive."""

from __future__ import annotations

import argparse
import asyncio
import sys

from redis.exceptions import RedisError

from db import log
from db.errors import AgentIdPError
from db.settings import StorageSettings
from workers.main import is_healthy, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "check"], default="run")
    command = parser.parse_args().command
    try:
        settings = StorageSettings.load()
        if command == "check":
            if asyncio.run(is_healthy(settings)):
                return 0
            print("workers: no worker has been heard of lately", file=sys.stderr)
            return 1
        log.configure()
        asyncio.run(serve(settings))
    except AgentIdPError as error:
        print(f"workers: {error.message}", file=sys.stderr)
        return 1
    except (RedisError, OSError) as error:
        # The address may hold a password: the kind says enough.
        print(f"workers: Redis does not answer ({type(error).__name__})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
