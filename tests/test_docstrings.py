"""The examples in docstrings are true, and every public name has one."""

import doctest
import pkgutil
from importlib import import_module
from typing import Any

import pytest

import microgrid as mg

MODULES = sorted({module.name for module in pkgutil.walk_packages(mg.__path__, "microgrid.")} | {"microgrid"})


def examples(module: Any) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module, extraglobs={"mg": mg}) if test.examples]


FOUND = [test for name in MODULES if name != "microgrid.__main__" for test in examples(import_module(name))]


@pytest.mark.parametrize("test", FOUND, ids=lambda test: test.name)
def test_an_example_in_a_docstring_gives_what_it_says(test: doctest.DocTest) -> None:
    said: list[str] = []
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append).failed == 0, "".join(said)


def test_every_public_name_that_is_no_row_of_the_table_has_an_example() -> None:
    """Rows have their formula in their docstring, and their plots on the site."""
    names = {name for name in mg.__all__ if not isinstance(getattr(mg, name), mg.Op)}
    assert {name for name in names if ">>>" not in (getattr(mg, name).__doc__ or "")} == set()
