"""The text colour that is readable on a background, for email, where no style sheet can compute it.

Invariant: the contrast is 4.5 to 1 or more on every background, since black or white always reaches it. Source: WCAG
2.2, "relative luminance" and "contrast ratio".
"""

from __future__ import annotations

from typing import Final

BLACK: Final = "#000000"
WHITE: Final = "#ffffff"


def luminance(colour: str) -> float:
    """How light a colour such as `#0b57d0` is: 0 for black, 1 for white."""
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, other: str) -> float:
    """From 1, for the same colour, to 21, for black and white."""
    darker, lighter = sorted((luminance(colour), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(colour: str) -> str:
    """White or black: the one that is easier to read on this colour."""
    return WHITE if contrast(colour, WHITE) >= contrast(colour, BLACK) else BLACK
