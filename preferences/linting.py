"""A mail, held against the rules for mail that people can leave."""
