"""Second derivatives: those of the gradient's own graph, against differences of the gradient."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from microgrid.calculus import gradient_graph
from microgrid.checking.diagnosis import Cause, Findings, on_kink, outside
from microgrid.checking.inside import Inside
from microgrid.checking.judging import Primitive, judge
from microgrid.checking.line import Line, Measure
from microgrid.checking.noise import is_program
from microgrid.checking.numeric import Method
from microgrid.checking.problem import Leaves, Options
from microgrid.checking.program import Program, Sweep, backward, restored
from microgrid.checking.report import Derivative, Fault, Verdict, number
from microgrid.checking.runs import Runs
from microgrid.checking.sheet import with_progress
from microgrid.engine import Value


def check_second(runs: Runs, leaves: Leaves, inside: Inside, options: Options, findings: Findings) -> None:
    """Check the second derivatives by every two of the leaves."""
    program, values = runs.program, [leaf for _, leaf in leaves]
    gradients = gradient_graph(runs.problem.output, values)
    for i, j in with_progress([*product(range(len(leaves)), repeat=2)], "second derivatives", options.progress):
        (by, leaf), (then, other) = leaves[i], leaves[j]
        if j == 0:
            sweep = _sweep(gradients[i], values, options.seed)
        gradient = _gradient_by(runs, program.position[leaf])
        line = Line(program, {program.position[other]: 1.0}, gradient, second=True, seed=options.seed)
        name = f"∂²/∂{by}∂{then}" if by != then else f"∂²/∂{by}²"
        at = (leaf.data, other.data) if i != j else leaf.data
        given, rounding, terms = sweep.along({sweep.program.position[other]: 1.0})
        if path := runs.control_flow_differs(line, options.step):
            findings.add(Derivative(name, at, given, math.nan, math.inf, Verdict.KINK, path), None)
            continue
        row = judge(name, at, given, line, rounding, terms, Method.DIFFERENCE, options.step)
        findings.add(row, _cause(row, line, inside, values) if row.verdict is Verdict.FAIL else None)


def _sweep(gradient: Value, leaves: list[Value], seed: int) -> Sweep:
    """The backward pass through the graph of a gradient."""
    program = Program(gradient, leaves)
    with restored(program.nodes):
        return backward(program, seed)


def _gradient_by(runs: Runs, i: int) -> Measure:
    if runs.is_closed:
        return lambda values, random: runs.program.gradients(values, random)[i]
    return lambda values, random: (
        runs.recorded_for(values).gradients()[i] if random is None else runs.program.gradients(values, random)[i]
    )


def _cause(row: Derivative, line: Line, inside: Inside, leaves: list[Value]) -> Cause:
    program = line.program
    for i, _, operands, _ in line.plan:
        node = program.nodes[i]
        primitive = Primitive(node.op, tuple([program.values[j] for j in operands]), inside.seed)
        found = _wrong_second(primitive, range(len(operands)))
        if found is not None:
            return outside(row, node, found[1]) or _fault(node, found, inside, leaves)
    here = line.obstacle(line.nearest)
    if here is not None and here.position is not None and here.is_kink:
        return on_kink(row, program.nodes[here.position])
    reason = "the second derivatives of every operation are right: the gradient is too rough here to differ"
    return replace(row, verdict=Verdict.UNRESOLVED, reason=reason)


_Found = tuple[tuple[int, int], Derivative]


def _fault(node: Value, found: _Found, inside: Inside, leaves: list[Value]) -> Fault:
    """The fault of a wrong second derivative; for a compiled function, the wrong operation within it."""
    within = None
    if is_program(node.op):
        for inner, primitive, moving in inside.operations(node, leaves):
            if (wrong := _wrong_second(primitive, moving)) is not None:
                node, within, found = inner, node, wrong
                break
    (a, b), local = found
    what = (
        f"The second derivative of {node.op.name} by arguments {a + 1} and {b + 1} is wrong: on "
        f"Values it is {number(local.backward)}, but the local derivative on floats changes at "
        f"{number(local.numeric)}. Write the partial with operations of the table, on its "
        "arguments themselves."
    )
    return Fault(node, a, local.backward, local.numeric, what, within)


def _wrong_second(primitive: Primitive, operands: Sequence[int]) -> _Found | None:
    """The first wrong second derivative of an operation by these operands, and by which."""
    for a, b in product(operands, operands):
        local = primitive.second(a, b)
        if local.verdict is Verdict.FAIL:
            return (a, b), local
    return None
