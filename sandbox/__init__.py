"""The sandbox: what surrounds a preference center, as small pretend versions of it.

Owns a pretend email platform with its own suppression list, a company that sends mail through it, and the mailboxes
of its customers. `make run` shows them as pages, the end-to-end tests use them in-process. Invariant: it knows the
preference center by HTTP alone, as a real platform would, and never imports it.
"""
