"""How many digits of a result are right, and which operations lost the others?

Each operation rounds its result v by at most half a unit in its last place, |v|·2⁻⁵³. To first order that moves the
output by |∂y/∂v · v|·2⁻⁵³, so one backward pass gives the cost of every rounding (Bauer, 1974; Linnainmaa, 1976). Exact
operations cost nothing: the rounding errors of +, −, ×, ÷ and √ are themselves computed (Dekker, 1971; Knuth, 1969), so
b − a of neighbours, or a product by a power of two, is known to be exact at this point. Roundings are as likely to go
up as down, so their effects are added as squares; if their known values add up to more, that sum counts.

An exact operation may still be the culprit, because it makes the errors of its operands large beside its result:
a − b of numbers that agree in ten digits has lost ten. A forward pass shows how much each operation amplifies.

The first order is not trusted alone: the graph is run again with random rounding, and the worse of the two counts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Any

from microgrid import ops
from microgrid.checking.flow import first_not_finite
from microgrid.checking.noise import UNIT
from microgrid.checking.program import Plan, Rounding, advance, forward_of
from microgrid.checking.report import number, operation, where
from microgrid.checking.rewrites import rewrite
from microgrid.checking.sheet import BAD, GOOD, ODD, PLAIN, Badge, Quote, Row, Sheet, picture_of
from microgrid.engine import Value, topological_order
from microgrid.ops import Operation
from microgrid.ops.ieee import product_error

DIGITS = -math.log10(UNIT)
"""How many digits a float has: 15.95."""

RUNS = 3
"""How often the graph is run with random rounding."""

NOISE = 1.6
"""The ratio of random rounding to rounding: ±2 units in the last place to ±½."""

TINY = 2.0**-960
"""Below this the error of a product is itself rounded away."""

LEAST = math.ulp(0.0)
"""The largest error by underflow."""

MANY_JUMPS = 8
"""How many jumps nearby are tried at most."""

SHOWN = 6
"""How many operations the table shows."""


@dataclass(eq=False)
class Loss:
    """The cost of one operation.

    Attributes:
        node: the node that it made.
        rounding: by how much its own rounding may move the output.
        amplified: by how much errors of its operands move the output, if it makes them larger beside its result.
        digits: how many digits of its operands it loses: the logarithm of that amplification; 0 for none.
        rewrite: an equivalent form that loses nothing, ``"exp(x) - 1 as expm1(x)"``; empty if none is known.
    """

    node: Value
    rounding: float
    amplified: float = 0.0
    digits: float = 0.0
    rewrite: str = ""

    @property
    def cost(self) -> float:
        """By how much the output may be off because of this operation."""
        return max(self.rounding, self.amplified)

    @property
    def is_culprit(self) -> bool:
        """Whether it deserves a sentence: it loses digits, or its result is beyond the floats."""
        return self.digits >= 0.5 or not math.isfinite(self.cost) or bool(self.rewrite)


@dataclass(repr=False)
class Precision(Sheet):
    """The result of ``precision``: how many digits of a number are right, and where the others were lost.

    Attributes:
        title: the expression and its number.
        output: the number.
        digits: how many of its decimal digits are right, up to 15.95: the fewer of ``first_order`` and ``confirmed``.
        first_order: how many by the sum over all roundings.
        confirmed: how many agree between runs with random rounding.
        error: how far the output may be off.
        of_inputs: how many digits could be right if the inputs were known to half a unit in their last place only.
        losses: the operations that cost most, the worst first.
        notes: further remarks.
    """

    columns = ("", "value", "moves the output by", "digits lost here")

    title: str
    output: Value
    digits: float
    first_order: float
    confirmed: float
    error: float
    of_inputs: float
    losses: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def node(self) -> Value | None:
        """The operation that costs most."""
        return self.losses[0].node if self.losses else None

    @property
    def rewrite(self) -> str:
        """The better form of that operation; empty if none is known."""
        return self.losses[0].rewrite if self.losses else ""

    @property
    def sentences(self) -> list[str]:
        """A sentence for each operation that lost digits, the worst first."""
        return [self._sentence(loss) for loss in self._culprits()]

    def _culprits(self) -> list[Loss]:
        """The operations that deserve a sentence; of several with the same remedy the first."""
        culprits = {loss.rewrite or id(loss): loss for loss in reversed(self.losses) if loss.is_culprit}
        return [loss for loss in self.losses if loss in culprits.values()]

    def _badges(self) -> list[Badge]:
        badge = GOOD if self.digits >= 12.0 else ODD if self.digits >= 6.0 else BAD
        return [badge._replace(text=f"{_digits(self.digits)} digits are right")]

    def _rows(self) -> list[Row]:
        rows = []
        for loss in self.losses:
            lost = _digits(loss.digits) if loss.digits >= 0.05 else "—"
            cells = (loss.node.label or operation(loss.node), number(loss.node.data), number(loss.cost, 2), lost)
            rows.append(Row(cells, BAD if loss.digits >= 0.5 else PLAIN, loss.digits >= 3.0))
        return rows

    def _quotes(self, *, pictures: bool = False) -> list[Quote]:
        quotes: list[Quote] = []
        for loss in self._culprits()[:2]:
            details = [("write", loss.rewrite)] if loss.rewrite else []
            if loss.node.origin is not None and loss.node.origin.file:
                details.append(("made at", where(loss.node)))
            picture = picture_of(self.output, loss.node) if pictures and not quotes else ""
            quotes.append(Quote(self._sentence(loss), "", details, picture))
        return quotes

    def _remarks(self) -> list[str]:
        return self.notes

    def _sentence(self, loss: Loss) -> str:
        node, at = loss.node, operation(loss.node)
        if not math.isfinite(node.data):
            return f"{at} is {number(node.data)}."
        if loss.digits < 0.5:
            verb = "underflows" if abs(node.data) < TINY else "rounds"
            return f"{at} {verb} to {number(node.data)}, which moves the output by {number(loss.rounding, 2)}."
        lost = _digits(loss.digits)
        if node.op.name in ("add", "sub"):
            a, b = (number(parent.data, 16) for parent in node.parents)
            return f"{at} cancels {lost} of the digits of its operands, {a} and {b}: {number(node.data)} is left."
        return f"{at} loses {lost} digits: the error of its operands is 10^{lost} times as large beside its result."


def precision(output: Value, *more: Any) -> Precision:
    """Return how many digits of a number are right, and which operations lost the others.

    The inputs, and plain numbers in the graph, are taken as exact; ``of_inputs`` has the cost of half a unit in their
    last place. An operation of your own, or a call of a compiled function, counts as one rounding, whatever
    happens inside. No data and no gradient is changed. Lines are given for nodes made within ``record_lines()``.

    >>> x = mg.Value(1e-8)
    >>> round(mg.precision((1.0 + x) - 1.0).digits)  # of 16
    8

    Args:
        output: the result.
        *more: nothing: a function is called first, ``precision(f(Value(1.0)))``.

    Returns:
        The digits, and the operations that cost most: print it, let a notebook show it, or read its attributes.

    Raises:
        TypeError: if the output is not a Value, or not all.
    """
    if more or not isinstance(output, Value):
        raise TypeError(
            f"precision() takes the Value that was computed; got {ops.short_repr(output)} of type "
            f"{type(output).__name__}{f' and {len(more)} more' if more else ''}: compute with Values, as in "
            "mg.precision(f(mg.Value(1.0)))"
        )
    return _Roundings(output).report()


class _Roundings:
    """A graph as flat lists, with the rounding of each operation.

    Attributes:
        own: how far each node may be off by the rounding of its own operation; 0 where that is exact.
        short: the exact result of its operation minus its number, as far as that is known.
        errors: how far it may be off by all roundings up to it.
        incoming: the same without its own rounding.
        plan: the operations to run again, with how they round.
        gradients: ∂output/∂node, through ``stop_gradient``: rounding does not stop there.
    """

    def __init__(self, output: Value) -> None:
        self.output = output
        self.nodes = topological_order(output)
        position = {node: i for i, node in enumerate(self.nodes)}
        self.values = [node._data for node in self.nodes]
        count = len(self.nodes)
        self.operands: list[tuple[int, ...]] = [()] * count
        self.locals: list[tuple[float, ...]] = [()] * count
        self.own, self.errors, self.incoming, self.short = ([0.0] * count for _ in range(4))
        values, errors = self.values, self.errors
        self.plan: Plan = []
        rules: dict[Operation, Rule] = {}
        for i, node in enumerate(self.nodes):
            if node.first is None:
                continue
            operands = self.operands[i] = tuple([position[parent] for parent in node.parents])
            derivatives = self.locals[i] = (1.0,) if node.op is ops.stop_gradient else node.local_derivatives()
            slopes = dict.fromkeys(operands, 0.0)
            for j, derivative in zip(operands, derivatives, strict=True):
                slopes[j] += derivative  # x · x moves with both at once
            moves = [errors[j] * slope for j, slope in slopes.items() if errors[j] and slope]
            y, op = values[i], node.op
            if op not in rules:
                rules[op] = rounding_rule(op)
            if math.isfinite(y):
                self.own[i], self.short[i] = rules[op](y, [values[j] for j in operands])
            noise = Rounding.NONE if not self.own[i] else Rounding.OPERANDS if rules[op] is _sum else Rounding.RESULT
            self.plan.append((i, forward_of(node), operands, noise))
            if not y and not any(moves) and all(values[j] or errors[j] for j in operands):
                # An operand that is 0 up to an error may be that error, and so may a power of it.
                self.own[i] = max(self.own[i], *[errors[j] for j in operands if not values[j]], 0.0)
            if moves:
                self.incoming[i] = math.hypot(*moves)
                errors[i] = math.hypot(self.own[i], self.incoming[i])
            else:
                errors[i] = self.own[i]
        self.gradients = gradients = [0.0] * count
        gradients[-1] = 1.0
        for i in reversed(range(count)):
            gradient = gradients[i]
            if gradient:
                for j, derivative in zip(self.operands[i], self.locals[i], strict=True):
                    if derivative:
                        gradients[j] += gradient * derivative

    def report(self) -> Precision:
        values, own, y = self.values, self.own, abs(self.values[-1])
        moves = [g * e for g, e in zip(self.gradients, own, strict=True) if e]
        drift = sum(g * s for g, s in zip(self.gradients, self.short, strict=True) if s)
        error = max(math.hypot(*moves), abs(drift)) if moves else 0.0
        confirmed = self.spread()
        inputs = [
            g * x * UNIT for g, x, node in zip(self.gradients, values, self.nodes, strict=True) if node.op is ops.LEAF
        ]
        report = Precision(
            f"Precision of {self.output.label or operation(self.output)} = {number(values[-1])}",
            self.output,
            digits=min(_right(error, y), _right(confirmed, y)),
            first_order=_right(error, y),
            confirmed=_right(confirmed, y),
            error=math.inf if math.isnan(error) else max(error, confirmed),
            of_inputs=_right(math.hypot(*inputs), y),
        )
        overflow = self.overflow()
        if overflow is not None:
            report.digits, report.error = 0.0, math.inf
            report.losses = [Loss(self.nodes[overflow], math.inf)]
        else:
            report.losses = self.losses(report.error)
        for loss in report.losses:
            if loss.digits >= 0.5 or not math.isfinite(loss.cost) or abs(loss.node.data) < TINY:
                loss.rewrite = rewrite(loss.node, self.users)
        report.notes = self.notes(report, overflow)
        return report

    def spread(self) -> float:
        """The spread of runs with random rounding, as in the first order: the root of the mean of squares.

        If rounding may carry an operand to the other side of a jump, which random rounding need not do, the graph
        is run with the other side, too.
        """
        random, y = Random(0), self.values[-1]

        def run(plan: Plan) -> float:
            values = self.values.copy()
            try:
                advance(values, plan, random)
            except (ArithmeticError, ValueError):  # a forward function that does not take what is near its operands
                return math.inf
            return values[-1] - y

        spread = math.hypot(*[run(self.plan) for _ in range(RUNS)]) / math.sqrt(RUNS) / NOISE
        for i, other in self.jumps()[:MANY_JUMPS]:
            step = i, lambda *xs, other=other: other, self.operands[i], Rounding.NONE
            spread = max(spread, abs(run([step if old[0] == i else old for old in self.plan])))
        return math.inf if math.isnan(spread) else spread

    def jumps(self) -> list[tuple[int, float]]:
        """The nodes that jump within three times the error of an operand, each with its number on the other side."""
        found = []
        for i, node in enumerate(self.nodes):
            if node.op.kink is not None and node.first is not None:
                xs = [self.values[j] for j in self.operands[i]]
                for k, j in enumerate(self.operands[i]):
                    if self.errors[j] and not node.op.connected[k] and self.operands[i].count(j) == 1:
                        for x in (xs[k] - 3.0 * self.errors[j], xs[k] + 3.0 * self.errors[j]):
                            other = node.op.forward(*xs[:k], x, *xs[k + 1 :])
                            if other != self.values[i]:
                                found.append((i, other))
        return found

    def overflow(self) -> int | None:
        """The node with the first number that is not finite, if the output depends on one."""
        if all(map(math.isfinite, self.values)):
            return None
        relevant = [False] * len(self.nodes)
        relevant[-1] = True
        worst = None
        for i in reversed(range(len(self.nodes))):
            if relevant[i]:
                if not math.isfinite(self.values[i]):
                    worst = i
                chooses = self.nodes[i].op.kink is not None
                for j, derivative in zip(self.operands[i], self.locals[i], strict=True):
                    relevant[j] |= not chooses or bool(derivative)
        return None if worst is None else first_not_finite(self.values, self.operands)(worst)

    def losses(self, error: float) -> list[Loss]:
        """The operations that cost most: how far they move the output, times the digits that they lose."""
        found = []
        size = UNIT * abs(self.values[-1])
        least = max(1e-3 * error, 1e-3 * size, math.ulp(0.0))
        for i, own in enumerate(self.own):
            gradient, incoming = abs(self.gradients[i]), self.incoming[i]
            rounding, through = gradient * own if own else 0.0, gradient * incoming if incoming else 0.0
            if not max(rounding, through) >= least:
                continue
            digits = self.amplification(i)
            if digits > 0.0:  # at most those that the output has lost
                digits = min(digits, math.log10(max(through / size, 1.0)) if size else DIGITS)
            found.append(Loss(self.nodes[i], rounding, through if digits >= 0.5 else 0.0, digits))
        found = [loss for loss in found if loss.cost]
        return sorted(found, key=lambda loss: -loss.cost * (1.0 + loss.digits))[:SHOWN]

    def amplification(self, i: int) -> float:
        """How many digits of its operands an operation loses; at most those that are right."""
        incoming = self.incoming[i]
        before = max((self.errors[j] / abs(self.values[j]) for j in self.operands[i] if self.values[j]), default=0.0)
        if not before or not incoming:
            return 0.0
        value = abs(self.values[i])
        right = _right(before, 1.0)
        return min(math.log10(max(incoming / value / before, 1.0)), right) if value else right

    @cached_property
    def users(self) -> dict[Value, Value]:
        """For each node the first node computed from it."""
        return {parent: node for node in reversed(self.nodes) for parent in node.parents}

    def notes(self, report: Precision, overflow: int | None) -> list[str]:
        y, notes = self.output.data, []
        if overflow is not None:
            node = self.nodes[overflow]
            what = "was given as" if node.is_leaf else "is"
            notes.append(
                f"{operation(node)} {what} {number(node.data)}: no digit of what is computed from it means anything."
            )
            return notes
        if not any(self.own):
            notes.append("Every operation on the way is exact at this point: there is no rounding at all.")
        elif report.confirmed < report.first_order - 1.0:
            notes.append(
                f"The first order promises {_digits(report.first_order)} digits, but runs with random rounding agree "
                f"in {_digits(report.confirmed)} only: a jump or a bend is as near as the rounding."
            )
        elif y:
            notes.append(f"Runs with random rounding agree in {_digits(report.confirmed)} digits.")
        if report.of_inputs < DIGITS - 0.5:
            notes.append(
                "The inputs are taken as exact. Known to half a unit in their last place only, they would leave "
                f"{_digits(report.of_inputs)} digits, however it is computed."
            )
        hidden = {node.op.name for node in self.nodes if node.first is not None and not ops.in_table(node.op)}
        if hidden:
            notes.append(f"Of {', '.join(sorted(hidden)[:5])} only the rounding of the result is counted.")
        return notes


Rule = Callable[[float, list[float]], tuple[float, float]]
"""``rule(y, xs)`` is how far y may be off by the rounding of its own operation, 0 if that is exact at this point,
and the exact result minus y as far as that is known."""

EXACT = 0.0, 0.0


def rounding_rule(op: Operation) -> Rule:
    """Return how an operation rounds."""
    name = op.name
    if name in _RULES:
        return _RULES[name]
    if name.startswith("sum["):
        return _sum
    if name.startswith(("round[", "mod", "fmod", "remainder")):  # 0.67 is no float, but what is 0 is so exactly
        return lambda y, xs: _once(y, xs) if y else EXACT
    if name in _CHOICES or not any(op.connected):
        return lambda y, xs: EXACT
    if name.startswith(("lgamma", "digamma", "polygamma")):  # sums of terms of size 1, beside which the result is small
        return lambda y, xs: ((1.0 + abs(y)) * 2.0 * UNIT, 0.0)
    return _once


def _once(y: float, xs: list[float]) -> tuple[float, float]:
    if all(x in (0.0, 1.0, -1.0) for x in xs) and (2.0 * y).is_integer():
        return EXACT
    return abs(y) * UNIT + LEAST, 0.0


def _add(y: float, xs: list[float]) -> tuple[float, float]:
    a, b = xs
    rest = y - a
    short = (a - (y - rest)) + (b - rest)
    return (abs(y) * UNIT, short) if short else EXACT


def _sum(y: float, xs: list[float]) -> tuple[float, float]:
    sums = list(accumulate(xs))
    steps = [_add(sums[i], [sums[i - 1], xs[i]]) for i in range(1, len(xs))]
    return math.hypot(*[step[0] for step in steps]), math.fsum(step[1] for step in steps)


def _product(y: float, a: float, b: float) -> float:
    """Return a·b − y exactly, 0 if y is exact; nan if the difference underflows."""
    if TINY < abs(y) < 1.0 / TINY:
        return (a * b - y) + product_error(a, b)
    return math.nan if y or (a and b) else 0.0


def _short(y: float, short: float) -> tuple[float, float]:
    return (abs(y) * UNIT + LEAST, 0.0 if math.isnan(short) else short) if short else EXACT


_RULES: dict[str, Rule] = {
    "add": _add,
    "sub": lambda y, xs: _add(y, [xs[0], -xs[1]]),
    "mul": lambda y, xs: _short(y, _product(y, xs[0], xs[1])),
    "div": lambda y, xs: _short(y, ops.div(-_product(xs[0], y, xs[1]), xs[1])),
    "sqrt": lambda y, xs: _short(y, ops.div(-_product(xs[0], y, y), 2.0 * y)) if y else EXACT,
    "power[2.0]": lambda y, xs: _short(y, _product(y, xs[0], xs[0])),
}
_CHOICES = ("neg", "identity", "abs", "maximum", "minimum", "where", "clip", "finite", "relu", "copysign")


def _right(error: float, size: float) -> float:
    """How many digits of a number of this size are right."""
    if not error:
        return DIGITS
    ratio = error / size if size else math.inf
    return 0.0 if not ratio < 1.0 else min(-math.log10(ratio), DIGITS) if ratio else DIGITS


def _digits(digits: float) -> str:
    return number(round(digits, 1), 3)
