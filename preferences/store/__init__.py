"""The only place that knows SQL. Everything else asks it by name."""
