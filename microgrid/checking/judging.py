"""The verdict on one derivative: is it right, wrong, or impossible to tell, and why."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random

from microgrid.checking.line import Line, Measure, Obstacle
from microgrid.checking.noise import UNIT, local_derivative, rounded
from microgrid.checking.numeric import NEGLIGIBLE, Estimate, Method, better, complex_step, difference
from microgrid.checking.program import Program
from microgrid.checking.report import Derivative, Verdict, number, operation, where
from microgrid.checking.shape import Side, across, bend, is_flat, one_sided
from microgrid.engine import Value
from microgrid.ops import Operation
from microgrid.recording import enable_grad


def judge(
    name: str,
    value: float | tuple[float, ...],
    backward: float,
    line: Line,
    rounding: float,
    terms: float = 0.0,
    method: Method = Method.AUTO,
    step: float | None = None,
    stop_at_first: bool = False,
) -> Derivative:
    """Compare a derivative with the numeric one of a line.

    Args:
        name: of the row.
        value: of the row.
        backward: the derivative to check.
        line: the function along which the numeric derivative is taken.
        rounding: how far ``backward`` may be off by rounding.
        terms: the size of the terms that cancel in ``backward``.
        method: of the numeric derivative.
        step: the largest step; a kink within it is a verdict, not an obstacle to step around.
        stop_at_first: whether the first estimate suffices to call a derivative wrong, unless it shows a kink: for a
            caller that searches for the cause.
    """
    if not math.isfinite(line.scale):
        reason = "an infinite number, or nan, has none beside it to take a difference with"
        return Derivative(name, value, backward, math.nan, math.inf, Verdict.DOMAIN, reason)
    # An error counts as none beside the function itself, and beside terms that cancel.
    negligible = NEGLIGIBLE * min(max(abs(line.base), 1.0) / line.size, max(abs(backward), terms))
    compare = partial(_compare, name, value, backward, line, rounding, negligible)
    estimate = _estimate(line, backward, method, step, negligible)
    is_seen = estimate.method is Method.DIFFERENCE and not math.isnan(estimate.value)
    if not backward and is_seen and is_flat(line, estimate.distance):
        estimate = Estimate(0.0, 0.0, step=line.beside)
    row = compare(estimate)
    # The complex step takes a side of each branch by itself, and these need not be sides of one line.
    is_open = row.verdict is Verdict.KINK and method is not Method.COMPLEX and not step
    if is_open and (beyond := across(line)) is not None:
        smooth = judge(
            name,
            value,
            backward,
            beyond[0],
            rounding + beyond[1],
            terms,
            Method.DIFFERENCE,
            stop_at_first=stop_at_first,
        )
        return smooth if smooth.verdict in (Verdict.PASS, Verdict.FAIL) else row
    is_doubtful = row.verdict is Verdict.FAIL or (row.verdict is Verdict.PASS and line.may_hide_kinks)
    if method is Method.COMPLEX or not is_doubtful:
        return row
    bent = bend(line, estimate.step if estimate.method is Method.DIFFERENCE else line.beside)
    is_kink = math.isinf(bent) or (bent > 0.0 and not _lies_outside(one_sided(line, line.nearest), backward))
    if row.verdict is Verdict.FAIL and (is_kink or not (stop_at_first and math.isfinite(backward))):
        row = _confirmed_failure(row, estimate, line, negligible, compare)
    if row.verdict is Verdict.PASS:  # central differences are the mean of both sides, and so may backward be
        is_kink = line.may_hide_kinks and bent > 2.0 * max(row.allowed, estimate.resolution(negligible))
    return compare(Estimate(obstacle=Obstacle(None, is_kink=True), distance=line.nearest)) if is_kink else row


_TINY = 1e-3
"""Arguments below this scale are smaller than the first steps of a difference."""


def _confirmed_failure(
    row: Derivative, estimate: Estimate, line: Line, negligible: float, compare: Callable[..., Derivative]
) -> Derivative:
    """Before anything is called wrong, compare with differences of smaller steps: one estimate may err."""
    # A function that looks smooth at the size of 1 may have all its features at the size of the argument.
    narrower = estimate.step / 20.0 if estimate.method is Method.DIFFERENCE else None
    for largest in (narrower, 0.1 * line.scale or None):
        found = difference(line, negligible, largest)
        other = compare(found)
        saw_nothing = other.verdict is Verdict.UNRESOLVED and not found.contradicts(estimate)
        # rounding that grows with the step spoils the last known digits, not the first
        if other.verdict is Verdict.FAIL or (saw_nothing and estimate.is_known(negligible) and row.relative > 0.01):
            continue
        # an infinite derivative is right if the slope overflows nearer by, not if nothing is seen there
        if math.isfinite(row.backward) or math.isnan(found.value):
            return other
    # Steps beyond the period of a function see another one, by chance: what contradicts them from nearer by counts.
    # So it does between the size of the argument and the steps that were taken, where these are larger.
    heard = []
    beyond = estimate.step / 32.0 if estimate.method is Method.DIFFERENCE and line.scale < _TINY else 0.0
    for largest, end in ((beyond, line.scale), (0.1 * line.scale, line.smallest)):
        for _ in range(WITNESSES):
            if largest <= end:
                break
            found = difference(line, negligible, largest)
            if found.contradicts(estimate):
                heard.append((compare(found), found))
            largest /= 27.0  # no power of 2: beside 0 the same digits are rounded the same
    claims = [estimate, *[other for _, other in heard]]
    # one from beyond a period may by chance claim the most digits: what agrees from nearer by comes before it
    row, estimate = min(
        heard or [(row, estimate)],
        key=lambda pair: (pair[0].verdict is Verdict.FAIL, pair[1].rank(negligible)),
    )
    # Where some share fewer digits than each of them claims, none has more than these.
    off = [abs(other.value - estimate.value) for other in claims]
    spread = max([distance for distance in off if distance <= SHARED * abs(estimate.value)], default=0.0)
    if row.error <= 2.0 * spread:
        row = compare(replace(estimate, error=max(estimate.error, spread)))
    if row.verdict is Verdict.FAIL and not estimate.is_known(negligible):
        row.verdict = Verdict.UNRESOLVED
        row.reason = "no difference shows four digits of the slope: the function is too rough or fast for floats"
    return row


def _estimate(line: Line, backward: float, method: Method, step: float | None, negligible: float) -> Estimate:
    near = step or line.nearest
    estimate = complex_step(line) if method is not Method.DIFFERENCE else None
    if estimate and backward and max(abs(backward), abs(estimate.value)) < sys.float_info.min / estimate.step:
        estimate.error += abs(backward)  # times the step it underflows
    obstacle = line.obstacle(near) if estimate or step else None
    if obstacle is not None and obstacle.is_kink:
        return Estimate(method=Method.COMPLEX if estimate else Method.DIFFERENCE, obstacle=obstacle, distance=near)
    if estimate is None or obstacle is not None:
        blocked = Estimate(method=Method.COMPLEX, obstacle=obstacle, distance=near)
        return blocked if method is Method.COMPLEX else difference(line, negligible, step)
    if method is Method.COMPLEX or estimate.is_known(negligible):
        return estimate
    return better(estimate, difference(line, negligible, step), negligible)


def _compare(
    name: str,
    value: float | tuple[float, ...],
    backward: float,
    line: Line,
    rounding: float,
    negligible: float,
    estimate: Estimate,
) -> Derivative:
    numeric, size = estimate.value, max(abs(backward), abs(estimate.value))
    allowed = 2.0 * estimate.error + rounding + 32.0 * UNIT * size
    row = Derivative(name, value, backward, numeric, allowed, Verdict.PASS, "", estimate.method)
    known = estimate.is_known(negligible)
    obstacle = estimate.obstacle
    if not known and obstacle is not None:
        row.verdict = Verdict.KINK if obstacle.is_kink else Verdict.DOMAIN
        row.reason = _in_the_way(line, estimate, obstacle, backward)
    elif not math.isfinite(backward):
        if known:
            row.verdict = Verdict.FAIL
            row.reason = "backward() gives no finite number, and the function changes at a finite rate here"
        else:
            row.verdict = Verdict.DOMAIN
            row.reason = "the slope grows without bound as the step shrinks: there is no finite derivative here"
    elif math.isnan(numeric):
        row.verdict = Verdict.UNRESOLVED
        row.reason = (
            "the complex step needs every operation on the way to be analytic, which is not so here: "
            "use method='auto' or 'difference'"
            if estimate.method is Method.COMPLEX
            else "no step gives a finite difference"
        )
    elif row.error > allowed:
        row.verdict = Verdict.FAIL
    elif allowed > estimate.resolution(negligible, size):
        row.verdict = Verdict.UNRESOLVED
        row.reason = (
            f"rounding in the function (±{number(line.noise, 2)} of {number(line.base, 6)}) leaves its numeric "
            "derivative too few digits"
            if estimate.error > 0.5 * rounding
            else f"backward() itself is known to ±{number(rounding, 2)} only: terms that are rounded cancel in it"
        )
    elif obstacle is not None and obstacle.is_kink and estimate.distance < 1e-3 * line.size:
        row.reason = (
            f"{_node(line, obstacle)} has a kink within {number(estimate.distance, 2)}; "
            f"steps of {number(estimate.step, 2)} stay clear of it"
        )
    return row


def _node(line: Line, obstacle: Obstacle) -> str:
    if obstacle.position is None:
        return "the function"
    node = line.program.nodes[obstacle.position]
    return operation(node) if not node.origin else f"{operation(node)} ({where(node)})"


def _in_the_way(line: Line, estimate: Estimate, obstacle: Obstacle, backward: float) -> str:
    if not obstacle.is_kink:
        if obstacle.position is None:
            return "the slope is not a finite number beside this point"
        return f"{_node(line, obstacle)} is not a finite number on both sides of this point"
    sides = one_sided(line, estimate.distance)
    (before, left, _), (after, right, _) = sides
    near = "at this very point"
    if estimate.distance > 1e-9 * max(line.scale, 1e-3):
        near = f"within ±{number(estimate.distance, 2)} of this point"
    reason = f"{_node(line, obstacle)} changes its branch {near}; "
    slopes = f"the slope is {number(left, 4)} on the left and {number(right, 4)} on the right"
    if number(left, 4) == number(right, 4):
        slopes = f"the slope is {number(left, 4)} on both sides"
    step = max(line.beside, estimate.distance)
    if abs(after - before) > 8.0 * step * (abs(left) + abs(right)) + JUMP * max(abs(before), abs(after)):
        what = "it" if obstacle.position is None else "the function"
        reason += f"{what} jumps from {number(before, 4)} to {number(after, 4)}; "
    reason += slopes
    if obstacle.position is None:
        reason += "; no operation in this graph declares a kink here; if one is yours, pass kink= to its Op"
    if not math.isfinite(backward):
        reason += f", and backward() gives {number(backward)}: give its derivative there a number, by where()"
    elif _lies_outside(sides, backward):
        reason += (
            f", and backward() gives {number(backward, 4)}, which is not between them: "
            "conventions at kinks need not add up"
        )
    return reason


def _lies_outside(sides: list[Side], backward: float) -> bool:
    """Whether a derivative at a kink lies outside the slopes of its sides, as far as these are known."""
    low, high = sorted([side.slope for side in sides])
    margin = 5e-5 * (abs(low) + abs(high)) + max(side.error for side in sides)
    return backward < low - margin or backward > high + margin


JUMP = 1e-6
"""Two sides of a kink that differ by this fraction of their size jump."""

ACCURACY = 1e-12
"""The relative error allowed to the derivative of a row itself."""

SHARED = 1e-2
"""Numeric derivatives that differ by no more than this fraction are of the same slope."""

WITNESSES = 12
"""The number of step sizes from which a derivative is estimated before it is called wrong."""


# ---------------------------------------------------------------------------------------------------
# One operation on its own


class Primitive:
    """One operation at one point: each of its local derivatives against its forward function."""

    def __init__(self, op: Operation, xs: tuple[float, ...], seed: int) -> None:
        self.op = op
        self.xs = list(xs)
        self.seed = seed
        self.leaves = [Value(x) for x in xs]
        with enable_grad():
            self.program = Program(Value.__apply__(op, tuple(self.leaves)))
        self.positions = [self.program.position[leaf] for leaf in self.leaves]
        self.y = self.program.values[-1]

    def first(self, i: int, name: str = "", own: bool = False) -> Derivative:
        """Check ∂y/∂xs[i]; with ``own``, rounding within the row is no excuse."""
        line = Line(self.program, {self.positions[i]: 1.0}, seed=self.seed)
        given = local_derivative(self.op, i, self.y, self.xs)
        rounding = ACCURACY * abs(given) + self._excused(i) if own else self._rounding(i, given)
        return judge(name, tuple(self.xs), given, line, rounding)

    def second(self, i: int, j: int, name: str = "") -> Derivative:
        """Check ∂²y/∂xs[i]∂xs[j]: the derivative, by Values, of a local derivative.

        It is compared with the difference quotient of the same local derivative on floats.
        """
        given, rounding, terms = 0.0, 0.0, 0.0
        program = self._slope_on_values(i)
        if program is not None:
            position = program.position[self.leaves[j]]
            given = program.gradients()[position]
            rounding = program.rounding_of_gradients(self.seed)[position]
            terms = program.terms()[position]
        line = Line(self.program, {self.positions[j]: 1.0}, self._slope(i), seed=self.seed)
        return judge(name, tuple(self.xs), given, line, rounding, terms, Method.DIFFERENCE)

    def _slope_on_values(self, i: int) -> Program | None:
        """The graph of a local derivative; ``None`` if it is a plain number."""
        with enable_grad():
            y = Value.__apply__(self.op, tuple(self.leaves))
            derivative = self.op.partials[i]
            slope = derivative(y, *self.leaves) if callable(derivative) else derivative
        return Program(slope, self.leaves) if isinstance(slope, Value) else None

    def _excused(self, i: int) -> float:
        """How much half a unit in the last place of the arguments changes ∂y/∂xs[i], generously."""
        try:
            program = self._slope_on_values(i)
            gradients = program.gradients() if program else []
        except Exception:  # without second derivatives nothing is excused
            program = None
        if program is None:
            return 0.0
        changes = [abs(x * gradients[program.position[leaf]]) for x, leaf in zip(self.xs, self.leaves, strict=True)]
        return 4.0 * UNIT * sum(change for change in changes if math.isfinite(change))

    def _slope(self, i: int) -> Measure:
        return lambda values, random: local_derivative(
            self.op, i, values[-1], [values[position] for position in self.positions], random
        )

    def _rounding(self, i: int, given: float) -> float:
        random = Random(self.seed)
        others = [local_derivative(self.op, i, rounded(self.y, random), self.xs, random) for _ in range(4)]
        return 2.0 * max((abs(other - given) for other in others if math.isfinite(other)), default=0.0)
