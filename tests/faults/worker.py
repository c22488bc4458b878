"""`python -m tests.faults.worker`: a worker for whom others wait two seconds once it is gone."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from db import log
from db.settings import StorageSettings
from workers.main import serve

LEASE = timedelta(seconds=2)

if __name__ == "__main__":
    log.configure()
    asyncio.run(serve(StorageSettings.load(), lease=LEASE))
