"""Our own email."""
