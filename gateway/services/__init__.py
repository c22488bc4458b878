"""What is decided on a caller's behalf: one file for each noun, and the `call` they all take.

Here: may this caller do it, does the state allow it, what changes, and the audit event inside the
same transaction; `standing` asks inside it whether the caller may still act, and `profiles` checks
what is said of an agent. Never here: GraphQL, HTTP, SQL.
Who may call: `graphql` and `oauth`, with records and plain values.
"""
