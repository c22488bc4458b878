"""What is decided on a caller's behalf: one file for each noun, and the `call` they all take.

Here: may this caller do it, does the state allow it, what changes, and the audit event inside the
same transaction. Never here: GraphQL, HTTP, SQL.
Who may call: `graphql` and `oauth`, with records and plain values.
"""
