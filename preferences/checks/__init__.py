"""Checks of installations, sites and mails."""
