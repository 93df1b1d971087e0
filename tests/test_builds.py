"""Two builds of one source: an extension module runs only if it was made of the source that stands beside it."""

import ast
import importlib
import inspect
import operator
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import source_hash
from pathlib import Path

import pytest

import microgrid as mg

PACKAGE = Path(mg.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
HOOK = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
EXTENSION = f"engine{EXTENSION_SUFFIXES[0]}"

IMPORT = "import microgrid as mg; assert mg.Value(2.0).tanh(); print(mg.__compiled__, mg.engine.__file__)"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The sources, and beside one of them an extension module, which cannot be loaded: trying to is an error."""
    package = tmp_path / "microgrid"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "compiled.txt"))
    (package / EXTENSION).write_bytes(b"an extension module")
    return package


def says_what_it_was_made_of(package: Path) -> None:
    source = (package / "engine.py").read_bytes()
    (package / "compiled.txt").write_text(f"microgrid/engine.py {source_hash(source).hex()}\n")


def imported(
    package: Path, pure: str = "0", warnings: str = "default", code: str = IMPORT
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "MICROGRID_PURE": pure}
    command = [sys.executable, "-W", warnings, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=package.parent, env=environment, check=False)


def runs_the_source(package: Path, done: "subprocess.CompletedProcess[str]") -> bool:
    return done.stdout == f"False {package / 'engine.py'}\n"


def test_an_extension_module_made_of_the_source_as_it_is_is_loaded(package: Path) -> None:
    says_what_it_was_made_of(package)
    done = imported(package)
    assert "ImportError" in done.stderr
    assert EXTENSION in done.stderr


def test_an_edited_source_runs_and_not_what_was_compiled_of_it_before(package: Path) -> None:
    says_what_it_was_made_of(package)
    with (package / "engine.py").open("a") as source:
        source.write("# edited\n")
    done = imported(package)
    assert runs_the_source(package, done)
    assert f"RuntimeWarning: microgrid runs from its sources, more slowly than if compiled: {package}" in done.stderr
    assert "engine.py changed since" in done.stderr


def test_an_extension_module_of_unknown_origin_is_passed_over(package: Path) -> None:
    done = imported(package)
    assert runs_the_source(package, done)
    assert "RuntimeWarning" in done.stderr


@pytest.mark.parametrize("known", [True, False])
def test_who_asks_for_the_sources_gets_them_without_a_word(package: Path, known: bool) -> None:
    if known:
        says_what_it_was_made_of(package)
    done = imported(package, pure="1", warnings="error")
    assert runs_the_source(package, done), done.stderr
    assert done.stderr == ""


def test_without_extension_modules_the_sources_run_and_nothing_stands_in_between(package: Path) -> None:
    (package / EXTENSION).unlink()
    done = imported(package, warnings="error")
    assert runs_the_source(package, done), done.stderr
    done = imported(package, code="import sys; old = [*sys.meta_path]; import microgrid; print(sys.meta_path == old)")
    assert done.stdout == "True\n"


@pytest.mark.parametrize("source", HOOK["modules"])
def test_all_modules_that_a_compiled_build_compiles_run_from_one_build(source: str) -> None:
    assert (PACKAGE / source).is_file(), "the list in pyproject.toml names a module that is not there"
    module = importlib.import_module(f"microgrid.{source.removesuffix('.py').replace('/', '.')}")
    suffixes = EXTENSION_SUFFIXES if mg.__compiled__ else [".py"]
    assert module.__file__ in [str(PACKAGE / source.removesuffix(".py")) + suffix for suffix in suffixes]


def test_the_compiler_is_the_mypy_that_checks_the_types() -> None:
    pinned = [requirement for requirement in HOOK["compiler"] if requirement.startswith("mypy")]
    assert pinned == [need for need in PROJECT["project"]["optional-dependencies"]["lint"] if need.startswith("mypy")]


@pytest.mark.parametrize(
    "step", ["y + 1.0", "y.tanh()", "(y * 0.99 + x * 0.01).tanh() + x", "y * y", "mg.dot([y, x], [x, y])"]
)
def test_long_chains_die_without_harm_to_what_lies_beside_them(step: str) -> None:
    code = f"""
import microgrid as mg
for steps in (*range(40, 60), 2_000, 100_000):
    x = y = mg.Value(0.5)
    for _ in range(steps):
        y = {step}
    del y
print(x.data)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0.5\n"), done.stderr


def documented(body: list[ast.stmt], within: str = "") -> Iterator[tuple[str, str]]:
    """The dotted names and docstrings of what a module and its classes define; those of __eq__ are Python's own."""
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("__"):
            continue
        if words := ast.get_docstring(node):
            yield f"{within}{node.name}", words
        if isinstance(node, ast.ClassDef):
            yield from documented(node.body, f"{node.name}.")


@pytest.mark.parametrize("module", HOOK["modules"])
def test_help_says_what_the_source_says(module: str) -> None:
    found = importlib.import_module(f"microgrid.{module.removesuffix('.py').replace('/', '.')}")
    for name, words in documented(ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body):
        assert (inspect.getdoc(operator.attrgetter(name)(found)) or "").endswith(words), name
