"""Hold what the two wheels must be: python .ci/wheels.py PURE.whl COMPILED.whl; both belong to this working tree."""

import re
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]


def contents(wheel: Path) -> set[str]:
    """The files of a wheel that are not metadata."""
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> str:
    """What the wheel says of itself to installers."""
    archive = ZipFile(wheel)
    return next(archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))


pure, compiled = map(Path, sys.argv[1:])
project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
modules = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
sources = {str(path.relative_to(ROOT)) for path in (ROOT / "microgrid").rglob("*.*") if "__pycache__" not in path.parts}
extensions = {f"microgrid/{module.removesuffix('.py')}{EXTENSION_SUFFIXES[0]}" for module in modules}

version = re.search('__version__ = "(.+)"', (ROOT / "microgrid/__init__.py").read_text(encoding="utf-8"))
assert version is not None
assert pure.name == f"microgrid_autograd-{version[1]}-py3-none-any.whl", pure.name
assert "Root-Is-Purelib: true" in metadata(pure)
assert contents(pure) == sources, contents(pure) ^ sources

python = f"cp{sys.version_info.major}{sys.version_info.minor}"
assert f"-{python}-{python}-" in compiled.name, compiled.name
assert not compiled.name.endswith("-any.whl"), compiled.name
assert "Root-Is-Purelib: false" in metadata(compiled)
more = {f"microgrid__mypyc{EXTENSION_SUFFIXES[0]}", "microgrid/compiled.txt"}
assert contents(compiled) == sources | extensions | more, contents(compiled) ^ (sources | extensions | more)
print(f"{pure.name}: {len(sources)} files; {compiled.name}: {len(extensions)} modules compiled")
