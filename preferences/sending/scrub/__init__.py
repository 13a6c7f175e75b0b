"""A file of addresses, sorted into those who may be written to and those who may not.

`run` sorts a file of any size, `annotate` a small one; `rows` and `table` know rows. Invariant: the answer for a row is
the one that `sending.decide` gives without reservations.
"""
