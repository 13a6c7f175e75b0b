"""A preference center: the one place that knows who may be sent what."""
