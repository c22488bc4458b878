"""A worker process as `python -m workers` makes it, for whom others need not wait a whole minute
when it is killed: `python -m tests.workers.hasty SECONDS`."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from db import log
from db.settings import StorageSettings
from workers.main import serve

if __name__ == "__main__":
    log.configure()
    asyncio.run(serve(StorageSettings.load(), lease=timedelta(seconds=float(sys.argv[1]))))
