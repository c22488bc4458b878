"""The storage contract, sentence by sentence, on both backends.

Here live one file of sentences for each noun, those on units and on isolation, and the machine
that drives both backends side by side. `cast` makes the rows that act, `paging` holds any list to
the rules of pages.

Never here: a backend's name outside `conftest` and the machine, a test that one of them may skip.
"""
