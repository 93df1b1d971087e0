"""Any text as Graphviz's HTML-like labels, which no label of a user can break."""

import math
from collections.abc import Iterable

from microgrid.drawing.text import columns, printable

SANS, MONO = "Helvetica", "Courier"  # the two families whose widths every Graphviz knows
SIZE = 13.0  # points
LABEL_COLUMNS, TITLE_COLUMNS, LABEL_LINES = 40, 100, 4  # longer texts are cut; the tooltip has them whole
PLAIN_SYMBOLS = {"⌊x⌋": "floor", "⌈x⌉": "ceil", "∛": "³√"}
"""Symbols that the fonts of graphviz-pure lack, in letters that they have."""


def heading(title: str, notes: Iterable[str], color: dict[str, str]) -> str:
    """Return the attribute that puts a title over a picture, and smaller lines under it."""
    table = heading_table(title, notes, color)
    return f"label=<{table}>" if table else ""


def heading_table(title: str, notes: Iterable[str], color: dict[str, str]) -> str:
    """Return a title, and smaller lines under it, as an HTML-like table; nothing if there is neither."""
    rows = [f"<B>{markup(title, limit=TITLE_COLUMNS)}</B>"] if title else []
    rows += [f'<FONT COLOR="{color["muted"]}" POINT-SIZE="{SIZE - 2:g}">{escape(note)}</FONT>' for note in notes]
    table = "".join(f"<TR><TD>{row}</TD></TR>" for row in rows)
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2">{table}</TABLE>'
    return f'<FONT POINT-SIZE="{SIZE + 3:g}">{table}</FONT>' if rows else ""


def _lines(label: str, limit: int = LABEL_COLUMNS) -> list[str]:
    lines = label.splitlines() or [""]
    if len(lines) > LABEL_LINES:
        lines = [*lines[: LABEL_LINES - 1], "…"]
    return [printable(line if columns(line) <= limit else _cut(line, limit)) for line in lines]


def _cut(line: str, limit: int) -> str:
    line = line[:limit]
    while columns(line) >= limit:
        line = line[:-1]
    return line + "…"


def label_width(label: str) -> int:
    """Return the least width in points of a cell with this text, because Graphviz measures Korean too narrow."""
    return math.ceil(max(columns(line) for line in _lines(label)) * SIZE * 0.54) + 6


def markup(text: str, align: str = "LEFT", limit: int = LABEL_COLUMNS) -> str:
    """Return any text for an HTML-like label: its lines, escaped."""
    lines = [escape(line) or " " for line in _lines(text, limit)]
    return lines[0] if len(lines) == 1 else "".join(f'{line}<BR ALIGN="{align}"/>' for line in lines)


def escape(text: str) -> str:
    """Escape for an HTML-like label, where a backslash and an N would be the name of the node."""
    # Graphviz 2.43 refuses a text that is "]" alone: its XML parser waits for "]]>".
    return "".join([ESCAPES.get(character, character) for character in text])


ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\\": "\\\\", "]": "&#93;"}
