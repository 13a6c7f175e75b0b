"""The rules, as pure functions: standard library only, no clock and no I/O. Callers pass the time."""
