"""Rules, and nothing else: no clock, no input or output, no framework.

Everything here can be read aloud to a lawyer and run in a loop a million times. What needs the time is given it.
"""
