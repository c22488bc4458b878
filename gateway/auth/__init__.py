"""Who is asking, and is that true.

Here live the kinds of caller (`principal`), the signing keys (`keys`; at rest in `vault`, all that
are known in `keyring`), access tokens (`tokens`; their form in `jws`, those seen in `accepted`),
the rows of tenants that are remembered (`tenants`), and the ways to prove oneself: by a bearer
token (`authenticate`), by a client's secret (`clients`) and by a JWT of its own (`assertions`; read
before it is believed in `unproven`, its keys in `jwk`). Secrets are hashed in `secrets`, once each
as `verification` has it, anew as `upgrades` has it, and no more often than `attempts` lets them.

Never here: what the caller may then do (`services`), how it was asked (`graphql`, `oauth`).
"""
