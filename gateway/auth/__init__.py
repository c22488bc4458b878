"""Who is asking, and is that true.

Here live the kinds of caller (`principal`), the signing keys (`keys`; at rest in `vault`, all that
are known in `keyring`), access tokens (`tokens`; their form in `jws`, those seen in `accepted`),
client secrets (`secrets`), the rows of tenants that are remembered (`tenants`), and the two ways to
prove oneself: a bearer token (`authenticate`) and a client's own secret (`clients`).

Never here: what the caller may then do (`services`), how it was asked (`graphql`, `oauth`).
"""
