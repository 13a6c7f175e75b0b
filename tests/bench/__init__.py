"""The benchmark: `make bench`. It prints and writes no files, and no figure makes it fail."""
