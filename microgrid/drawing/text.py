"""Numbers and labels as text: digits, widths, and printable characters."""

import math
import unicodedata
from collections.abc import Iterable, Sequence

Room = tuple[int, int]
"""Letters of a number before its decimal point, and from there on."""


def significant(number: float, digits: int = 4) -> str:
    """Return a number for a picture: ``digits`` significant digits, whole numbers in full, a true minus."""
    if not math.isfinite(number):
        text = str(number)
    elif number == int(number) and abs(number) < 1e6:
        text = str(int(number))
    else:
        text = f"{number:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", "−")


def typed(number: float) -> str:
    """Return a number with a typewriter's minus, whose width every Graphviz knows; an SVG gets the true one for it."""
    return significant(number).replace("−", "-")


def room_for(texts: Iterable[str], least: Room = (0, 0)) -> Room:
    """Return how many letters numbers have before their decimal points, and from there on."""
    parts = [text.partition(".") for text in texts]
    return (
        max([least[0], *[len(whole) for whole, _, _ in parts]]),
        max([least[1], *[len(point + fraction) for _, point, fraction in parts]]),
    )


def aligned(texts: Sequence[str], room: Room) -> list[str]:
    """Return numbers as texts of one width with aligned decimal points."""
    before, after = room
    parts = [text.partition(".") for text in texts]
    return [f"{whole:>{before}}{point + fraction:<{after}}" for whole, point, fraction in parts]


def printable(text: str) -> str:
    """Replace characters that XML cannot hold: control characters by their pictures, half characters by �."""
    return "".join(
        chr(0x2400 + ord(c)) if c < " " else "␡" if c == "\x7f" else "�" if _unprintable(c) else c for c in text
    )


def _unprintable(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs") or ord(c) & 0xFFFE == 0xFFFE


def columns(text: str) -> int:
    """Return how wide a text is, in half widths of a Korean letter."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
