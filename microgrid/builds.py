"""Two builds of one source: the attribute of classes that mypyc reads, and the choice of the build that runs.

An extension module that mypyc made lies beside its source, and Python would always prefer it. It runs only if it was
compiled from the present source; ``MICROGRID_PURE=1`` in the environment selects the sources.
"""

import os
import sys
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i32 as i32
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    i32 = int

    def mypyc_attr(**_):
        """Leave a class as it is: the attributes are for the compiler, which reads them in the source."""
        return lambda decorated: decorated


PACKAGE = os.path.dirname(__file__)


class Sources:
    """Finds the modules of the package by their sources, as if nothing were compiled."""

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None" = None, target: object = None) -> ModuleSpec | None:
        """Return where the module is, or ``None`` for one of another package or without a source."""
        if not name.startswith("microgrid."):
            return None
        finders = [FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)) for folder in path or ()]
        return next(filter(None, (finder.find_spec(name) for finder in finders)), None)


def changed_sources() -> list[str]:
    """Return the paths of the sources that changed since the extension modules were compiled from them."""
    from importlib.util import source_hash

    try:
        with open(os.path.join(PACKAGE, "compiled.txt"), encoding="utf-8") as lines:
            compiled = dict(line.split() for line in lines)
    except FileNotFoundError:  # no wheel of ours brought them
        return [os.path.join(PACKAGE, "engine.py")]
    changed = []
    for name, digest in compiled.items():
        path = os.path.join(os.path.dirname(PACKAGE), name)
        with suppress(FileNotFoundError), open(path, "rb") as source:  # a source that is missing is not preferred
            if source_hash(source.read()).hex() != digest:
                changed.append(path)
    return changed


def choose() -> bool:
    """Return whether the compiled modules run; if not, make Python load none of them."""
    if not any(os.path.exists(os.path.join(PACKAGE, f"engine{suffix}")) for suffix in EXTENSION_SUFFIXES):
        return False
    if os.environ.get("MICROGRID_PURE", "0") in ("", "0"):
        changed = changed_sources()
        if not changed:
            return True
        from warnings import warn

        warn(
            f"microgrid runs from its sources, more slowly than if compiled: {', '.join(changed)} changed since the "
            "extension modules were made; install it again to compile it anew, or set MICROGRID_PURE=1 if you mean it",
            RuntimeWarning,
            stacklevel=4,
        )
    sys.meta_path.insert(0, Sources)
    return False


compiled = choose()
