"""Write the page *Measured*: what each benchmark prints, on which machine and when.

    python docs/measure.py                    # all of them, about an hour
    python docs/measure.py compiled around    # these anew, the others stay

Needs what the benchmarks need: ``pip install -e ".[demo,native,oracles,browser,test]"``.
"""

import argparse
import ast
import datetime
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("measured.md")
BENCHMARKS = {
    "eager": "",
    "compiled": "--turns 9 --only readme moons digits mnist rosenbrock4 rosenbrock5 black-scholes chain3 chain5",
    "gradbench": "",
    "training": "",
    "around": "",
    "checking": "",
    "pages": "",
    "vectors": "",
    "saturation": "",
}
"""What is run, with which arguments."""
SLOW = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # where they are set they hold NumPy's BLAS back
OPENING = """# Measured

What the benchmarks print, put here by `python docs/measure.py`. Times are CPU time on one thread, medians; contenders
run in turn, so that their ratios hold on a busy machine, too: *load* is how many programs wanted one of its cores
before and after. Run them on yours: each says what it needs.
"""


def machine() -> str:
    """Return what the figures were measured on."""
    listed = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)$", listed.read_text(), re.MULTILINE) if listed.exists() else None
    name = model[1] if model else platform.processor()
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "llvmlite", "jax", "torch"))
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"


def section(name: str) -> str:
    """Run a benchmark; return its title, its command, the machine, the date and what it prints, as Markdown."""
    path = ROOT / "benchmarks" / f"{name}.py"
    title = str(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))).partition("\n\n")[0].rstrip(".")
    environment = {key: value for key, value in os.environ.items() if key not in SLOW}
    arguments = BENCHMARKS[name].split()
    command = [sys.executable, path, *arguments]
    before = os.getloadavg()[1]
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True)
    load = f"load {before:.1f} and {os.getloadavg()[1]:.1f}"
    text = printed.stdout.rstrip().replace(f"{ROOT}{os.sep}", "")
    today = datetime.datetime.now(tz=datetime.UTC).date()
    line = " ".join(["python", f"benchmarks/{name}.py", *arguments])
    return f"## {title}\n\n`{line}`, {today:%d %B %Y}, {machine()}; {load}\n\n```text\n{text}\n```\n"


def main() -> None:
    """Measure what is asked for; write the page after each benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="these benchmarks (default: all)")
    wanted = parser.parse_args().names or BENCHMARKS
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    parts = re.split(r"^(?=## )", old, flags=re.MULTILINE)[1:]
    known = {match[1]: part.rstrip() + "\n" for part in parts if (match := re.search(r"benchmarks/(\w+)\.py", part))}
    for name in wanted:
        known[name] = section(name)
        PAGE.write_text("\n".join([OPENING, *[known[x] for x in BENCHMARKS if x in known]]), encoding="utf-8")


if __name__ == "__main__":
    main()
