"""Calls of sending systems: decisions, links, suppressions, scrubs, explanations."""
