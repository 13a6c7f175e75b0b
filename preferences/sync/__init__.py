"""Keeps providers in step with the ledger, and the ledger with what providers report."""
