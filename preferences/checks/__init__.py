"""Checks of an installation, of a live site and of a mail."""
