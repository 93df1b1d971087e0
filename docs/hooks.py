"""What the site's pages need while they are built: their code is run and its results are shown.

The blocks marked ``python`` of a page share one namespace, as the cells of a notebook do. What a block prints, and
the value of its last expression, stand below it, as a picture or a live page where it has one. A block that raises
stops the build, so every block of the site runs. Live pages become files of their own, loaded when they are seen.
"""

import ast
import contextlib
import html
import io
import os
import re
import tempfile
import traceback
from pathlib import Path
from typing import Any

import operations
from hypothesis import HealthCheck, settings

settings.register_profile("docs", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("docs")  # a busy machine stops no build

ROOT = "@root@"
LIVE = re.compile(r'srcdoc="([^"]*)"')
live: dict[str, str] = {}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Run the blocks of a page in order, in a folder of their own; put below each what it shows."""
    markdown = markdown.replace("<!-- operations -->", operations.table())
    names: dict[str, Any] = {"__name__": "__main__"}
    place = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(lambda block: f"{block[0]}\n\n{shown(block[1], names, page.file.src_uri)}\n", markdown)
        finally:
            os.chdir(place)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Let what a page names lie where the page sees it."""
    return html.replace(ROOT, "../" * page.url.count("/"))


def shown(source: str, names: dict[str, Any], where: str) -> str:
    """Return what a block prints and its last expression's value, as HTML."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(tree, where, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), where, "eval"), names)
        except Exception as error:
            error.add_note(f"in this block of {where}:\n{source}")
            traceback.print_exc()
            raise
    text = html.escape(printed.getvalue())
    parts = [f'<pre class="result">{text}</pre>'] if text else []
    if value is not None:
        parts.append(f'<div class="result">{picture(value)}</div>')
    return "\n".join(parts)


def picture(value: Any) -> str:
    """Return a value as a notebook shows it: a page, a picture, else its text."""
    bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else {}
    page = value._repr_html_() if hasattr(value, "_repr_html_") else bundle.get("text/html")
    if page:
        return LIVE.sub(apart, page)
    return str(bundle["image/svg+xml"]) if "image/svg+xml" in bundle else f"<pre>{html.escape(repr(value))}</pre>"


def apart(frame: re.Match[str]) -> str:
    """Keep what stands in a frame as a file of the site, and let the frame name it."""
    name = f"live/{len(live)}.html"
    live[name] = html.unescape(frame[1])
    return f'src="{ROOT}{name}" loading="lazy"'


def on_post_build(config: Any, **_: Any) -> None:
    """Write the live pages."""
    for name, page in live.items():
        path = Path(config.site_dir, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
