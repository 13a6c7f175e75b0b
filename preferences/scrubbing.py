"""A file of addresses, sorted into those who may be written to and those who may not."""
