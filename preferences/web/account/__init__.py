"""Pages for contacts who are signed in, and the ways to sign in."""
