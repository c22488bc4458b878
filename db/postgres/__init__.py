"""The storage contract on PostgreSQL, noun by noun as in `db.memory`.

Here live the engine and its one hook that names a tenant's tables (`engine`), the translation of
the database's own faults (`faults`), and a reader and a store for each noun, in SQLAlchemy Core.

Never here: a rule about who may do what, a row that leaves as anything but a record, a table made
or changed (`db.migrations` does that).
Who may call: `db.backends` and `db.migrations`.
"""
