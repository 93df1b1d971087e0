"""Print the oldest versions that pyproject.toml promises, as constraints for pip: ``python .ci/oldest.py test > file``.

A dependency's own dependencies are pip's to choose. What has no lower bound that holds here is left out.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(extra: str) -> list[Requirement]:
    """The requirements of an extra, and of those that it names."""
    own = [Requirement(line) for line in project["optional-dependencies"][extra]]
    named = [name for requirement in own if requirement.name == project["name"] for name in requirement.extras]
    return [*(r for r in own if r.name != project["name"]), *(r for name in named for r in requirements(name))]


needed = [*map(Requirement, project["dependencies"]), *(r for extra in sys.argv[1:] for r in requirements(extra))]
oldest = {
    requirement.name: bound.version
    for requirement in needed
    if requirement.marker is None or requirement.marker.evaluate()
    for bound in requirement.specifier
    if bound.operator in (">=", "==")
}
print(*(f"{name}=={version}" for name, version in sorted(oldest.items())), sep="\n")
