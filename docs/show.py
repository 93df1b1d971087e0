"""Run Python as a notebook's cell does: what it prints, then its last expression as a picture, a page or text.

The site is built with it, and its page that runs Python in the browser has it, too.
"""

import ast
import html
import importlib
import sys
from collections.abc import Callable
from typing import Any


def run(source: str, names: dict[str, Any], where: str = "<page>") -> Any:
    """Run a block; return the value of its last line if that is an expression, else ``None``."""
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names) if isinstance(last, ast.Expr) else None


def picture(value: Any) -> str:
    """Return a value as HTML: its page, its picture, else its text."""
    bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else None
    page = value._repr_html_() if hasattr(value, "_repr_html_") else (bundle or {}).get("text/html")
    drawn = page or (bundle or {}).get("image/svg+xml")
    return str(drawn) if drawn else f"<pre>{html.escape(repr(value))}</pre>"


def begin(draw: Callable[[str, str, str], str]) -> Callable[[str], str]:
    """Let microgrid draw by a function of the page; return what runs a block and gives its value as HTML."""
    from microgrid.drawing import rendering

    rendering.draw_here = lambda dot, kind, placed: draw(dot, kind, "nop2" if placed else "dot").encode()
    names: dict[str, Any] = {"__name__": "__main__"}

    def cell(source: str) -> str:
        value = run(source, names)
        return "" if value is None else picture(value)

    return cell


def fetch_when_imported(package: str, unpack: Callable[[], None]) -> None:
    """Call a function before a package is imported for the first time."""

    class Finder:
        """Finds nothing, but lets the package be found."""

        def find_spec(self, name: str, *_: Any) -> None:
            """Fetch the package."""
            if name == package:
                sys.meta_path.remove(self)
                unpack()
                importlib.invalidate_caches()

    sys.meta_path.insert(0, Finder())
