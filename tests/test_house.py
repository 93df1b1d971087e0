"""The layers of the package: imports point down only, and `import microgrid` loads no third-party package."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import microgrid as mg
from microgrid import ops

PACKAGE = Path(mg.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"

LAYERS = [
    ["environment", "builds", "theme"],
    ["ops", "atomic"],
    ["data"],
    ["blocks"],
    ["recording"],
    ["given"],
    ["node"],
    ["reverse"],
    ["engine"],
    ["calculus", "copying", "calls"],
    ["iteration"],
    ["nn"],
    ["losses"],
    ["optim"],
    ["checking"],
    ["extend"],
    ["expressions"],
    ["drawing"],
    ["exercises"],
    ["compiler"],
    ["steps"],
    ["mesh"],
    ["training"],
    ["strategies"],
    ["__init__"],
    ["__main__"],
]
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path):
    """The modules and packages of LAYERS that a module imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "microgrid":
            yield from (alias.name if alias.name in LAYER_OF else "__init__" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("microgrid."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("microgrid."))
            assert all(alias.name != "microgrid" for alias in node.names), f"{path} imports the whole package"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_imports_only_from_the_layers_below_it(path):
    part = part_of(path)
    for imported in imported_parts(path):
        if part != imported:
            assert LAYER_OF[imported] < LAYER_OF[part], f"{part} imports {imported}, which is not below it"


def module_of(path):
    """The dotted name of a module; of a package, its own."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imported_neighbours(path):
    """The modules of the package that a module imports when it runs: not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in found)


@pytest.mark.parametrize("package", [path.parent.name for path in sorted(PACKAGE.glob("*/__init__.py"))])
def test_inside_a_package_imports_point_one_way(package):
    inside = {name: path for name, path in MODULES.items() if f"{name}.".startswith(f"microgrid.{package}.")}
    graph = {name: {*imported_neighbours(path)} & inside.keys() for name, path in inside.items()}
    assert {*graphlib.TopologicalSorter(graph).static_order()} == {*graph}  # raises where there is a cycle


COMPILER = [
    ["tracing", "ir", "signature", "special"],
    ["program", "structure"],
    ["simplify"],
    ["gates"],
    ["iterations"],
    ["chains"],
    ["classes"],
    ["recurrences"],
    ["passes"],
    ["task"],
    ["stages", "results"],
    ["targets"],
    ["boxes", "call", "sparsity"],
    ["derivatives"],
    ["kernel"],
    ["capture"],
    ["compiled"],
    ["__init__"],
]
"""The layers inside the compiler: scalars, array programs, tasks, targets, the names that users call."""


@pytest.mark.parametrize("path", sorted((PACKAGE / "compiler").rglob("*.py")), ids=module_of)
def test_inside_the_compiler_each_module_imports_only_from_the_layers_below_it(path):
    def layer(module):
        name = module.removeprefix("microgrid.compiler").removeprefix(".") or "__init__"
        return max((k for k, names in enumerate(COMPILER) for part in names if f"{name}.".startswith(f"{part}.")))

    def part(module):
        return module.split(".")[2:3]

    mine = module_of(path)
    for imported in imported_neighbours(path):
        if imported.startswith("microgrid.compiler") and part(imported) != part(mine):
            assert layer(imported) < layer(mine), f"{mine} imports {imported}, which is not below it"


@pytest.mark.parametrize("suffix", ["py", "css", "js", "html"])
def test_only_the_theme_has_colours(suffix):
    assert not [
        str(path)
        for path in PACKAGE.rglob(f"*.{suffix}")
        if path.name != "theme.py" and re.search(r"#[0-9a-f]{6}\b|rgba?\(\d", path.read_text(encoding="utf-8"), re.I)
    ]


def test_there_are_no_more_anys_than_contributing_says():
    most = re.search(r"`Any` stands in at most ([\d,]+) places", CONTRIBUTING.read_text(encoding="utf-8"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    count = sum(isinstance(node, ast.Name) and node.id == "Any" for tree in trees for node in ast.walk(tree))
    assert count <= int(most[1].replace(",", "")), f"there are {count}: say what it is, where its kind is known"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_no_third_party_package():
    loaded = run("import sys; old = set(sys.modules); import microgrid; print(*(set(sys.modules) - old))").split()
    ours = {"microgrid", "microgrid__mypyc"} if mg.__compiled__ else {"microgrid"}
    assert {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) == ours


def test_every_public_name_is_there_and_a_wrong_one_is_an_attribute_error():
    assert (
        run(f"import microgrid as mg; print(all(getattr(mg, name) is not None for name in {mg.__all__!r}))") == "True\n"
    )
    assert set(mg.__all__) <= set(dir(mg))
    with pytest.raises(AttributeError, match="has no attribute 'wrong'"):
        mg.wrong  # noqa: B018 - reading it is the test


def test_every_row_is_a_public_name_but_round_which_is_pythons():
    for name, op in ops.TABLE.items():
        assert name == "round" or (getattr(mg, name) is op and name in mg.__all__ and name in dir(mg))


def test_micrograds_import_paths_work():
    assert run("from microgrid.engine import Value; from microgrid.nn import Neuron, Layer, MLP, Module") == ""
