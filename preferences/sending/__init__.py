"""Calls of sending systems: decisions, reported acts, links, suppressions, scrubs, explanations."""
