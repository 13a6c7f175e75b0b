"""Pages for recipients who are not signed in."""
