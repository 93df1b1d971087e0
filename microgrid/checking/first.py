"""First derivatives: the leaves and directions by which they are checked, and the verdict on each."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import compress
from random import Random

from microgrid.checking.diagnosis import Cause, Diagnosis, Findings
from microgrid.checking.inside import Inside
from microgrid.checking.judging import judge
from microgrid.checking.line import Line, Obstacle
from microgrid.checking.noise import is_program, same
from microgrid.checking.numeric import Method
from microgrid.checking.problem import Leaves, Options
from microgrid.checking.program import Program, Sweep, backward
from microgrid.checking.report import Derivative, Fault, Verdict, listed, number, operation
from microgrid.checking.runs import Runs
from microgrid.checking.sheet import with_progress

DIRECTION = 250
"""The smallest number of leaves that one direction moves, if there are so many."""


@dataclass
class _Probe:
    """One derivative to check: by a leaf, or along a direction."""

    name: str
    value: float
    direction: dict[int, float]


def check_first(runs: Runs, inside: Inside, options: Options, findings: Findings) -> Leaves:
    """Check first derivatives, and that a second ``backward()`` adds the same; return the leaves that were drawn."""
    program, leaves = runs.program, runs.problem.leaves
    sweep = backward(program, options.seed)
    program.nodes[-1].backward()
    twice = [node.grad for node in program.nodes]
    if runs.is_closed and not runs.branches:
        leaves = _that_matter(leaves, sweep, twice, options.seed, findings)
    chosen, probes = _drawn(program, leaves, options, findings)
    diagnosis = Diagnosis(runs, sweep, inside, options.step)
    method = options.method if runs.is_closed else Method.DIFFERENCE
    for probe in with_progress(probes, "checking", options.progress):
        line = Line(program, probe.direction, runs.measure, seed=options.seed)
        given, rounding, terms = sweep.along(probe.direction)
        cause: Cause | None = None
        if path := runs.control_flow_differs(line, options.step):
            row = Derivative(probe.name, probe.value, given, math.nan, math.inf, Verdict.KINK, path)
        else:
            judged = partial(
                judge, probe.name, probe.value, given, line, rounding, terms, method=method, step=options.step
            )
            row = judged(stop_at_first=True)
            if row.verdict is Verdict.FAIL:
                cause = diagnosis.cause(row, line, judged)
        if not isinstance(cause, Fault):
            cause = _wrong_second_time(sweep, twice, probe.direction) or cause
        findings.add(row, cause)
    return chosen


def _that_matter(leaves: Leaves, sweep: Sweep, twice: list[float], seed: int, findings: Findings) -> Leaves:
    """Remove the leaves with gradient 0 that cannot matter."""
    program = sweep.program
    moved = [program.position[leaf] for _, leaf in leaves]
    if all(sweep.gradients[i] or twice[i] for i in moved):
        return leaves
    carried, live = program.live(moved, steps=True), program.live(moved, steps=False)
    matters = [
        bool(sweep.gradients[i] or twice[i] or live[i] or (carried[i] and _jumps(program, i, seed))) for i in moved
    ]
    idle = [name for (name, _), kept in zip(leaves, matters, strict=True) if not kept]
    if idle:
        several = "leaves" if idle[1:] else "leaf"
        findings.notes.append(f"{len(idle)} {several} cannot matter here, and backward() gives 0: {listed(idle)}")
    return list(compress(leaves, matters))


def _jumps(program: Program, i: int, seed: int) -> bool:
    """Whether a comparison or a step that depends on a node changes right beside its present number."""
    line = Line(program, {i: 1.0}, seed=seed)
    if line.kinks and line.obstacle(line.nearest) is not None:
        return True
    if not any(is_program(program.nodes[j].op) for j, *_ in line.plan):
        return False
    beside = [line.at(t) for t in (-line.nearest, line.nearest)]  # a compiled function does not declare its kinks
    return any(isinstance(point, Obstacle) or point[1] != line.base for point in beside)


def _drawn(program: Program, leaves: Leaves, options: Options, findings: Findings) -> tuple[Leaves, list[_Probe]]:
    """Draw the leaves and the directions to check: without a sample, all leaves and no direction."""
    position, sample, random = program.position, options.sample, Random(options.seed)
    drawn = random.sample(range(len(leaves)), min(sample or len(leaves), len(leaves)))
    chosen = [leaves[i] for i in sorted(drawn)]
    probes = [_Probe(name, leaf.data, {position[leaf]: 1.0}) for name, leaf in chosen]
    if sample is None:
        return chosen, probes
    within = [position[leaf] for _, leaf in leaves if math.isfinite(leaf.data)]
    random.shuffle(within)
    directions = []
    width = max(len(within) // sample + 1, DIRECTION)
    for k in range(sample) if within else ():
        first = k * width % len(within)
        parts = {i: random.gauss() for i in (within + within)[first : first + min(width, len(within))]}
        length = math.hypot(*parts.values())
        directions.append(_Probe(f"direction {k + 1}", math.nan, {i: part / length for i, part in parts.items()}))
    findings.notes.append(f"{len(probes)} of {len(leaves)} leaves and {len(directions)} directions, drawn at random")
    return chosen, [*probes, *directions]


def _wrong_second_time(sweep: Sweep, twice: list[float], direction: dict[int, float]) -> Fault | None:
    """The fault that a second ``backward()`` added something else to a leaf than the first."""
    for i in direction:
        once, added = sweep.gradients[i], twice[i] - sweep.gradients[i]
        if not same(twice[i], 2.0 * once):
            leaf = sweep.program.nodes[i]
            what = (
                f"A second backward() added {number(added)} to the gradient of {operation(leaf)}, the first "
                f"{number(once)}: it must add exactly the same."
            )
            return Fault(leaf, None, added, once, what)
    return None
