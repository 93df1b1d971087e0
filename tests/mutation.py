"""Mutation testing: does a test fail for every small change of the modules that derivatives rest on?

    pip install -e ".[test,mutation]" && python tests/mutation.py ops engine recording calculus checking

changes one thing at a time (a number, a sign, a comparison, a condition), runs the tests of that module, and
prints the changes that no test noticed: CONTRIBUTING.md lists them, with the reasons. ``checking/numeric`` is
one module of a package; ``--lines 120-140`` tries the changes of these lines only, ``--sample 250`` so many of them at
random, ``--minutes 20`` as many as that time allows; ``--seed 1`` takes them in another order.

The changes are cosmic-ray's. What makes a run of thousands short: one pass under coverage tells which tests run
which line, and only they are asked, the quickest first; and each change is tried in a fork of a process that has
imported all but microgrid. The child imports the changed source from memory: no file is touched.
"""

import argparse
import ast
import difflib
import math
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter  # bound now: a test puts another clock into the module
from types import CodeType
from typing import Any

import coverage
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from coverage.parser import PythonParser

ROOT = Path(__file__).parents[1]
TESTS = {
    "ops": "operations engine calculus special_functions copying check_op last_digits math messages",
    "engine": "engine stateful copying micrograd calculus blocks messages programs",
    "node": "engine stateful copying micrograd messages programs",
    "reverse": "engine stateful copying micrograd calculus messages programs",
    "recording": "engine blocks messages nn",
    "calculus": "calculus stateful",
    "checking": "check_op checking complex_step reports why precision programs",
}
QUICK, USUAL = "mutation", "ci"  # Hypothesis' profiles: most changes are noticed with few examples
FORK = get_context("fork")

REPLACEMENTS = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div", "Mod_Div", "Pow_Mul", "BitOr_BitAnd", "BitAnd_BitOr"),
    *("Lt_LtE", "Lt_NotEq", "LtE_Lt", "LtE_Eq", "Gt_GtE", "Gt_NotEq", "GtE_Gt", "GtE_Eq"),
    *("Eq_LtE", "Eq_GtE", "NotEq_Lt", "NotEq_Gt", "Is_IsNot", "IsNot_Is", "Delete_USub", "Delete_Not"),
}
"""Which replacements of an operator by another are tried.

A comparison has five others, of which two decide: tests that notice both notice all (Kaminski, Ammann & Offutt,
"Improving logic-based testing", 2013). Of an arithmetic operator only the nearest is tried: the others are further
off or, as ``<<``, raise for every float, so almost any test that runs the line notices. They would raise the rate."""


@dataclass(frozen=True)
class Change:
    """A mutation, in cosmic-ray's words: an operator, and at which of its places in a module it applies."""

    module: str
    operator: str
    occurrence: int
    line: int

    def apply(self, source: str) -> str:
        return str(mutate_code(source, get_operator(self.operator)(), self.occurrence))


@dataclass(frozen=True)
class Baseline:
    """The sources, and the tests that run them, before anything is changed."""

    sources: dict[str, str]
    asked: dict[str, dict[int, set[str]]]
    """By module and line, the tests that run it; "" for what runs on import, or when a fixture is made."""
    seconds: dict[str, float]
    """The duration of each test under coverage."""
    imported: list[str]
    """The modules of others that the tests import."""


class Plugin:
    """Lets Hypothesis load its plugins, of which microgrid is one, only now."""

    def pytest_sessionstart(self) -> None:
        del os.environ["HYPOTHESIS_NO_PLUGINS"]
        import_module("hypothesis.entry_points").run()


class Recording(Plugin):
    """Notes which lines each test runs, and for how long."""

    def __init__(self, tracer: coverage.Coverage) -> None:
        self.tracer = tracer
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        started = perf_counter()
        self.tracer.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.tracer.switch_context("")
            self.seconds[item.nodeid] = perf_counter() - started


class Chosen(Plugin):
    """Runs some tests only, the quickest first, each for a limited time, and ends the process at the first failure."""

    def __init__(self, seconds: dict[str, float], loader: "FromMemory") -> None:
        self.seconds = seconds
        self.loader = loader

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.seconds]
        items.sort(key=lambda item: self.seconds[item.nodeid])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        signal.alarm(20 + int(10 * self.seconds[item.nodeid]))  # ends the process: an endless loop is noticed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.end(NOTICED)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.end(SURVIVED if exitstatus in (0, 5) else NOTICED)  # 5: there is no such test any more

    def end(self, outcome: int) -> None:
        os._exit(outcome if self.loader.used else NOT_USED)


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


def run_pytest(files: list[str], profile: str, plugin: Plugin) -> int:
    """Run tests in this process, which has not imported microgrid yet."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["HYPOTHESIS_PROFILE"] = profile
    options = ["-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-m", "not no_cover"]
    return int(pytest.main([*options, *files], plugins=[plugin]))


def record(sources: dict[str, str], files: list[str]) -> Baseline:
    paths = {module: str(path_of(module)) for module in sources}
    tracer = coverage.Coverage(data_file=None, config_file=False, include=list(paths.values()))
    recording = Recording(tracer)
    tracer.start()
    outcome = run_pytest(files, USUAL, recording)
    tracer.stop()
    assert outcome == 0, "the tests must pass before anything is changed"
    data = tracer.get_data()
    lines = {module: data.contexts_by_lineno(path).items() for module, path in paths.items()}
    imported = [name for name, thing in sys.modules.items() if str(ROOT) not in str(getattr(thing, "__file__", ROOT))]
    return Baseline(
        sources, {m: {line: set(tests) for line, tests in lines[m]} for m in paths}, recording.seconds, imported
    )


SURVIVED, NOTICED, NO_CHANGE, NOT_USED = range(4)


def child(module: str, source: str, profile: str, seconds: dict[str, float]) -> None:
    """Run tests on a changed source, and end this process with the outcome as its code."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))  # what eats all memory is noticed, too
    try:
        loader = FromMemory(module, source)
    except SyntaxError:
        os._exit(NO_CHANGE)
    sys.meta_path.insert(0, loader)
    signal.alarm(60)
    files = sorted({test.split("::")[0] for test in seconds})
    chosen = Chosen(seconds, loader)
    run_pytest(files, profile, chosen)
    chosen.end(NOTICED)  # it did not come to an end by itself, as where microgrid cannot be imported


def outcome_of(module: str, source: str, profile: str, seconds: dict[str, float]) -> int:
    process = FORK.Process(target=child, args=(module, source, profile, seconds))
    process.start()
    process.join()
    assert process.exitcode != NOT_USED, "the changed source was not imported"
    return process.exitcode if process.exitcode in (SURVIVED, NO_CHANGE) else NOTICED  # other codes: it crashed


def attempt(baseline: Baseline, change: Change) -> int:
    """Ask the tests that run the line; then, if it has its effect on import, all others that are quick."""
    source = change.apply(baseline.sources[change.module])
    if is_same(source, baseline.sources[change.module]):
        return NO_CHANGE
    asked = baseline.asked[change.module]
    tests = asked.get(change.line) or asked.get(first_line(baseline.sources[change.module], change.line), set())
    steps = [(profile, tests - {""}) for profile in (QUICK, USUAL)]
    if "" in tests:
        steps.append((QUICK, {test for test, seconds in baseline.seconds.items() if seconds < 0.2} - tests))
    for profile, some in steps:
        if some and (
            outcome := outcome_of(change.module, source, profile, {test: baseline.seconds[test] for test in some})
        ):
            return outcome
    return SURVIVED


def is_same(a: str, b: str) -> bool:
    """Whether two sources are the same program, as when 1 is added to 1e308."""
    with suppress(SyntaxError):
        return ast.dump(ast.parse(a)) == ast.dump(ast.parse(b))
    return False


def first_line(source: str, line: int) -> int:
    """The line on which the statement around a line begins: on a line of constants alone nothing is run."""
    parser = PythonParser(text=source)
    parser.parse_source()
    return parser.first_line(line)


def unread(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the parts of a source begin and end that only type checkers read: annotations, overloads, protocols."""
    for node in ast.walk(ast.parse(source)):
        decorators = getattr(node, "decorator_list", [])
        if "overload" in map(ast.unparse, decorators):
            yield (decorators[0].lineno, 0), (node.end_lineno, node.end_col_offset)
        if "Protocol" in map(ast.unparse, getattr(node, "bases", [])):
            yield (node.lineno, 0), (node.end_lineno, node.end_col_offset)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def changes(module: str, source: str) -> Iterator[Change]:
    """Every change of a source that may make a difference when it runs."""
    spans = list(unread(source))
    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or ("Operator_" in name and name.split("Operator_")[1] not in REPLACEMENTS):
            continue
        places = (start for node in nodes for start, _ in operator().mutation_positions(node))
        for occurrence, place in enumerate(places):
            if not any(first <= place < last for first, last in spans):
                yield Change(module, name, occurrence, place[0])


def try_module(name: str, lines: range, sample: int | None, seed: int, jobs: int, deadline: float) -> None:
    started = time.monotonic()
    place = ROOT / "microgrid" / name
    paths = [path for path in sorted(place.glob("*.py")) if path.stem != "__init__"] or [place.with_suffix(".py")]
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths}
    files = [next(ROOT.glob(f"tests/**/test_{test}.py")) for test in TESTS[name.split("/")[0]].split()]
    with ProcessPoolExecutor(1, FORK) as once:
        baseline = once.submit(record, sources, files).result()
    for imported in baseline.imported:  # before any fork, that no child need do it
        with suppress(ImportError):
            import_module(imported)
    assert "microgrid" not in sys.modules
    assert outcome_of(*next(iter(sources.items())), QUICK, baseline.seconds) == SURVIVED
    for module, source in sources.items():
        assert outcome_of(module, f"{source}\nraise ValueError", USUAL, baseline.seconds) == NOTICED
    every = [change for module in sources for change in changes(module, sources[module]) if change.line in lines]
    random.Random(seed).shuffle(every)  # those that take long lie together
    print(f"{name}: {len(baseline.seconds)} tests, {len(every)} changes", flush=True)
    every = every[:sample]
    count = Counter[int]()
    with ProcessPoolExecutor(jobs, FORK) as workers:
        outcomes = workers.map(attempt, [baseline] * len(every), every)
        for change, outcome in zip(every, outcomes, strict=True):
            count[outcome] += 1
            if outcome == SURVIVED:
                source = sources[change.module]
                texts = [text.splitlines() for text in (source, change.apply(source))]
                diff = difflib.unified_diff(*texts, change.module, change.operator, n=1, lineterm="")
                print(*diff, sep="\n", flush=True)
            if time.monotonic() > deadline:
                workers.shutdown(wait=False, cancel_futures=True)
                break
    tried, minutes = count[NOTICED] + count[SURVIVED], (time.monotonic() - started) / 60
    rate = f"{count[NOTICED] / max(tried, 1):.1%}"
    print(f"{name}: {count[NOTICED]} of {tried} noticed, {rate}, in {minutes:.0f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--lines", default="1-1000000")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args()
    first, _, last = options.lines.partition("-")
    os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"  # one of which imports microgrid
    for module in options.modules:
        lines, deadline = range(int(first), int(last) + 1), time.monotonic() + 60 * options.minutes
        try_module(module, lines, options.sample, options.seed, options.jobs, deadline)


if __name__ == "__main__":
    main()
