"""What time does.

Here live the jobs, one file each, and the list of them with their schedules and reasons (`jobs`).
A job takes no input but the instant, is idempotent, and reports what it did. Each is a row that
waits in storage: `reconcile` finds what is due, a `crew` runs it row by row (`run`, `heartbeat`),
in a worker process (`main`) or inside a gateway that is alone (`inline`). Whoever has queued a row
rings at `queue`; arq carries the bell and nothing more.

Never here: a decision for a caller. This package imports `db`, and never `gateway`.
"""
