"""OAuth 2.0 as plain HTTP, under `/t/{tenant}/`.

Here: how a request is written (`forms`, `proof`), how an answer is (`errors`, `metadata`), and the
five endpoints over the services that GraphQL uses too (`endpoints`). RFC 6749, 6750, 7009, 7662,
8414 and 8707, to the letter.
Never here: a decision. Whether a client, a scope or a token is good is for `services` to say.
Who may call: `gateway/app.py`.
"""
