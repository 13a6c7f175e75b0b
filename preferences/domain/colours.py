"""A readable text colour for emails, which cannot compute it in CSS.

Invariant: contrast is at least 4.5 to 1, which black or white always reaches. Source: WCAG 2.2, "relative luminance"
and "contrast ratio".
"""

from __future__ import annotations

from typing import Final

BLACK: Final = "#000000"
WHITE: Final = "#ffffff"


def luminance(colour: str) -> float:
    """From 0 for black to 1 for white."""
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, other: str) -> float:
    """From 1 to 21."""
    darker, lighter = sorted((luminance(colour), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(colour: str) -> str:
    """Black or white, whichever contrasts more."""
    return WHITE if contrast(colour, WHITE) >= contrast(colour, BLACK) else BLACK
