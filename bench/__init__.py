"""How fast it is, as ratios within one run: each figure beside a peer's or a limit's.

Every file here is a program (`python -m bench.purge`) that starts the servers it needs, prints its
table and exits with 1 when a bar is missed. Nothing here is a test, and no test asserts a time.
"""
