"""What the site's pages need while they are built: their code is run and its results are shown.

The blocks marked ``python`` of a page share one namespace, as the cells of a notebook do. What a block prints, and
the value of its last expression, stand below it, as a picture or a live page where it has one. A block that raises
stops the build, so every block of the site runs. Live pages become files of their own, loaded when they are seen.
"""

import contextlib
import html
import io
import os
import re
import shutil
import tarfile
import tempfile
import traceback
import zipfile
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import operations
import show
from hypothesis import HealthCheck, settings
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

settings.register_profile("docs", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("docs")  # a busy machine stops no build

ROOT = "@root@"
LIVE = re.compile(r'srcdoc="([^"]*)"')
live: dict[str, str] = {}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Sessions(Extension, Preprocessor):
    """A session of Python, as docstrings have it, is code; Markdown takes >>> for quotations in quotations."""

    def extendMarkdown(self, md: Any) -> None:  # noqa: N802 - Markdown's name
        """Run before code in fences is found."""
        md.preprocessors.register(self, "sessions", 28)

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with a fence around each session, which an empty line ends."""
        return re.sub(r"(?m)^(>>> (?:.*\S.*\n?)+)", r"``` pycon\n\1\n```\n", "\n".join(lines)).split("\n")


def on_config(config: Any, **_: Any) -> None:
    """Let docstrings show their sessions."""
    config["markdown_extensions"].append(Sessions())


@event_priority(100)  # before the plug-in that makes pages of them
def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Let the notebooks be pages: they are stored with their outputs."""
    root = Path(config.docs_dir).parent
    for path in sorted(root.glob("notebooks/*.ipynb")):
        files.append(File(str(path.relative_to(root)), str(root), config.site_dir, use_directory_urls=False))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Run the blocks of a page in order, in a folder of their own; put below each what it shows."""
    markdown = markdown.replace("<!-- operations -->", operations.table())
    markdown = markdown.replace("<!-- micrograd -->", of_readme("| | micrograd"))
    names: dict[str, Any] = {"__name__": "__main__"}
    place = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(lambda block: f"{block[0]}\n\n{shown(block[1], names, page.file.src_uri)}\n", markdown)
        finally:
            os.chdir(place)


def of_readme(begin: str) -> str:
    """Return the table of the README that begins so, without its links."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", begin + text.partition(begin)[2].partition("\n\n")[0])


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Let what a page names lie where the page sees it; a notebook names the sources of other pages."""
    html = re.sub(r'href="\.\./docs/([^"#]+)\.md', r'href="../\1.html', html) if "notebooks/" in page.url else html
    return html.replace(ROOT, "../" * page.url.count("/"))


def shown(source: str, names: dict[str, Any], where: str) -> str:
    """Return what a block prints and its last expression's value, as HTML."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            value = show.run(source, names, where)
        except Exception as error:
            error.add_note(f"in this block of {where}:\n{source}")
            traceback.print_exc()
            raise
    text = html.escape(printed.getvalue())
    parts = [f'<pre class="result">{text}</pre>'] if text else []
    if value is not None:
        report = show.picture(value).replace('class="microgrid-report"', 'class="microgrid-report" tabindex="0"')
        report = report.replace("<table>", '<table class="report">')  # the theme wraps those that have no class
        parts.append(f'<div class="result">{LIVE.sub(apart, report)}</div>')
    return "\n".join(parts)


def apart(frame: re.Match[str]) -> str:
    """Keep what stands in a frame as a file of the site, and let the frame name it."""
    name = f"live/{len(live)}.html"
    live[name] = html.unescape(frame[1])
    return f'src="{ROOT}{name}" loading="lazy"'


def on_post_build(config: Any, **_: Any) -> None:
    """Write the live pages, and what the page that runs Python is made of."""
    for name, page in live.items():
        path = Path(config.site_dir, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    browser(Path(config.docs_dir, "try"), Path(config.site_dir, "try"))


PYODIDE = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
NOT_NEEDED = {"tests", "f2py", "distutils", "_simd"}  # of NumPy
PACKAGES = ("rich", "markdown_it", "mdurl", "pygments")  # that reports in text are written with


def browser(source: Path, target: Path) -> None:
    """Put beside the page: Pyodide, NumPy and Graphviz, all as WebAssembly, and the Python files of microgrid."""
    modules = source / "node_modules"
    if not modules.is_dir():
        raise FileNotFoundError(f"{modules} is missing; run: npm ci --prefix {source}")
    for folder, files in (("pyodide", PYODIDE), ("@viz-js/viz/dist", ("viz.js",))):
        place = target / folder.removeprefix("@viz-js/").removesuffix("/dist")
        place.mkdir(exist_ok=True)
        for file in files:
            shutil.copy(modules / folder / file, place)
    with zipfile.ZipFile(target / "python.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("microgrid", *PACKAGES):
            root = Path(str(import_module(package).__file__)).parent
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
                    archive.write(path, path.relative_to(root.parent))
        archive.write(source.parent / "show.py", "show.py")
    (packed,) = (modules / "@emscripten-forge/numpy/pkg").glob("*.tar.gz")
    with tarfile.open(packed) as numpy, zipfile.ZipFile(target / "numpy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in numpy:
            path = PurePosixPath(member.name.rpartition("site-packages/")[2])
            names = {*path.parts, path.name.partition(".")[0]}
            if path.parts[:1] == ("numpy",) and path.suffix in (".py", ".so") and not names & NOT_NEEDED:
                archive.writestr(str(path), numpy.extractfile(member).read())
