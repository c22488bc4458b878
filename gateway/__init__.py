"""What is asked.

Here a caller is known (`auth`), a decision is taken on its behalf (`services`), and the answer is
given over GraphQL (`graphql`) or OAuth 2.0 (`oauth`). `wiring` puts the parts together.

Never here: a table, a Redis key, what happens because time passed.
Who may import whom: graphql and oauth → services → auth → db.
"""
