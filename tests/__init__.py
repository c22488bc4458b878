"""What is promised, as sentences that can fail.

The rooms mirror those of `db`, `gateway` and `workers`; beside them stand `contract` (one suite
for both backends), `journeys` (over real HTTP), `faults` (servers killed on purpose), `house`
(the layers, the schema, the words in step) and `servers`, which are real.

Never here: a mock of our own code, a sleep, a test that is skipped. A missing server fails.
"""
