"""A picture: DOT text that becomes SVG, PNG, PDF or a page on demand."""

import base64
import html
import os
import re
import sys
import warnings
from collections.abc import Callable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from microgrid.atomic import write_file
from microgrid.drawing.placing import DRAW_AS_PLACED, Drawing
from microgrid.drawing.rendering import HERE, find_renderer, render
from microgrid.drawing.text import printable
from microgrid.environment import missing, require
from microgrid.theme import THEMES, follow_page, follow_viewer

FOREIGN = re.compile("[\u0590-\u1dff\u2400-\u243f\u2e80-\uffff\U00010000-\U0010ffff]")
"""Letters that the fonts inside graphviz-pure lack."""

KOREAN_FONT = {"darwin": "Apple SD Gothic Neo", "win32": "Malgun Gothic"}.get(sys.platform, "Noto Sans CJK KR")

READABLE = 0.6  # of its own size, to which a picture may shrink in a narrow column

SCALE = 2.0  # pixels of a PNG to a point: sharp on a projector


class Picture:
    """A drawn graph. Jupyter shows it; ``save`` writes it; ``str`` is its DOT text.

    >>> isinstance(mg.draw(mg.Value(2.0) * 3.0), mg.Picture)
    True

    Attributes:
        dot: the picture as DOT text, Graphviz's language.
        drawing: the picture of a graph, box by box; ``None`` for anything else.
    """

    def __init__(
        self,
        dot: str,
        tooltips: dict[str, str],
        *,
        title: str,
        theme: str,
        renderer: str | None,
        scale: float = SCALE,
        drawing: Drawing | None = None,
    ) -> None:
        self.dot = dot
        self.drawing = drawing
        self._dpi = 72 * scale
        self._tooltips = tooltips
        self._title = title
        self._theme = theme
        self._renderer = renderer

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text. With ``theme="auto"`` it is dark in a dark page, light on its own."""
        return _finish(self._graphviz_svg, self._title or "computation graph", self._tooltips, self._theme)

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG, on light paper unless ``theme="dark"``.

        The fonts inside ``graphviz-pure`` have no Korean letters, nor Chinese or Japanese ones, nor emoji.
        CairoSVG, if installed, draws such labels with the fonts of the system; if not, they are boxes, and a
        warning says so. SVG and HTML need neither.
        """
        if self._needs_fonts:
            if find_spec("cairosvg"):
                return self._with_cairosvg("png", scale=self._dpi / 72)
            letters = "".join(dict.fromkeys(FOREIGN.findall(self.dot)))
            warnings.warn(
                f"the fonts inside graphviz-pure lack {letters:.20}: this PNG shows boxes for them. SVG and HTML show "
                f"them. {missing('PNG with them', 'cairosvg', extra='pdf')} (or install the system package graphviz)",
                stacklevel=2,
            )
        return self._render("png", f"-Gdpi={self._dpi:g}")

    @property
    def pdf(self) -> bytes:
        """The picture as PDF, on light paper unless ``theme="dark"``, through the optional package CairoSVG.

        Raises:
            ModuleNotFoundError: if it is not installed; the message says how to install it.
        """
        return self._with_cairosvg("pdf")

    @cached_property
    def _graphviz_svg(self) -> str:
        return self._render("svg").decode()

    @cached_property
    def _placed_dot(self) -> str:
        return self.drawing.placed(find_renderer(self._renderer)) if self.drawing else self.dot

    def _render(self, kind: str, *options: str) -> bytes:
        if self.drawing:
            options += DRAW_AS_PLACED
        return render(self._placed_dot, kind, find_renderer(self._renderer), *options)

    @property
    def _needs_fonts(self) -> bool:
        return bool(FOREIGN.search(self.dot)) and Path(find_renderer(self._renderer)).stem == "graphviz-pure"

    def _with_cairosvg(self, kind: str, **options: float) -> bytes:
        try:
            cairosvg = require("cairosvg", f"{kind.upper()} (unlike SVG and HTML)", "pdf")
        except OSError as error:
            raise ModuleNotFoundError(
                f"{kind.upper()} needs the system library cairo, which CairoSVG does not find ({error}); "
                "SVG and HTML need nothing more"
            ) from error
        # Cairo takes one font for a text and looks for letters in no other.
        svg = re.sub(
            r'(<text[^>]*font-family=")[^"]*("[^>]*>)(?=[^<]*' + FOREIGN.pattern + ")",
            rf"\g<1>{KOREAN_FONT}\g<2>",
            self._graphviz_svg,
        )
        data: bytes = getattr(cairosvg, f"svg2{kind}")(bytestring=svg.encode(), **options)
        return data

    @property
    def html(self) -> str:
        """The picture as a self-contained page."""
        title = html.escape(printable(self._title or "computation graph"))
        paper = {name: colors["paper"] for name, colors in THEMES.items()}
        light, dark = (paper[self._theme],) * 2 if self._theme in paper else (paper["light"], paper["dark"])
        follow = follow_viewer(_svg_class(self._theme)) if self._theme == "auto" else ""
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width"><style>'
            f"body{{margin:0;background:{light};text-align:center}}"
            f"@media (prefers-color-scheme:dark){{body{{background:{dark}}}}}{follow}"
            f"</style></head><body>\n{self.svg}</body></html>\n"
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file, whole or not at all, and return its path.

        Args:
            path: its suffix says the format: ``.svg``, ``.png``, ``.pdf``, ``.html``, ``.dot``.

        Raises:
            ValueError: for another suffix.
            OSError: if the file cannot be written.
            RendererError: if no renderer is installed, or it fails.
            ModuleNotFoundError: for ``.pdf`` without CairoSVG.
        """
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in FORMATS:
            *others, last = [f".{name}" for name in FORMATS]
            known = f"{', '.join(others)} or {last}"
            raise ValueError(f"cannot tell the format of a picture from {str(path)!r}: end the name in {known}")
        content = FORMATS[kind](self)
        write_file(path, content.encode() if isinstance(content, str) else content)
        return path

    def __str__(self) -> str:
        """The DOT text; letters that ``sys.stdout`` lacks are entities such as ``&#8722;``."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        return self.dot.encode(encoding, "xmlcharrefreplace").decode(encoding)

    def __repr__(self) -> str:
        return f"<Picture{f' {self._title!r}' if self._title else ''}: .save('graph.svg'), .svg, .png, .dot>"

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """SVG, and PNG for viewers that show no SVG: an untrusted notebook, some web pages.

        The PNG has one pixel for each of the page's, whatever the picture's scale, so that notebooks stay small.
        """
        bundle = {"image/svg+xml": self.svg, "text/plain": repr(self)}
        if find_renderer(self._renderer) != HERE and not self._needs_fonts:
            bundle["image/png"] = base64.b64encode(self._render("png", "-Gdpi=96")).decode()
        return bundle


FORMATS: dict[str, Callable[[Picture], str | bytes]] = {
    "svg": lambda picture: picture.svg,
    "png": lambda picture: picture.png,
    "pdf": lambda picture: picture.pdf,
    "html": lambda picture: picture.html,
    "dot": lambda picture: picture.dot,
}
"""The file formats of pictures, by the suffix of the file."""


def _with_minus(text: str) -> str:
    opening, number = text.split(">")
    return f"{opening}>{re.sub('-|&#45;', '−', number)}"


def _svg_class(theme: str) -> str:
    return f"microgrid-{theme}"


def _finish(svg: str, title: str, tooltips: dict[str, str], theme: str) -> str:
    """Make Graphviz's SVG fit for a page: no prologue, sizes in pixels, names, fonts, dark mode."""
    svg = re.sub(r"<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(
        r'(<g id="([^"]*)"[^>]*>\s*<title>)[^<]*',
        lambda match: match[1] + html.escape(printable(tooltips.get(match[2], ""))),
        svg,
    )
    svg = re.sub(r'<text [^>]*font-family="Courier[^>]*>[^<]*', lambda match: _with_minus(match[0]), svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', opening)
    name = _svg_class(theme)
    style = (
        f'.{name} text{{font-family:Helvetica,Arial,"Liberation Sans","Apple SD Gothic Neo","Malgun Gothic",'
        '"Noto Sans KR","Noto Sans CJK KR",sans-serif}'
        f'.{name} text[font-family^="Courier"]{{font-family:"SF Mono",Menlo,"DejaVu Sans Mono","Liberation Mono",'
        "Courier,monospace}"
    )
    if theme == "auto":
        style += follow_page(name)
    label = html.escape(printable(title))
    # A picture wider than its column shrinks to it, as long as it stays readable.
    width = float(re.findall(r' width="([\d.]+)"', opening)[0])
    fit = f"max-width:max(100%,{READABLE * width:.0f}px);height:auto"
    attributes = f'class="{name}" role="img" aria-label="{label}" style="{fit}"'
    return f"{opening} {attributes}><style>{style}</style>{rest.rstrip()}\n"
