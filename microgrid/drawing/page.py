"""A self-contained page: one file with a slider, which makes no request."""

import base64
import html
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from microgrid.atomic import write_file
from microgrid.drawing.naming import heading_text, one_of
from microgrid.drawing.text import printable
from microgrid.theme import CLASSES, HALO, LIGHT, THEMES, dark_room, follow_viewer, frame_height

_NO_SCRIPTS = "This browser runs no scripts: to play this page, open it in one that does. This is its picture."
_ONLY_STILL = "body{display:block;overflow:auto}header,main{display:none}noscript img{max-width:100%}"

FRAME_HEIGHT = 683  # of the page within a notebook; no usual window is so high (see ``dark_room``)


SvgText = tuple[int, int, int, str, str]
"""A line of text: x, y, the size, the name of the colour, and the text."""


class Page(ABC):
    """A page that Jupyter and marimo show, and ``save`` writes.

    Args:
        title: the heading.
        theme: ``"light"``, ``"dark"``, or ``"auto"`` to follow the viewer.

    Raises:
        ValueError: for an unknown theme.
        TypeError: if the title is not text.
    """

    def __init__(self, title: str, theme: str) -> None:
        one_of("theme", theme, ("auto", *THEMES))
        self._title = printable(" ".join(heading_text(title).split()))
        self._theme = theme

    @property
    @abstractmethod
    def html(self) -> str:
        """The page as text."""

    @abstractmethod
    def _still(self) -> str:
        """Return the picture, as SVG, for viewers that run no scripts."""

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, whole or not at all, and return its path.

        Raises:
            ValueError: if the name does not end in ``.html``.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"the {type(self).__name__.lower()} is a page: end the name {str(path)!r} in .html; "
                "draw(y).save() writes other formats"
            )
        write_file(path, self.html.encode())
        return path

    def _repr_html_(self) -> str | None:
        """The page in a frame of its own, with the picture behind it for viewers that run no scripts.

        The picture is hidden by a style sheet. Where a notebook is not trusted, Jupyter removes style sheet
        and frame together, and the picture is left.
        """
        return (
            f"<style>.microgrid-still{{display:none!important}}{frame_height('microgrid-page', FRAME_HEIGHT)}</style>"
            f'<div class="microgrid-still">{self._image()}</div>'
            f'<iframe class="microgrid-page" title="{html.escape(self._title)}" '
            f'sandbox="allow-scripts" width="100%" height="{FRAME_HEIGHT}" '
            f'style="border:0;display:block" srcdoc="{html.escape(self.html)}"></iframe>'
        )

    def _image(self) -> str:
        """Return the picture as an element that brings its own style sheet."""
        picture = base64.b64encode(self._still().encode()).decode()
        return f'<img alt="{html.escape(self._title)}" src="data:image/svg+xml;base64,{picture}">'

    def _fill(
        self,
        assets: Sequence[str],
        data: dict[str, Any],
        functions: Sequence[str],
        ends: tuple[str, str] = ("", ""),
        header: str = "playback.html",
    ) -> str:
        """Put together the parts shared by all pages, the assets of one, the data and the functions of operations.

        Args:
            assets: the names of its files: the ``.js`` in the order in which they run, the ``.css`` and ``.html``.
            data: the content of ``page`` for the scripts, besides the title.
            functions: statements that fill ``operations``, each a separate script, so that a malformed one leaves
                the others whole.
            ends: the texts under the two ends of the slider.
            header: the name of the file with the controls beside the title.
        """

        def of_kind(suffix: str) -> list[str]:
            return [_asset(name) for name in assets if name.endswith(suffix)]

        functions = ["const operations = [];", *functions]
        scripts = [_asset("numbers.js"), *functions, _asset("page.js"), *of_kind(".js")]
        # In code, a space inside "</" or "<!--" changes nothing, and keeps HTML from seeing a tag there.
        scripts = [text.replace("</", "< /").replace("<!--", "< !--") for text in scripts]
        style = _palette(self._theme) + "".join([_asset("page.css"), *of_kind(".css")])
        content = {
            "title": html.escape(self._title),
            "policy": (
                "default-src 'none'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
                f"style-src {_hashes([style, _ONLY_STILL])}; script-src {_hashes(scripts)}"
            ),
            "style": style,
            "still": f"<noscript><style>{_ONLY_STILL}</style><p>{_NO_SCRIPTS}</p>{self._image()}</noscript>\n",
            "begin": html.escape(ends[0]),
            "end": html.escape(ends[1]),
            "main": "".join(of_kind(".html")),
            "data": _json({"title": self._title, **data}),
            "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        }

        def fill(template: str) -> str:  # in one pass: what is put in is never looked at again, whatever a label says
            return re.sub(r"\{\{(\w+)\}\}", lambda match: content[match[1]], template)

        content["header"] = fill(_asset(header))
        return fill(_asset("page.html"))


def svg(width: int, height: int, theme: str, content: Iterable[str], texts: Iterable[SvgText]) -> str:
    """Return the picture of a page that has no graph: its paper, the elements on it, and lines of text.

    Args:
        width: in pixels.
        height: the same.
        theme: that of the page.
        content: elements.
        texts: each with its place, its size and the name of its colour.
    """
    color = THEMES.get(theme, LIGHT)
    name = "microgrid-still-picture"
    style = f"<style>{follow_viewer(name)}</style>" if theme == "auto" else ""
    written = [
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{color[ink]}">{html.escape(printable(text))}</text>'
        for x, y, size, ink, text in texts
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" class="{name}" '
        f'font-family="Helvetica,Arial,sans-serif">{style}'
        f'<rect width="{width}" height="{height}" fill="{color["paper"]}"/>{"".join([*content, *written])}</svg>'
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that no HTML parser reads as a tag, and no JavaScript parser as the end of a line."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hashes(texts: list[str]) -> str:
    """The sources of a Content-Security-Policy: exactly these scripts or styles, none that a label smuggles in."""
    return " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts)


def _palette(theme: str) -> str:
    """The colours of all pictures as CSS variables, ``--positive-line-4``, ``--class-0``."""

    def variables(name: str) -> str:
        named = {**THEMES[name], "halo": HALO, **{f"class {i}": color for i, color in enumerate(CLASSES[name])}}
        colors = "".join(f"--{key.replace(' ', '-')}:{value};" for key, value in named.items())
        return f":root{{color-scheme:{name};{colors}}}"

    if theme in THEMES:
        return variables(theme)
    return f"{variables('light')}@media {dark_room(FRAME_HEIGHT)}{{{variables('dark')}}}"
