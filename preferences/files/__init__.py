"""Reading and writing the files of commands: tables, and files that are whole or not there.

Owns encodings, delimiters, headers and temporary names; knows nothing of the database.
"""
