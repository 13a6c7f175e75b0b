"""Tables, archives and atomic writes. Knows nothing of the database."""
