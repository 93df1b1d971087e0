"""Graphviz: the program that lays a graph out, and its call.

The ``graphviz-pure`` wheel holds a program and no module, so it is found through the wheel's list of files.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from microgrid.environment import missing, require

VARIABLE = "MICROGRID_DOT"
"""The environment variable that names the program to use."""

TIME_LIMIT = 120.0
"""Seconds after which a layout is given up; layouts of thousands of nodes can take hours."""


HERE = "here"
draw_here: Callable[[str, str, bool], bytes] | None = None
"""The function that draws where no program can be run, as in a browser: it takes a DOT text, the format ``"svg"`` or
``"json0"``, and whether the text has all places."""


class RendererError(RuntimeError):
    """No program that draws graphs was found, or it failed."""


def find_renderer(choice: str | None = None) -> str:
    """Return the path of the Graphviz program that draws.

    It is the user's choice (the argument, else the environment variable ``MICROGRID_DOT``), else
    ``draw_here``, else a system ``dot``, else the program of the ``graphviz-pure`` package.

    Args:
        choice: a program's name or path; ``"graphviz-pure"`` for the package even if ``dot`` is there.

    Raises:
        RendererError: if there is none; the message says what to install.
    """
    choice = choice or os.environ.get(VARIABLE)
    if choice:
        found = shutil.which(choice) or (choice == "graphviz-pure" and _graphviz_pure())
        if not found:
            raise RendererError(
                f"the renderer {choice!r} is not a program that can be run; give the path of Graphviz's dot, "
                f"or leave the argument and {VARIABLE} away to use the one that is found"
            )
        return found
    if draw_here is not None:
        return HERE
    found = shutil.which("dot") or _graphviz_pure()
    if not found:
        raise RendererError(
            f"{missing('a picture', 'Graphviz', package='graphviz-pure')} (or the system package graphviz); "
            "without it, save('graph.dot') still works"
        )
    return found


def _graphviz_pure() -> str | None:
    try:
        files = distribution("graphviz-pure").files or []
    except PackageNotFoundError:
        return None
    for file in files:
        program = Path(file.locate())
        if file.stem == "graphviz-pure" and program.is_file():
            return str(program.resolve())
    return None


def lend_to_graphviz() -> None:
    """Let the package ``graphviz`` draw with graphviz-pure if there is no system ``dot``.

    Notebooks written for micrograd draw with that package, which only looks for a program called ``dot``. It is
    no dependency: no module of ours imports it, and only this call changes it.

    Raises:
        ModuleNotFoundError: if the package is not installed: ``pip install graphviz``.
    """
    commands = require("graphviz.backend.dot_command", "lend_to_graphviz()")
    if shutil.which("dot") is None and (program := _graphviz_pure()):
        commands.DOT_BINARY = Path(program)


def render(dot: str, kind: str, program: str, *options: str) -> bytes:
    """Return the picture of a DOT text in one of Graphviz's formats, ``"svg"`` or ``"png"``.

    Raises:
        RendererError: if the program fails or takes longer than ``TIME_LIMIT``.
    """
    if program == HERE and draw_here is not None:
        if kind == "png":
            raise RendererError("a PNG needs the program Graphviz, which cannot run here: take .svg, or .html")
        return draw_here(dot, kind, "-n2" in options)
    try:
        done = subprocess.run(
            [program, f"-T{kind}", *options], input=dot.encode(), capture_output=True, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired:
        raise RendererError(
            f"{program} did not finish in {TIME_LIMIT:g} seconds: the picture is too large for it; "
            "draw less of the graph, with focus= and radius=, depth=, or a smaller limit="
        ) from None
    except OSError as error:
        raise RendererError(f"{program} could not be run: {error}") from error
    if done.returncode or not done.stdout:
        message = done.stderr.decode(errors="replace").strip()
        raise RendererError(f"{program} could not make the {kind} (exit code {done.returncode}): {message}")
    return done.stdout
