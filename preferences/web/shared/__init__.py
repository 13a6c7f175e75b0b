"""Shared by several areas: rendering, forms, limits, errors."""
