"""Pages for signed-in contacts, and sign-in."""
