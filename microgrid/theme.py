"""The colours of what the package shows, for light and for dark paper.

A colour has one name and one value per theme. Blue is a positive gradient and orange a negative one:
the pair that people with any common colour blindness tell apart. Size is lightness, equal for both, so it
survives greyscale; there the sign is still read from the number and from dashed lines. What is not a number
is yellow, and its lines are dotted.
"""

import math
from collections.abc import Iterable

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "muted": "#656d77",
    "line": "#8c959f",
    "faint": "#d0d7de",
    "operation": "#f6f8fa",
    "input": "#fffefb",
    "parameter": "#f4f0fd",
    "parameter line": "#7a5bc7",
    "badge": "#e7ebf0",
    "output": "#24292f",
    "output text": "#fefefe",
    "mark": "#bf3989",
    "cluster": "#fafbfc",
    "inner cluster": "#f3f5f8",
    "positive 1": "#eaf3fc",
    "positive 2": "#cfe3f7",
    "positive 3": "#a6ccf0",
    "positive 4": "#7db5e8",
    "negative 1": "#fdf0e6",
    "negative 2": "#fadcc3",
    "negative 3": "#f5bd8e",
    "negative 4": "#f0a05f",
    "positive text": "#0a549d",
    "negative text": "#954907",
    "positive line 1": "#a3c1df",
    "positive line 2": "#6a9fd2",
    "positive line 3": "#2f7bbf",
    "positive line 4": "#0b559f",
    "negative line 1": "#e6bb97",
    "negative line 2": "#d99156",
    "negative line 3": "#c26a22",
    "negative line 4": "#964a08",
    "undefined 4": "#f4e27a",
    "undefined text": "#6b5900",
    "undefined line 4": "#8a7400",
}

DARK = {
    "paper": "#0d1117",
    "ink": "#e6edf3",
    "muted": "#9aa4af",
    "line": "#6e7681",
    "faint": "#30363d",
    "operation": "#161b22",
    "input": "#10151c",
    "parameter": "#1f1a33",
    "parameter line": "#a78bfa",
    "badge": "#262d37",
    "output": "#dfe5ec",
    "output text": "#0c1016",
    "mark": "#f778ba",
    "cluster": "#11161d",
    "inner cluster": "#141a22",
    "positive 1": "#0f2238",
    "positive 2": "#143556",
    "positive 3": "#1a4b7a",
    "positive 4": "#20629f",
    "negative 1": "#2c1b0d",
    "negative 2": "#482a10",
    "negative 3": "#693c13",
    "negative 4": "#8c5019",
    "positive text": "#8cc5fd",
    "negative text": "#fdb579",
    "positive line 1": "#355f8a",
    "positive line 2": "#3f79b3",
    "positive line 3": "#5ea4e5",
    "positive line 4": "#8ec7ff",
    "negative line 1": "#7a4f2c",
    "negative line 2": "#a9682f",
    "negative line 3": "#e08c45",
    "negative line 4": "#ffb67a",
    "undefined 4": "#564a00",
    "undefined text": "#e3cc52",
    "undefined line 4": "#d6bd3a",
}

THEMES = {"light": LIGHT, "dark": DARK}

CURVES = {"training": "#0072b2", "validation": "#d55e00", "minibatch": "#b8c7d6", "grid": "#e6e6e6"}
"""The lines of a learning curve."""

FINDINGS = {
    "good": "#00735c",
    "bad": "#c2410c",
    "odd": "#6d28d9",
    "unknown": "#475569",
    "letters": "#ffffff",
    "stripe": "rgba(234,88,12,.14)",
    "line": "rgba(128,128,128,.35)",
    "quote": "rgba(128,128,128,.1)",
}
"""A report within a page, whose own paper and ink it takes: each colour can be read on light and on dark paper."""

HALO = "#ffd54a"
"""The glow around what a page is at."""

CLASSES = {
    "light": [
        "#964a08",
        "#0b559f",
        "#2b7a3d",
        "#7a5bc7",
        "#8a6d00",
        "#bf3989",
        "#3c7d86",
        "#656d77",
        "#1f2328",
        "#9a2c2c",
    ],
    "dark": [
        "#ffb67a",
        "#8ec7ff",
        "#7ccf93",
        "#b69cff",
        "#d9b93f",
        "#f778ba",
        "#6fc7d1",
        "#9aa4af",
        "#e6edf3",
        "#ff8f8f",
    ],
}
"""The colours of points, by class: the first two are those of negative and positive numbers."""


DARK_PAGES = (
    '[data-jp-theme-light="false"]',  # JupyterLab
    '[data-vscode-theme-kind="vscode-dark"]',
    '[data-vscode-theme-kind="vscode-high-contrast"]',
    '[data-theme="dark"]',  # documentation by Sphinx and others
    '[data-md-color-scheme="slate"]',  # Material for MkDocs
    '[theme="dark"]',  # Colab
)
"""The elements by which a page says that it is dark."""


def follow_page(svg_class: str) -> str:
    """Return the CSS that gives an SVG within a page no paper of its own, and dark colours where the page is dark.

    Shown by itself, or as an image, it cannot know the page: then it is light, on its own paper.
    """
    dark = f":is({','.join(DARK_PAGES)}) "
    return f".{svg_class}:not(:root) .graph>polygon{{fill:none}}{_darken(svg_class, dark)}"


def frame_height(frame_class: str, height: int) -> str:
    """Return the CSS of a frame that is a pixel higher where the page around it is dark.

    All that the page within may know of the one around is the room that it has; see ``dark_room``.
    """
    return f".{frame_class}{{height:{height}px}}:is({','.join(DARK_PAGES)}) .{frame_class}{{height:{height + 1}px}}"


def dark_room(height: int) -> str:
    """Return the media query for a viewer who prefers dark pages, or for such a frame in a dark page."""
    return f"(height:{height + 1}px),(prefers-color-scheme:dark) and (not (height:{height}px))"


def follow_viewer(svg_class: str) -> str:
    """Return the CSS that turns a light SVG dark for viewers who prefer it: for pages that follow them too."""
    return f"@media (prefers-color-scheme:dark){{{_darken(svg_class)}}}"


def _darken(svg_class: str, where: str = "") -> str:
    return "".join(
        f'{where}.{svg_class} [{attribute}="{LIGHT[name]}"]{{{attribute}:{DARK[name]}}}'
        for name in LIGHT
        for attribute in ("fill", "stroke")
    )


def largest(numbers: Iterable[float]) -> float:
    """Return the largest size of a finite number, 0 if there is none."""
    return max((abs(n) for n in numbers if math.isfinite(n)), default=0.0)


def sign_and_level(number: float, largest: float) -> tuple[str, int]:
    """Return the name of a number's colour, and how strong it is: 0 for nothing, 4 for near the largest."""
    if number != number:
        return "undefined", 4
    size = abs(number)
    if not size:
        level = 0
    elif not size < largest * 0.5:  # infinity too
        level = 4
    else:
        level = 3 if size >= largest * 0.1 else 2 if size >= largest * 0.01 else 1
    return "negative" if number < 0 else "positive", level
