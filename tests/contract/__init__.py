"""Our calls held against the vendors' own API descriptions."""
