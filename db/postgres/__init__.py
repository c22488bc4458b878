"""The storage contract on PostgreSQL, noun by noun as in `db.memory`.

Here live the engine and its one hook that names a tenant's tables (`engine`), how a statement
meets a connection (`connections`) and what its failures mean (`faults`), rows as records (`rows`),
lists in SQL (`listing`), a reader and a store for each noun, and the door to them (`storage`).
Beside them is what `db.migrations` works with: `owner` `chains` `steps` `partitions` `roles`.

Never here: a rule about who may do what, a row that leaves as anything but a record, an error of
the driver's that leaves at all.
Who may call: `db.backends` and `db.migrations`.
"""
