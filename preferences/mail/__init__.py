"""Email of our own: the outbox, its messages and the mail server."""
