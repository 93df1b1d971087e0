"""``check_op``: one operation of the table, or of a user, over its whole domain."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from random import Random
from typing import Any

from microgrid.checking.judging import Primitive
from microgrid.checking.noise import local_derivative
from microgrid.checking.problem import argument_names
from microgrid.checking.report import Derivative, Fault, Report, Verdict, number
from microgrid.engine import Value
from microgrid.ops import Interval, Op, as_float, expand, short_repr
from microgrid.recording import Origin

inf, nan = math.inf, math.nan
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, inf, -inf, nan, 1e308, -1e308, 1e17, 5e-324, -5e-324, 1e-200)
"""The values at which hastily written forward functions and derivatives raise."""

ULPS = 16.0
"""By how many units in the last place two computations of one function may differ."""

FAR = (7.0, 14.0, 21.0, 39.0)
"""How far from 0, on both sides, derivatives are taken where a function may be saturated."""

Point = tuple[float, ...]


def check_op(
    op: Op,
    reference: Callable[..., Any] | None = None,
    *,
    points: int = 40,
    seed: int = 0,
    special: Any = None,
) -> Report:
    """Check one operation over its domain; call it once for each row of your own.

    - ``forward``: a number everywhere in the domain; equal to the reference, if one is given, to 16 units
      in the last place.
    - ``∂y/∂x``: each local derivative against the numeric derivative of ``forward``. It judges the accuracy of the row
      itself: beyond the error of the numeric derivative it allows a relative error of 1e-12, and the effect of half a
      unit in the last place of each argument, 4 · 2⁻⁵³ · Σ |xⱼ ∂²y/∂x∂xⱼ|. Digits that the row itself rounds away,
      as 1 − y² does if y is nearly 1, are a fault. The complex step shows all digits if ``forward`` is a
      function of the math module or of the table, differences some ten.
    - ``∂²y/∂x²``: the local derivatives, computed on Values and differentiated, against differences of
      themselves on floats: gradients of gradients rely on these.
    - ``special values``: at ±0, ±inf, nan, huge and tiny numbers ``forward`` returns a float, and neither it
      nor a derivative nor ``kink`` raises.
    - ``kink``: within one branch, as ``kink`` tells them apart, neither ``forward`` nor a derivative jumps.
    - ``array``: on NumPy arrays its template, function, operator or expansion gives what ``forward`` gives on floats,
      special values included; not checked if it has none of these or NumPy is not installed.

    >>> half = mg.Op("half", lambda x: x / 2, (0.5,))
    >>> bool(mg.check_op(half))
    True

    Args:
        op: the row.
        reference: the definition to compare ``forward`` with, a function of floats.
        points: the number of points of the domain for the first derivatives; a few far from 0 are added.
        seed: for the choice of points.
        special: the functions on arrays that NumPy lacks, as attributes: ``special`` in a template.

    Returns:
        The report: one row for each of these, at the worst point. A row passes if no point fails and at least
        half of the points are decided.

    Raises:
        TypeError: if ``op`` is not an operation, ``reference`` not a function, or ``seed`` not a whole number.
        ValueError: if ``points`` is not a whole number of at least 1.
    """
    if not isinstance(op, Op):
        raise TypeError(f"check_op() takes an operation, as in mg.Op('double', ...); got {op!r}")
    if reference is not None and not callable(reference):
        raise TypeError(f"reference={short_repr(reference)}: give the definition as a function of floats")
    if not isinstance(points, int) or points < 1:
        raise ValueError(f"points={short_repr(points)}: give the number of points, a whole one of at least 1")
    if not isinstance(seed, int):
        raise TypeError(f"seed={short_repr(seed)}: give a whole number; the same one chooses the same points")
    return _OperationCheck(op, seed).report(reference, points, special)


class _OperationCheck:
    def __init__(self, op: Op, seed: int) -> None:
        self.op = op
        self.seed = seed
        self.names = argument_names(op)
        self.fault: Fault | None = None
        self.notes: list[str] = []

    def report(self, reference: Callable[..., Any] | None, count: int, special: Any) -> Report:
        points = self._points(count)
        rows = [self._forward(points, reference)]
        usable = [xs for xs in points if math.isfinite(self._y(xs))]
        arguments = range(self.op.arity)
        for i in arguments:
            name = f"∂y/∂{self.names[i]}"
            found = [self._first(xs, i, name) for xs in usable]
            far = [self._first(xs, i, name) for xs in self._far_points() if math.isfinite(self._y(xs))]
            rows.append(self._worst(name, i, [*found, *[row for row in far if row.verdict is Verdict.FAIL]]))
        pairs = list(itertools.product(arguments, arguments))
        if any(row.verdict is Verdict.FAIL for row in rows):
            pairs = []
            self.notes.append("second derivatives were not checked: the first are wrong")
        for i, j in pairs:
            name = f"∂²y/∂{self.names[i]}" + ("²" if i == j else f"∂{self.names[j]}")
            rows.append(self._worst(name, i, [self._second(xs, i, j, name) for xs in usable[::3]]))
        rows.append(self._special_values())
        rows.append(self._kinks())
        rows += self._array(points, special)
        return Report(self.op.name, rows, self.fault, self.fault.node if self.fault else None, self.notes)

    def _y(self, xs: Point) -> float:
        try:
            return as_float(self.op.forward(*xs))
        except Exception:
            return nan

    def _points(self, count: int) -> list[Point]:
        random = Random(self.seed)
        columns = [_points_of(interval, random) for interval in self.op.domain]
        return [tuple(map(next, columns)) for _ in range(count)]

    def _far_points(self) -> list[Point]:
        """Points where functions saturate, whose derivatives are lost first."""
        starts = [min(max(0.0, interval.low), interval.high) for interval in self.op.domain]
        far = [
            tuple([start + sign * distance / (1 + i) for i, start in enumerate(starts)])
            for sign, distance in itertools.product((1.0, -1.0), FAR)
        ]
        return [xs for xs in far if all(map(Interval.__contains__, self.op.domain, xs))]

    # -- forward and derivatives -----------------------------------------------------------------------

    def _forward(self, points: list[Point], reference: Callable[..., Any] | None) -> Derivative:
        results = []
        for xs in points:
            try:
                y = as_float(self.op.forward(*xs))
                right = y if reference is None else as_float(reference(*xs))
            except Exception as error:
                return self._failed("forward", xs, f"forward{_call(xs)} raises {type(error).__name__}: {error}")
            if math.isnan(y) and not (reference and math.isnan(right)):
                what = f"forward{_call(xs)} is nan inside the domain: narrow the domain, or define it there"
                return self._failed("forward", xs, what, y, right)
            row = _compared("forward", xs, y, right)
            if not row.error <= row.allowed:
                what = f"forward{_call(xs)} is {number(y)}; its definition gives {number(right)}"
                return self._failed("forward", xs, what, y, right, row.allowed)
            results.append(row)
        worst = _nearest_to_failing(results)
        worst.reason = "" if reference else "no reference was given; it is a number everywhere in the domain"
        return worst

    def _first(self, xs: Point, i: int, name: str) -> Derivative:
        return self._guarded(name, xs, lambda: Primitive(self.op, xs, self.seed).first(i, name, own=True))

    def _second(self, xs: Point, i: int, j: int, name: str) -> Derivative:
        return self._guarded(name, xs, lambda: Primitive(self.op, xs, self.seed).second(i, j, name))

    def _guarded(self, name: str, xs: Point, judged: Callable[[], Derivative]) -> Derivative:
        try:
            return judged()
        except Exception as error:  # an exception of a user's partial is a finding, not a crash
            reason = f"at {_call(xs)} it raises {type(error).__name__}: {error}"
            return Derivative(name, xs, nan, nan, inf, Verdict.FAIL, reason)

    def _worst(self, name: str, argument: int, rows: list[Derivative]) -> Derivative:
        """One row for all points: the first that fails, else the one nearest to failing."""
        counts = Counter(row.verdict for row in rows)
        failed = next((row for row in rows if row.verdict is Verdict.FAIL), None)
        if failed is not None:
            what = failed.reason or (
                f"{name} is wrong at {_call(failed.value)}: the row gives {number(failed.backward)}, "
                f"right is {number(failed.numeric)}; so at {counts[Verdict.FAIL]} of {len(rows)} points"
            )
            return self._failed(
                name, failed.value, what, failed.backward, failed.numeric, failed.allowed, argument=argument
            )
        decided = [row for row in rows if row.verdict is Verdict.PASS]
        others = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if verdict is not Verdict.PASS)
        if 2 * len(decided) < len(rows) or not rows:
            return Derivative(name, (), nan, nan, inf, Verdict.UNRESOLVED, f"of {len(rows)} points: {others or 'none'}")
        worst = _nearest_to_failing(decided)
        worst.reason = f"{len(decided)} of {len(rows)} points agree; {others}" if others else ""
        return worst

    def _failed(
        self,
        name: str,
        xs: Any,
        what: str,
        given: float = nan,
        right: float = nan,
        allowed: float = inf,
        argument: int | None = None,
    ) -> Derivative:
        """A row that fails; the first one is the fault of the report."""
        if self.fault is None:
            node = Value(self._y(xs))
            node.op = self.op
            node.origin = Origin()  # nobody's line made it
            operands = [Value(x, label=label) for label, x in zip(self.names, xs, strict=True)]
            node.first, node.second = (*operands, None, None)[:2]
            node.others = tuple(operands[2:])
            self.fault = Fault(node, argument, given, right, what)
        return Derivative(name, tuple(xs), given, right, allowed, Verdict.FAIL, what)

    # -- special values ----------------------------------------------------------------------------------

    def _special_points(self) -> Iterable[Point]:
        if self.op.arity <= 2:
            return itertools.product(SPECIAL, repeat=self.op.arity)
        random = Random(self.seed)
        return [tuple(random.choice(SPECIAL) for _ in range(self.op.arity)) for _ in range(300)]

    def _special_values(self) -> Derivative:
        name = "special values"
        for xs in self._special_points():
            doing = f"forward{_call(xs)}"
            try:
                y = self.op.forward(*xs)
                if type(y) is not float:
                    return self._failed(name, xs, f"{doing} is {y!r} of type {type(y).__name__}; it must be a float")
                for i in range(self.op.arity):
                    doing = f"the local derivative by {self.names[i]} at {_call(xs)}"
                    local_derivative(self.op, i, y, list(xs))
                doing = f"a local derivative on Values at {_call(xs)}"
                self.op.local_derivatives(Value(y), *map(Value, xs))
                doing = f"kink{_call(xs)}"
                hash(self.op.kink(*xs) if self.op.kink else None)
            except Exception as error:
                what = f"{doing} raises {type(error).__name__}: {error}; return inf or nan instead"
                return self._failed(name, xs, what)
        return Derivative(name, (), nan, nan, 0.0, Verdict.PASS)

    # -- kinks ---------------------------------------------------------------------------------------------

    def _kinks(self) -> Derivative:
        """Search for a jump of the function or of a derivative that the predicate does not declare."""
        for xs in self._points(6):
            for i, interval in enumerate(self.op.domain):
                line = sorted(itertools.islice(_points_of(interval, Random(self.seed)), 40))
                for (low, high), quantity in itertools.product(itertools.pairwise(line), range(-1, self.op.arity)):
                    x = self._jump(xs, i, low, high, quantity)
                    if x is not None:
                        at = (*xs[:i], x, *xs[i + 1 :])
                        jumping = "the function" if quantity < 0 else f"∂y/∂{self.names[quantity]}"
                        predicate = "there is no kink predicate" if self.op.kink is None else "kink() sees no change"
                        what = f"{jumping} jumps at {_call(at)}, and {predicate}: tell the two branches apart"
                        return self._failed("kink", at, what)
        return Derivative("kink", (), nan, nan, 0.0, Verdict.PASS)

    def _jump(self, xs: Point, i: int, low: float, high: float, quantity: int) -> float | None:
        """Find where a quantity (−1: the function, k: its local derivative by argument k) jumps in an interval.

        Bisection keeps the half with the larger change. Between two neighbouring floats the change of a smooth quantity
        vanishes, a jump remains. Beyond a million it is a pole, not a kink.
        """

        def at(x: float) -> tuple[float, Any]:
            point = [*xs[:i], x, *xs[i + 1 :]]
            y = self.op.forward(*point)
            value = y if quantity < 0 else local_derivative(self.op, quantity, y, point)
            return value, self.op.kink(*point) if self.op.kink else None

        try:
            (left, branch), (right, other) = at(low), at(high)
            size = 1.0
            while branch == other and 1e-6 * size < abs(right - left):
                middle = low + 0.5 * (high - low)
                if middle in (low, high):
                    return min(low, high, key=lambda x: len(repr(x))) if max(abs(left), abs(right)) < 1e6 else None
                value, between = at(middle)
                size = max(size, abs(left), abs(value), abs(right))  # of a large number a jump of 1e-6 may be rounding
                if abs(value - left) >= abs(right - value):
                    high, right, other = middle, value, between
                else:
                    low, left, branch = middle, value, between
        except Exception:  # special values and derivatives report exceptions
            pass
        return None

    # -- the lowering ----------------------------------------------------------------------------------------

    def _array(self, points: list[Point], special: Any) -> list[Derivative]:
        op, name = self.op, "array"
        if not (op.array or op.ufunc or op.operator or op.expansion):
            self.notes.append("it has no form on arrays, so compiled programs call forward for each number")
            return []
        if find_spec("numpy") is None:
            self.notes.append("the form on arrays was not checked: NumPy is not installed")
            return []
        import numpy

        every = [*points, *self._special_points()]
        try:
            with numpy.errstate(all="ignore"):
                lowered = _on_arrays(op, list(numpy.array(every).T), numpy, special)
            results = [float(y) for y in numpy.broadcast_to(lowered, (len(every),))]
        except LookupError as error:
            self.notes.append(f"the form on arrays was not checked: {error.args[0]}")
            return []
        except Exception as error:
            what = f"the template {op.array!r}" if op.array else "the form on arrays"
            return [self._failed(name, every[0], f"{what} raises {type(error).__name__}: {error}")]
        rows = []
        for xs, y in zip(every, results, strict=True):
            row = _compared(name, xs, y, self._y(xs))
            if not row.error <= row.allowed:
                form = "the template" if op.array else "the form on arrays"
                what = f"{form} gives {number(y)} at {_call(xs)}, forward gives {number(row.numeric)}"
                return [self._failed(name, xs, what, y, row.numeric, row.allowed)]
            rows.append(row)
        return [_nearest_to_failing(rows)]


def _on_arrays(op: Op, columns: Sequence[Any], numpy: Any, special: Any) -> Any:
    """Compute a row on arrays as a compiled program does.

    Raises:
        LookupError: if that takes functions that neither NumPy nor ``special`` has, naming them.
    """
    if op.array:
        if special is None and "special" in op.array:
            raise LookupError("it needs special=, the functions that NumPy lacks")
        template = op.array.format(*[f"(x[{i}])" for i in range(op.arity)])
        return eval(template, {"xp": numpy, "special": special, "x": columns})
    if op.operator:
        text = f" {op.operator} ".join([f"x[{i}]" for i in range(op.arity)])
        return eval(text if op.arity > 1 else op.operator + text, {"x": columns})
    constants = op.recipe[1] if op.recipe is not None else ()
    for functions in (special, numpy):
        function = getattr(functions, op.ufunc or "-", None)
        # a row that has an expansion may only by chance have the name of a NumPy function that is no ufunc
        if function is not None and (functions is special or isinstance(function, numpy.ufunc) or not op.expansion):
            return function(*constants, *columns)
    if op.expansion is not None:
        return expand(op, lambda row, xs: _on_arrays(row, xs, numpy, special), columns)
    raise LookupError(f"it needs special=, the functions that NumPy lacks, such as {op.ufunc}")


def _compared(name: str, xs: Point, y: float, right: float) -> Derivative:
    """A row for two computations of one function."""
    allowed = ULPS * math.ulp(right) if math.isfinite(right) else 0.0
    return Derivative(name, xs, y, right, allowed, Verdict.PASS)


def _nearest_to_failing(rows: list[Derivative]) -> Derivative:
    return max(rows, key=lambda row: row.error and row.error / row.allowed)


def _call(xs: Any) -> str:
    return f"({', '.join(number(x, 17) for x in xs)})"


def _points_of(interval: Interval, random: Random) -> Iterator[float]:
    """Yield points of an interval: ordinary ones, and some of every order of magnitude from its ends or 0."""
    nearest = min(max(0.0, interval.low), interval.high)
    reach = min(4.0, interval.high - interval.low)
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)] or [0.0]
    while True:
        x = nearest + random.uniform(-reach, reach)
        if random.random() < 0.3:
            distance = math.ldexp(random.uniform(1.0, 2.0), random.randint(-20, 8))
            x = random.choice(ends) + random.choice((distance, -distance))
        if x in interval:
            yield x
