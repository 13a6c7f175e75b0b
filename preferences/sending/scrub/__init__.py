"""Splits a file of addresses by decision: `run` for any size, `annotate` for small tables.

Invariant: decisions equal those of `sending.decide` without reservations.
"""
