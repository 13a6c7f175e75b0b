"""Keeps providers and the ledger in step."""
