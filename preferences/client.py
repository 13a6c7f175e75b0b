"""A client for sending systems."""
