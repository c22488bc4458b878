"""The ground floor: the tables that migrations make, and the command line that makes them.

`catalog` reads what PostgreSQL says is there, `scene` sets up what a test needs; what a storage
does with the tables is in `tests.contract`.
"""
