"""A copy of the package to which an operation is added exactly as CONTRIBUTING says, for tests of what that takes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import microgrid as mg

ROOT = Path(__file__).parents[2]


def row_and_definition() -> list[str]:
    """The two pieces of code in CONTRIBUTING's section on adding an operation."""
    section = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding an operation")[1].split("\n## ")[0]
    )
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def copy_with_the_row(folder: Path) -> Path:
    """Copy the package and its tests; append the row to the table, put the definition among the oracle's."""
    row, definition = row_and_definition()
    for source in (Path(mg.__file__).parent, ROOT / "tests"):
        shutil.copytree(
            source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", ".*", "test_new_row*")
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    _insert(folder / "microgrid" / "ops" / "table.py", "", row)
    _insert(folder / "tests" / "support" / "exact.py", "DEFINITIONS: dict[str, Function] = {\n", definition)
    return folder


def _insert(path: Path, after: str, text: str) -> None:
    source = path.read_text(encoding="utf-8")
    place = source.index(after) + len(after) if after else len(source)
    path.write_text(source[:place] + text + source[place:], encoding="utf-8")


def run(folder: Path, *command: str) -> str:
    """Run Python in the copy, which is found before any installed package; return what it prints.

    Raises:
        AssertionError: if it fails, with what it says.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONIOENCODING": "utf-8",
        "MICROGRID_PURE": "1",
        "PYTEST_ADDOPTS": "",
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def files_that_go_over_the_rows(folder: Path) -> list[str]:
    """The tests of the copy that name the rows or the functions: to collect them all takes most of the time."""
    files = [
        path.relative_to(folder)
        for path in sorted((folder / "tests").rglob("test_*.py"))
        if re.search(r"\brows\(|\bROWS\b|\bTABLE\b|FUNCTIONS|__all__", path.read_text(encoding="utf-8"))
    ]
    return [str(path) for path in files if not {"oracles", "browser"} & {*path.parts}]


def run_tests(folder: Path, chosen: str, *paths: str) -> int:
    """Run the tests of the copy that an expression of pytest chooses; return how many passed."""
    printed = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *paths)
    assert "skipped" not in printed, printed
    return int(re.findall(r"(\d+) passed", printed)[0])
