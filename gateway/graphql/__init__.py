"""GraphQL at /graphql.

A request comes in through `controller`, is read (`requests`), its document is parsed, limited and
validated once (`documents`, `limits`), and run under a time limit (`execution`). The schema is put
together in `schema` from one file for each noun; who may ask for a field stands on the field and
is enforced there (`access`).

Never here: a rule about what a caller may change (`services`), SQL, OAuth.
Who may call: `app` mounts the controller; `python -m gateway schema` prints `schema.sdl()`.
"""
