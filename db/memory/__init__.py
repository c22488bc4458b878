"""The storage contract in one process: the default, and the model that PostgreSQL is held to.

Here live the tables of a tenant and of the registry as dictionaries and sorted lists (`rows`), the
turns that units take (`units`), the copies that keep what is stored apart from what is handed out
(`copies`), and a reader and a store for each noun, as in `db.postgres`.

Never here: a file, a thread, an eviction, a rule about who may do what. No method awaits while it
reads or commits, which is all that makes it atomic. What is stored ends with the process.
Who may call: `db.backends`.
"""
