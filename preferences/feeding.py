"""The ledger, entry by entry, to those who follow it."""
