"""What is true.

Here live the nouns (`records`), what may be said of them (`grammar`), the names of things
(`namespace`), the storage contract in prose (`contract`) and the two backends that keep it
(`memory`, `postgres`), the one path that makes tables (`migrations`), and the rule that makes a
revocation stick (`revocations`).

Never here: who is asking, what they may do, HTTP, GraphQL, a schedule.
Who may call: `gateway`, `workers`, `alembic/env.py`. This package imports none of ours.
"""
