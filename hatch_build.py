"""The wheel: plain Python or, with ``MICROGRID_COMPILE=1``, the same Python and what mypyc compiles of it.

An editable install is always plain Python. What is compiled, and by which mypyc, stands in ``pyproject.toml``.
"""

import ast
import os
import re
from contextlib import chdir
from importlib.util import source_hash
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg] # a name that hatchling looks for
    """Compiles in a temporary folder, so that nothing is left beside the sources."""

    def _compiles(self) -> bool:
        return os.environ.get("MICROGRID_COMPILE", "0") not in ("", "0")

    def dependencies(self) -> list[str]:
        """Return what a build needs beyond hatchling."""
        return list(self.config["compiler"]) if self._compiles() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the extension modules to the wheel, and from which sources they come."""
        if version == "editable" or not self._compiles():
            return
        self._folder = TemporaryDirectory(prefix="microgrid-")
        folder, source = Path(self._folder.name), Path(self.root)
        modules = [f"microgrid/{module}" for module in self.config["modules"]]
        copytree(source / "microgrid", folder / "microgrid", ignore=lambda *_: ["__pycache__"])
        without_overloads(folder / "microgrid/ops/op.py")
        for module in modules:
            assign_words(folder / module)
        with chdir(folder):
            compile_modules(modules, "built")
        made = [path for path in (folder / "built").rglob("*") if path.is_file()]
        hashes = folder / "compiled.txt"
        hashes.write_text(
            "".join(f"{module} {source_hash((source / module).read_bytes()).hex()}\n" for module in modules)
        )
        build_data["force_include"] |= {str(path): str(path.relative_to(folder / "built")) for path in made}
        build_data["force_include"][str(hashes)] = "microgrid/compiled.txt"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder: the wheel has everything."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def compile_modules(modules: list[str], into: str) -> None:
    """Compile modules of the working directory; the extension modules' paths in ``into`` are those of the sources."""
    from mypyc.build import mypycify  # a dependency only where something is compiled
    from setuptools import setup

    others = "--follow-imports=silent"  # modules that are not compiled may need packages that are not here
    extensions = mypycify([others, *modules], group_name="microgrid", debug_level="0")
    if not sum(mend_deallocation(Path(path)) for path in {*extensions[0].sources}):
        raise SystemExit("mypyc writes the end of nodes in other words: see whether mend_deallocation is still needed")
    for module in modules:
        give_words(Path(extensions[0].sources[0]), Path(module))
    for extension in extensions:  # what a compiler of another make warns of is no reason to stop
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    setup(name="microgrid", packages=[], ext_modules=extensions, script_args=["build_ext", "--build-lib", into])


def without_overloads(path: Path) -> None:
    """Take the overloads of a row's call out of a copy of its module; lines keep their numbers.

    In ``lambda y, x: cos(x)`` mypy takes the first that fits, which says float, and mypyc would refuse Values there.
    """
    source, found = re.subn(r" *@overload\n *def __call__.*\n", "\n\n", path.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{path.name} has no overloads of __call__ any more: without_overloads is not needed")
    path.write_text(source, encoding="utf-8")


def assign_words(path: Path) -> None:
    """Assign interpreted classes their docstrings in a copy of a module, on the empty line below each.

    mypyc gives such classes a docstring of its own.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ClassDef) and any("native_class=False" in ast.unparse(d) for d in node.decorator_list):
            words = ast.get_docstring(node, clean=False)
            lines[node.end_lineno or 0] = f"setattr({node.name}, '__doc__', {words!r})"
    path.write_text("\n".join(lines), encoding="utf-8")


ACYCLIC = """
#ifdef Py_GIL_DISABLED
#error "the counter and the list below need the global interpreter lock"
#endif
#define ACYCLIC_BEGIN(object, dealloc) \\
    static int depth = 0; \\
    static PyObject *later = NULL; \\
    if (depth == 50) { \\
        Py_INCREF(Py_TYPE(object)); \\
        *(PyObject **)object = later; \\
        later = (PyObject *)object; \\
        return; \\
    } \\
    depth++;
#define ACYCLIC_END(object, dealloc) \\
    while (depth == 1 && later != NULL) { \\
        PyObject *next = later; \\
        PyTypeObject *type = Py_TYPE(next); \\
        later = *(PyObject **)next; \\
        *(PyObject **)next = NULL; \\
        dealloc((void *)next); \\
        Py_DECREF(type); \\
    } \\
    depth--;
"""
"""How a chain of nodes dies without a recursion as deep as the chain: beyond a depth, nodes wait in a list, which runs
through the words that held their reference counts."""


def mend_deallocation(path: Path) -> int:
    """Let classes with ``acyclic=True`` die as above, in the C that mypyc wrote; return how many there are.

    It writes Python's own trashcan, which up to 3.13 keeps its list in the header of the garbage collector. These
    classes have none, so that it writes into whatever lies before the object.
    """
    code = path.read_text(encoding="utf-8")
    begin, end = r"CPy_TRASHCAN_BEGIN(\(self, \w+\))", r"CPy_TRASHCAN_END\(self\)"
    first_statement = r"(_dealloc\([^)]*\)\s*\{\s*)"  # in other classes the garbage collector is told before
    code, found = re.subn(rf"{first_statement}{begin}([^{{}}]*){end}", r"\1ACYCLIC_BEGIN\2\3ACYCLIC_END\2", code)
    start = code.index('#include "') if found else 0
    path.write_text(code[:start] + ACYCLIC * bool(found) + code[start:], encoding="utf-8")
    return found


def give_words(path: Path, module: Path) -> None:
    """Give what a module defines its docstrings, in the C that mypyc wrote, which has the signatures only."""
    code = path.read_text(encoding="utf-8")

    def give(before: str, node: ast.FunctionDef | ast.ClassDef) -> None:
        nonlocal code
        octal = "".join(f"\\{byte:03o}" for byte in (ast.get_docstring(node, clean=False) or "").encode())
        if octal:
            code = re.sub(before, lambda found: f'{found[1]} "{octal}"', code)

    def functions(body: list[ast.stmt], within: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                give(rf'(\(PyCFunction\)CPyPy_{within}___{node.name},[^"]*PyDoc_STR\("[^"]*")', node)
                give(rf"(\(getter\){within}_get_{node.name},\s*(?:NULL|\(setter\)\w+),)\s*NULL", node)

    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions(tree.body, module.stem)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            give(rf'(\.tp_doc = PyDoc_STR\("{node.name}\(.*\\n--\\n\\n")', node)
            functions(node.body, f"{module.stem}___{node.name}")
    path.write_text(code, encoding="utf-8")
