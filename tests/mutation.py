"""Mutation testing: does a test fail for every small change of the rooms that derivatives rest on?

    pip install -e ".[test,mutation]" && python tests/mutation.py ops engine calculus checking

changes one thing at a time (a number, a sign, a comparison, a condition), runs the tests of that room, and
prints the changes that no test noticed. CONTRIBUTING.md lists them, with the reasons. ``--lines 120-140`` tries
the changes of these lines only, ``--sample 100`` a random hundred of each room.

The changes are cosmic-ray's. What makes a run of thousands short: one pass under coverage tells which tests run
which line, and only they are asked, the quickest first; and each change is tried in a fork of a process that has
imported all but microgrid. The child imports the changed source from memory: no file is touched.
"""

import argparse
import ast
import difflib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from types import CodeType
from typing import Any

import coverage
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
ROOMS = {
    "ops": "operations engine calculus special_functions copying strategies house",
    "engine": "engine stateful copying micrograd calculus",
    "calculus": "calculus stateful",
    "checking": "check_op checking",
}
"""The tests of each room."""
IMPORTED = "hypothesis mpmath numpy micrograd.nn rich.console graphviz sklearn.datasets xdist.plugin pytest_cov.plugin"
QUICK, USUAL = "mutation", "ci"
"""The profiles of Hypothesis: most changes are noticed with few examples."""

CHANGES = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div", "Mod_Div", "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr"),
    *("Lt_LtE", "Lt_NotEq", "LtE_Lt", "LtE_Eq", "Gt_GtE", "Gt_NotEq", "GtE_Gt", "GtE_Eq"),
    *("Eq_LtE", "Eq_GtE", "NotEq_Lt", "NotEq_Gt", "Is_IsNot", "IsNot_Is", "Delete_USub", "Delete_Not"),
}
"""Which replacements of an operator by another are tried.

A comparison has five others, of which two decide: a test that notices both notices the other three (Kaminski,
Ammann & Offutt 2013). Of an arithmetic operator only the nearest is tried: the others are further off, or, as
``<<``, raise TypeError for every float, so any test that runs the line notices. ``is`` becomes ``==`` only for
identities. What is left out is all but always noticed, so leaving it out does not raise the rate."""


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    occurrence: int
    position: tuple[int, int]


@dataclass
class Room:
    """What is known of a room before anything in it is changed."""

    files: list[str]
    sources: dict[str, str]
    trees: dict[str, Any]
    runs: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    """By module and line: the tests that run it; "" for what runs on import, and when fixtures are made."""
    seconds: dict[str, float] = field(default_factory=dict)


class Plugin:
    """Lets Hypothesis load its plugins, of which microgrid is one, only after all of pytest is loaded."""

    def pytest_sessionstart(self) -> None:
        del os.environ["HYPOTHESIS_NO_PLUGINS"]
        import_module("hypothesis.entry_points").run()


class Chosen(Plugin):
    """A pytest plugin that runs some tests only, the quickest first, each for a limited time."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.seconds), key=self._seconds)

    def _seconds(self, item: pytest.Item) -> float:
        return self.seconds[item.nodeid]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        signal.alarm(20 + int(10 * self._seconds(item)))  # which ends the process: an endless loop is noticed


class Recording(Plugin):
    """A pytest plugin that notes which lines each test runs, and for how long."""

    def __init__(self, tracer: coverage.Coverage) -> None:
        self.tracer = tracer
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        started = time.perf_counter()
        self.tracer.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.tracer.switch_context("")
            self.seconds[item.nodeid] = time.perf_counter() - started


class FromMemory(SourceFileLoader):
    """Finds and loads one module with another source."""

    def __init__(self, module: str, source: str) -> None:
        super().__init__(module, str(path_of(module)))
        self.code: CodeType = compile(source, self.path, "exec")
        self.used = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        self.used = True
        return self.code


def path_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def run_pytest(files: list[str], profile: str, plugin: object) -> int:
    """Run tests in this process, which has not imported microgrid yet."""
    os.environ["HYPOTHESIS_PROFILE"] = profile
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    arguments = ["-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-m", "not no_cover"]
    return int(pytest.main([*arguments, *files], plugins=[plugin]))


def record(room: Room) -> Room:
    tracer = coverage.Coverage(
        data_file=None, config_file=False, include=[str(path_of(module)) for module in room.sources]
    )
    recording = Recording(tracer)
    tracer.start()
    outcome = run_pytest(room.files, USUAL, recording)
    tracer.stop()
    assert outcome == 0, "the tests must pass before anything is changed"
    for module in room.sources:
        lines = tracer.get_data().contexts_by_lineno(str(path_of(module)))
        room.runs[module] = {line: set(contexts) for line, contexts in lines.items()}
    room.seconds = recording.seconds
    return room


SURVIVED, NOTICED, NO_PROGRAM = 0, 1, 42


def try_source(module: str, source: str, files: list[str], profile: str, seconds: dict[str, float]) -> None:
    """End this process, a child of its own for each change, with the outcome as its code."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))  # what eats all memory is noticed, too
    try:
        loader = FromMemory(module, source)
    except SyntaxError:
        os._exit(NO_PROGRAM)
    sys.meta_path.insert(0, loader)
    signal.alarm(60)
    outcome = NOTICED
    try:
        outcome = SURVIVED if run_pytest(files, profile, Chosen(seconds)) in (0, 5) else NOTICED  # 5: no test left
    finally:
        os._exit(outcome if loader.used else 99)


def outcome_of(module: str, source: str, files: list[str], profile: str, seconds: dict[str, float]) -> int:
    child = get_context("fork").Process(target=try_source, args=(module, source, files, profile, seconds))
    child.start()
    child.join()
    assert child.exitcode != 99, "the changed source was not imported"
    return NOTICED if child.exitcode not in (SURVIVED, NO_PROGRAM) else child.exitcode


def mutated(room: Room, mutant: Mutant) -> str:
    """The source with the change. cosmic-ray changes the tree in place; each worker parses it anew."""
    source = MutationVisitor.mutate_code(
        room.sources[mutant.module], get_operator(mutant.operator)(), mutant.occurrence
    )
    return str(source)


def survives(room: Room, mutant: Mutant) -> int:
    """Ask the tests that run the line; then, if it takes effect on import, all others."""
    source = mutated(room, mutant)
    lines = room.runs[mutant.module]
    line = mutant.position[0]
    asked = lines.get(line, set()) or set().union(*[lines.get(n, set()) for n in statement(room, mutant)])
    steps = [(profile, asked - {""}) for profile in (QUICK, USUAL)]
    if "" in asked:
        steps.append((USUAL, room.seconds.keys() - asked))
    outcome = SURVIVED
    for profile, tests in steps:
        if tests and outcome == SURVIVED:
            seconds = {test: room.seconds[test] for test in tests}
            files = sorted({test.split("::")[0] for test in tests})
            outcome = outcome_of(mutant.module, source, files, profile, seconds)
    return outcome


def statement(room: Room, mutant: Mutant) -> range:
    """The lines of the innermost statement around a change, without the statements in it."""
    around = []
    for node in ast.walk(ast.parse(room.sources[mutant.module])):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *[decorator.lineno for decorator in getattr(node, "decorator_list", [])]])
            body = getattr(node, "body", None)
            around.append(
                range(first, max(body[0].lineno, node.lineno + 1) if body else (node.end_lineno or first) + 1)
            )
    return min((lines for lines in around if mutant.position[0] in lines), key=len)


def changes(room: Room) -> Iterator[Mutant]:
    for module, source in room.sources.items():
        nodes = list(ast_nodes(get_ast(source)))
        unseen = list(annotations(source))
        lines = source.splitlines()
        for name in operator_names():
            operator = get_operator(name)
            replaced = name.rpartition("Operator_")[2]
            if operator.arguments() or ("Operator_" in name and replaced not in CHANGES):
                continue
            positions = (start for node in nodes for start, _ in operator().mutation_positions(node))
            for occurrence, start in enumerate(positions):
                in_annotation = any(first <= start < last for first, last in unseen)
                if not in_annotation and "@overload" not in lines[start[0] - 1]:
                    yield Mutant(module, name, occurrence, start)


def annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a source says what only type checkers read."""
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def try_room(name: str, sample: int, lines: range | None) -> None:
    place = ROOT / "microgrid" / name
    paths = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem != "__init__"]
    sources = {module: path_of(module).read_text(encoding="utf-8") for module in modules}
    room = Room([f"tests/test_{name}.py" for name in ROOMS[name.split("/")[0]].split()], sources, {})
    started = time.monotonic()
    with ProcessPoolExecutor(1, get_context("fork")) as once:
        room = once.submit(record, room).result()
    for module, source in sources.items():
        for profile in (QUICK, USUAL):
            assert outcome_of(module, source, room.files, profile, room.seconds) == SURVIVED
            assert outcome_of(module, source + "\nraise ValueError", room.files, profile, room.seconds) == NOTICED
    every = [mutant for mutant in changes(room) if lines is None or mutant.position[0] in lines]
    chosen = random.Random(0).sample(every, min(sample, len(every)))
    print(f"{name}: {len(room.seconds)} tests; {len(chosen)} of {len(every)} changes", flush=True)
    count = {SURVIVED: 0, NOTICED: 0, NO_PROGRAM: 0}
    with ProcessPoolExecutor(2, get_context("fork")) as workers:
        outcomes = workers.map(survives, [room] * len(chosen), chosen)
        for mutant, outcome in zip(chosen, outcomes, strict=True):
            count[outcome] += 1
            if outcome == SURVIVED:
                file = str(path_of(mutant.module).relative_to(ROOT))
                before, after = room.sources[mutant.module].splitlines(), mutated(room, mutant).splitlines()
                print(
                    *difflib.unified_diff(before, after, file, mutant.operator, n=1, lineterm=""), sep="\n", flush=True
                )
    tried = count[SURVIVED] + count[NOTICED]
    minutes = (time.monotonic() - started) / 60
    print(
        f"{name}: {count[NOTICED]} of {tried} noticed, {count[NOTICED] / max(tried, 1):.1%}, in {minutes:.0f} minutes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+")
    parser.add_argument("--sample", type=int, default=10**6)
    parser.add_argument("--lines", help="as 120-140: of one file only")
    options = parser.parse_args()
    first, _, last = (options.lines or "").partition("-")
    os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"  # one of which imports microgrid
    for module in IMPORTED.split():
        import_module(module)
    for room in options.rooms:
        try_room(room, options.sample, range(int(first), int(last or first) + 1) if first else None)
    assert not [module for module in sys.modules if module.split(".")[0] == "microgrid"]


if __name__ == "__main__":
    main()
