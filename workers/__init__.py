"""What time does.

Here live the jobs, one file each, and the list of them with their schedules and reasons (`jobs`).
A job takes no input but the instant, is idempotent, and reports what it did; `main` hands it to
arq, which is the adapter and nothing more, so tests call the function.

Never here: a decision for a caller. This package imports `db`, and never `gateway`.
"""
