"""Reading and writing the files of commands: tables, and files that are whole or not there.

Owns encodings, delimiters and temporary names; knows neither addresses nor the database.
"""
