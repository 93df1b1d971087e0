"""Mutation testing: does a test fail for every small change of the rooms that derivatives rest on?

    pip install -e ".[test,mutation]" && python tests/mutation.py ops engine calculus checking

changes one thing at a time (a number, a sign, a comparison, a condition) in a copy of the repository, runs
the tests of that room, and prints the changes that no test noticed. Those that make no
difference that a user could see are listed in CONTRIBUTING.md. ``--sample 100`` tries a random hundred of
each room; ``--minutes 30`` stops after that time. A full run takes hours.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).parents[1]
OPERATIONS = "tests/test_operations.py"
TESTS = {
    "ops": f"{OPERATIONS}::test_special_values_are_those_of_pytorch tests/test_engine.py tests/test_calculus.py "
    f"tests/test_special_functions.py {OPERATIONS} tests/test_copying.py tests/test_strategies.py",
    "engine": "tests/test_engine.py tests/test_stateful.py tests/test_copying.py tests/test_micrograd.py",
    "calculus": "tests/test_calculus.py tests/test_stateful.py",
    "checking": "tests/test_check_op.py tests/test_checking.py",
}
SLOW = "not million and not hundred_thousand and not seeded and not reports_code and not seconds"

USELESS = re.compile(
    # what no Python of floats survives, and what only changes an annotation
    r"_(RShift|LShift|BitXor|BitOr|BitAnd|FloorDiv|Mod|Pow)$|_BitOr_|_(Is|IsNot)_(?!Is)|_(?!IsNot)[A-Za-z]+_Is(Not)?$"
    # one change of each arithmetic operator and two of each comparison are enough
    r"|_(Mul|Div|Pow|FloorDiv|Mod)_(Add|Sub)$|_(Add|Sub)_(Mul|Div)$|_(Lt|Gt|LtE|GtE)_(Eq|NotEq)$|_(Eq|NotEq)_(Lt|LtE|GtE|Gt)$"
    r"|_LtE_Gt$|_GtE_Lt$|_Lt_GtE$|_Gt_LtE$|USub_(Invert|Not|UAdd)$"
)


def run_tests(room: str) -> int:
    """Run the tests of a room, first with few examples, then, if they see nothing, with as many as always."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", SLOW, *TESTS[room].split()]
    outcomes = (subprocess.call(command, env=os.environ | {"HYPOTHESIS_PROFILE": p}) for p in ("mutation", "ci"))
    return next(filter(None, outcomes), 0)


def mutate(room: str, sample: int, deadline: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        source = "microgrid/" + (room if (copy / "microgrid" / room).is_dir() else f"{room}.py")
        command = f"{sys.executable} tests/mutation.py --run-tests {room}"
        settings = {"module-path": source, "timeout": 1200.0, "excluded-modules": [], "test-command": command}
        lines = ["[cosmic-ray]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
        (copy / "mutation.toml").write_text("\n".join([*lines, "[cosmic-ray.distributor]", 'name = "local"']))
        session = str(copy / "mutation.sqlite")
        environment = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}

        def cosmic_ray(*arguments: str, timeout: float | None = None) -> None:
            program = Path(sys.executable).with_name("cosmic-ray")
            subprocess.run([program, *arguments], cwd=copy, env=os.environ | environment, check=True, timeout=timeout)

        cosmic_ray("baseline", "mutation.toml")
        cosmic_ray("init", "mutation.toml", session)
        with use_db(session) as changes:
            every = {item.job_id: item.mutations[0] for item in changes.work_items}
            useful = [job for job, change in every.items() if not USELESS.search(change.operator_name)]
            useful.sort(key=lambda job: (str(every[job].module_path), every[job].start_pos, every[job].operator_name))
            chosen = set(random.Random(0).sample(useful, min(sample, len(useful))))
            changes.set_multiple_results(every.keys() - chosen, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
        try:
            cosmic_ray("exec", "mutation.toml", session, timeout=max(deadline - time.monotonic(), 1.0))
        except subprocess.TimeoutExpired:
            print(f"{room}: time is up")
        with use_db(session) as changes:
            tried = [result for job, result in changes.results if job in chosen]
        alive = [result.diff for result in tried if result.test_outcome is TestOutcome.SURVIVED]
        print(*alive, sep="\n")
        noticed = len(tried) - len(alive)
        rate = f"{noticed / max(len(tried), 1):.1%}"
        print(f"{room}: {noticed} of {len(tried)} changes noticed, {rate} (of {len(useful)} in all)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", choices=TESTS)
    parser.add_argument("--sample", type=int, default=10**6)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--run-tests", action="store_true", help="only run the tests of the first room")
    options = parser.parse_args()
    if options.run_tests:
        sys.exit(run_tests(options.rooms[0]))
    deadline = time.monotonic() + 60 * options.minutes
    for room in options.rooms:
        mutate(room, options.sample, deadline)


if __name__ == "__main__":
    main()
