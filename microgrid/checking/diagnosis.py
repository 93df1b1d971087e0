"""Why a derivative is wrong: the first wrong operation, or another verdict instead of ``FAIL``."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from microgrid.checking.inside import Inside
from microgrid.checking.judging import Primitive, judge
from microgrid.checking.line import Line
from microgrid.checking.noise import UNIT, is_program, same
from microgrid.checking.numeric import Method
from microgrid.checking.program import Step, Sweep
from microgrid.checking.report import Derivative, Fault, Verdict, number, operation, where
from microgrid.checking.runs import Runs
from microgrid.engine import Value
from microgrid.given import Given
from microgrid.ops import Interval

Cause = Fault | Derivative
"""A fault, or the row with its verdict in place of ``FAIL``."""


@dataclass
class Findings:
    """The rows, faults and notes that a check has found, for its report."""

    rows: list[Derivative] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: Derivative, cause: Cause | None) -> None:
        """Add a row with the verdict of its cause."""
        if isinstance(cause, Fault):
            self.faults.append(cause)
            row = replace(row, verdict=Verdict.FAIL, reason=cause.what)
        self.rows.append(cause if isinstance(cause, Derivative) else row)


@dataclass
class _Suspect:
    """A row that failed, the line along which it did, the nodes that move along it, and the kinks found on the way."""

    row: Derivative
    line: Line
    moved: set[int]
    kinks: list[Value] = field(default_factory=list)


@dataclass
class Diagnosis:
    """Finds the causes of wrong first derivatives."""

    runs: Runs
    sweep: Sweep
    inside: Inside
    step: float | None
    _judged: dict[tuple[int, int], Derivative] = field(default_factory=dict)
    """Local derivatives, by node and operand."""

    def cause(self, row: Derivative, line: Line, confirm: Callable[[], Derivative]) -> Cause:
        """Find the cause; if there is none, the numeric derivative is in doubt."""
        program = self.runs.program
        relevant = program.relevant(second=True)
        suspect = _Suspect(row, line, {*line.direction, *[i for i, *_ in line.plan]})
        steps = [step for step in line.plan if relevant[step[0]]]
        # an operation of infinite operands is looked at last: the fault is with the one that made them
        found = (
            self._wrong_local(suspect, filter(self._is_finite, steps))
            or (None if math.isfinite(row.backward) else self._not_finite(suspect))
            or self._wrong_local(suspect, itertools.filterfalse(self._is_finite, steps))
            or next(
                filter(None, [self._wrong_given(suspect, i) for i in self.runs.given if i not in suspect.moved]), None
            )
            or self._wrong_accumulation(suspect)
        )
        if found is not None:
            return found
        confirmed = confirm()
        if confirmed.verdict is not Verdict.FAIL:
            return confirmed
        if (node := self.runs.detached) is not None:
            what = (
                f"The number {number(node.data)} follows the inputs, but it was taken out of the graph "
                "(by .data, float() or a function that is not of this package), so no gradient flows through it."
            )
            return Fault(node, None, row.backward, row.numeric, what)
        if suspect.kinks:
            return on_kink(row, suspect.kinks[0])
        reason = (
            "backward and numeric differ, yet every local derivative is right and they are accumulated rightly: "
            "the function is too rough here for a numeric derivative"
        )
        return replace(row, verdict=Verdict.UNRESOLVED, reason=reason)

    def _is_finite(self, step: Step) -> bool:
        """Whether all operands of a step are finite."""
        return all(math.isfinite(self.runs.program.values[j]) for j in step[2])

    def _wrong_local(self, suspect: _Suspect, steps: Iterable[Step]) -> Cause | None:
        """Find the first wrong local derivative of these steps, and the nodes on a kink before it."""
        for i, _, operands, _ in steps:
            node = self.runs.program.nodes[i]
            if isinstance(node.op, Given):
                if found := self._wrong_given(suspect, i):
                    return found
                continue
            for k, j in enumerate(operands):
                if j in suspect.moved:
                    local = self._local(i, k)
                    if local.verdict is Verdict.KINK:
                        suspect.kinks.append(node)
                    if local.verdict is Verdict.FAIL:
                        return outside(suspect.row, node, local) or self._fault(suspect, node, k, local)
        return None

    def _local(self, i: int, k: int) -> Derivative:
        """The verdict on the local derivative of a node by one of its operands."""
        if (i, k) not in self._judged:
            program = self.runs.program
            xs = tuple([program.values[j] for j in program.operands[i]])
            self._judged[i, k] = Primitive(program.nodes[i].op, xs, self.inside.seed).first(k)
        return self._judged[i, k]

    def _fault(self, suspect: _Suspect, node: Value, k: int, local: Derivative) -> Cause:
        """The fault of a wrong local derivative; for a compiled function, the wrong operation within it."""
        what, within = _wrong_slope(node, k, local), None
        if is_program(node.op):
            kinks: list[Value] = []
            program = self.runs.program
            leaves = [program.nodes[i] for i in suspect.moved if not program.operands[i]]
            inner = self.inside.first_wrong(node, leaves, kinks)
            if inner is None and kinks:
                return on_kink(suspect.row, kinks[0])
            if inner is None and (held := self.inside.held(node, leaves)) is not None:
                reason = (
                    f"{operation(held)} ({where(held)}) holds a number that moves when the compiled function runs, so "
                    "differences do not tell its derivative. Every operation within is right by itself; for the "
                    "whole, check the function that was compiled, as it is"
                )
                return replace(suspect.row, verdict=Verdict.UNRESOLVED, reason=reason)
            if inner is None:
                what += " Every operation within is right by itself: it is the compiled program that errs."
            else:
                node, k, local, within = *inner, node
                what = f"{_wrong_slope(node, k, local)} It is within the compiled function, run here as it is written."
        return Fault(node, k, local.backward, local.numeric, what, within)

    def _wrong_given(self, suspect: _Suspect, i: int) -> Fault | None:
        """Find whether the local derivatives that the user gave to a node are wrong.

        No forward function says how the node follows from its operands alone. So ``f`` is run anew along the direction,
        and how fast the node changes is compared with its local derivatives times how fast its operands do.
        """
        row, program, direction = suspect.row, self.runs.program, suspect.line.direction
        node, operands, slopes = program.nodes[i], program.operands[i], program.locals[i]
        assert isinstance(node.op, Given)
        name = node.op.name
        if wrong := node.op.misuse(node):
            return Fault(node, None, row.backward, row.numeric, wrong)
        if self.runs.branches:
            return None
        speeds = program.tangents(direction)
        parts = {j: 0.0 for j in operands if speeds[j]}
        for j, slope in zip(operands, slopes, strict=True):
            if j in parts:
                parts[j] += slope
        given = sum(slope * speeds[j] for j, slope in parts.items())
        line = Line(program, direction, self.runs.measure_of(i), seed=self.inside.seed)
        rounding = 64.0 * UNIT * sum(abs(slope * speeds[j]) for j, slope in parts.items())
        local = judge(name, row.value, given, line, rounding, method=Method.DIFFERENCE, step=self.step)
        if local.verdict is not Verdict.FAIL:
            return None
        if not parts:
            what = (
                f"The number {number(node.data)} of {name} changes with {row.name}, but none of its parents does: "
                "what it was computed from is not among them, so no gradient flows there. Give it as a parent."
            )
            return Fault(node, None, 0.0, local.numeric, what)
        if len(parts) == 1:
            ((j, slope),) = parts.items()
            k, right = operands.index(j), local.numeric / speeds[j]
            what = (
                f"The local derivative of {name} by {_argument(node, k)} is wrong: {number(slope)} was given, but its "
                f"number changes at {number(right)}{_off(slope, right)}."
            )
            return Fault(node, k, slope, right, what)
        what = (
            f"The local derivatives of {name} are wrong: along {row.name} they add up to {number(given)}, but "
            f"its number changes at {number(local.numeric)}{_off(given, local.numeric)}."
        )
        return Fault(node, None, given, local.numeric, what)

    def _not_finite(self, suspect: _Suspect) -> Cause | None:
        """Find the first operation whose result or derivative is infinite or nan though its operands are finite.

        If it is on a kink, or right after one, nothing is wrong. It may be constant along the line, as the infinite
        operand of one that moves. If there is none, the gradient overflows in the backward pass.
        """
        row, program = suspect.row, self.runs.program
        for i, *_ in filter(self._is_finite, [*suspect.line.plan, *program.plan]):
            node, local = program.nodes[i], program.locals[i]
            k = next((k for k, derivative in enumerate(local) if not math.isfinite(derivative)), None)
            if k is None and math.isfinite(node.data):
                continue
            kink = next((kink for kink in suspect.kinks if any(kink is other for other in (node, *node.parents))), None)
            if kink is not None:
                return on_kink(row, kink)
            subject = f"{node.op.name} is {number(node.data)}"
            if k is not None:
                subject = f"The local derivative of {node.op.name} by {_argument(node, k)} is {number(local[k])}"
            what = (
                f"{subject} here, and so the gradient is {number(row.backward)}, though the function changes at a "
                "finite rate: 0 × ∞ and 0 × nan are nan. Choose the operand before the operation, not its result "
                "after, with where()."
            )
            return Fault(node, k, row.backward, row.numeric, what)
        summed = program.gradients()
        for i in sorted(suspect.moved, reverse=True):
            if not math.isfinite(summed[i]):
                node = program.nodes[i]
                what = (
                    f"The gradient of {operation(node)} overflows on its way back: it is {number(summed[i])}, a "
                    "product beyond the largest float of local derivatives that are all finite. Scale the numbers so "
                    "that none is so large."
                )
                return Fault(node, None, summed[i], math.nan, what)
        return None

    def _wrong_accumulation(self, suspect: _Suspect) -> Fault | None:
        """Compare the gradient of each node with the sum over its children, from the output down."""
        summed = self.runs.program.gradients(), self.runs.program.gradients_in_another_order()
        for i in sorted(suspect.moved, reverse=True):
            node, given = self.runs.program.nodes[i], self.sweep.gradients[i]
            for right in summed:
                if not (same(given, right[i]) or abs(given - right[i]) <= self.sweep.rounding[i]):
                    what = (
                        f"The gradient of {operation(node)} was accumulated wrongly: backward() gives "
                        f"{number(given)}, and the products over its paths add up to {number(right[i])}. Every local "
                        "derivative is right: look at backward() itself, or at how the operations that use this "
                        "node send gradients back."
                    )
                    return Fault(node, None, given, right[i], what)
        return None


def on_kink(row: Derivative, kink: Value) -> Derivative:
    """The row with the verdict that a node is on its kink."""
    reason = (
        f"{operation(kink)} ({where(kink)}) stands on a kink; backward() takes its derivatives there "
        "by convention, and they do not add up to the slope of the whole"
    )
    return replace(row, verdict=Verdict.KINK, reason=reason)


def outside(row: Derivative, node: Value, local: Derivative) -> Derivative | None:
    """The row with the verdict that an operation is not defined here, if that makes its derivative infinite or nan."""
    inside = all(map(Interval.__contains__, node.op.domain, [parent.data for parent in node.parents]))
    if inside or math.isfinite(local.backward):
        return None
    reason = (
        f"{operation(node)} ({where(node)}) is outside of the domain of {node.op.name}: its derivative there is "
        f"{number(local.backward)}"
    )
    return replace(row, verdict=Verdict.DOMAIN, reason=reason)


def _wrong_slope(node: Value, k: int, local: Derivative) -> str:
    off = _off(local.backward, local.numeric)
    return (
        f"The local derivative of {node.op.name} by {_argument(node, k)} is wrong: the row gives "
        f"{number(local.backward)}, but the slope of its forward function is {number(local.numeric)}{off}."
    )


def _off(given: float, right: float) -> str:
    """The kind of error of a derivative, in brackets."""
    if not right or not math.isfinite(given):
        return ""
    ratio = given / right
    times = number(ratio, 4 if abs(abs(ratio) - 1.0) > 1e-3 else 10)
    return " (the sign is wrong)" if abs(ratio + 1.0) < 1e-6 else f" ({times} times what it should be)"


def _argument(node: Value, k: int) -> str:
    parent = node.parents[k]
    return parent.label or ("its argument" if len(node.parents) == 1 else f"argument {k + 1}")
