"""Hypothesis strategies for numbers, Values and computation graphs: property tests in five lines.

>>> from hypothesis import given
>>> from microgrid.strategies import expressions
>>> @given(expressions())
... def test_graph_and_plain_numbers_agree(expression):
...     output, leaves = expression.graph()
...     assert output.data == expression(*expression.at)
>>> test_graph_and_plain_numbers_agree()

Random graphs are straight-line programs over earlier results, not trees: a fault in the accumulation of
gradients shows only where a result is *shared*. A program prints as runnable code and shrinks to
fewer steps, to additions and products and to simple numbers, so a failure is a bug report.

Hypothesis finds this module automatically: ``st.from_type(mg.Value)`` works wherever it is installed.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, Signature
from typing import Any, cast

from microgrid import ops
from microgrid.engine import Value, topological_order
from microgrid.environment import require
from microgrid.nn import MLP
from microgrid.ops import Op


def _register() -> None:
    """Register how to draw Values; Hypothesis calls it through its entry point."""
    from hypothesis.strategies import register_type_strategy

    register_type_strategy(Value, lambda _: values())


# Hypothesis calls _register while it is imported, which may be right here
require("hypothesis", "microgrid.strategies", "hypothesis")

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

SMOOTH: tuple[Op, ...] = tuple(op for op in ops.rows() if op.kink is None and op not in (ops.stop_gradient, ops.clip))
"""The rows of the table without a kink, for programs that are differentiated numerically."""


# ---------------------------------------------------------------------------------------------------
# Numbers


def scalars(op: Op | None = None, *, argument: int = 0, near: bool = False) -> SearchStrategy[float]:
    """Draw floats from the domain of an operation's argument: half of them ordinary, half from the whole range.

    Args:
        op: the operation; without one, any finite float.
        argument: which of its arguments.
        near: draw also near the usual places of kinks and poles: the ends of the domain, whole numbers
            and multiples of π/2, these numbers themselves, their neighbouring floats, and 10⁻¹⁶ … 10⁻¹ away.

    Raises:
        ValueError: if the operation has no such argument.
    """
    if op is not None and not 0 <= argument < op.arity:
        raise ValueError(f"{op.name} has the arguments 0 to {op.arity - 1}; got argument={argument}")
    domain = ops.REALS if op is None else op.domain[argument]

    def between(low: float, high: float) -> SearchStrategy[float]:
        return st.floats(
            low,
            high,
            allow_nan=False,
            allow_infinity=False,
            exclude_min=domain.open and low == domain.low and math.isfinite(low),
            exclude_max=domain.open and high == domain.high and math.isfinite(high),
        )

    anywhere = between(domain.low, domain.high)
    ordinary = between(max(domain.low, -10.0), min(domain.high, 10.0)) if domain.low < 10.0 > -domain.high else anywhere
    numbers = ordinary | anywhere
    if near:
        landmarks = {*map(float, range(-4, 5)), *(k * math.pi / 2 for k in range(-4, 5)), domain.low, domain.high}
        close = st.builds(
            _beside, st.sampled_from(sorted(filter(math.isfinite, landmarks), key=abs)), st.integers(-17, 17)
        )
        numbers |= close.filter(domain.__contains__)
    return numbers


def _beside(point: float, distance: int) -> float:
    """Return the point itself for 0, its neighbouring float for ±1, else ±10^(|distance| − 18) from it."""
    if distance == 0:
        return point
    if abs(distance) == 1:
        return math.nextafter(point, distance * math.inf)
    return point + math.copysign(10.0 ** (abs(distance) - 18), distance)


@st.composite
def arguments(draw: DrawFn, op: Op, *, near: bool = False) -> tuple[float, ...]:
    """Draw the arguments of an operation, each in its domain.

    Args:
        draw: given by Hypothesis.
        op: the operation.
        near: draw also near poles, as ``scalars`` does, and on either side of a kink, found by bisection
            of the operation's own ``kink``.
    """
    xs = [draw(scalars(op, argument=i, near=near)) for i in range(op.arity)]
    if near and op.kink is not None and draw(st.booleans()):
        i = draw(st.integers(0, op.arity - 1))
        xs[i] = _bisect_kink(op, xs, i, draw(scalars(op, argument=i)))
    return tuple(xs)


def _bisect_kink(op: Op, xs: list[float], i: int, other: float) -> float:
    """Return, for argument i, a float next to which the branch changes; any float, if it does not."""
    assert op.kink is not None

    def branch(x: float) -> Any:
        return op.kink(*xs[:i], x, *xs[i + 1 :])  # type: ignore[misc]

    low, high = _ordinal(xs[i]), _ordinal(other)
    start = branch(xs[i])
    while abs(high - low) > 1:
        middle = (low + high) // 2
        if branch(_from_ordinal(middle)) == start:
            low = middle
        else:
            high = middle
    return _from_ordinal(low)


def _ordinal(x: float) -> int:
    """The number of floats between 0 and x: neighbours differ by one."""
    bits: int = struct.unpack("<q", struct.pack("<d", x))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _from_ordinal(n: int) -> float:
    x: float = struct.unpack("<d", struct.pack("<q", abs(n)))[0]
    return math.copysign(x, n)


def values(data: SearchStrategy[float] | None = None) -> SearchStrategy[Value]:
    """Draw leaves: Values with a number from ``data``, by default any finite float."""
    return st.builds(Value, scalars() if data is None else data)


# ---------------------------------------------------------------------------------------------------
# Programs


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a program: an operation of earlier results (by position) and constants (floats)."""

    op: Op
    operands: tuple[int | float, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Expression:
    """A straight-line program: leaves, then steps, each an operation of leaves and earlier results.

    It is a function of its leaves: ``expression(*numbers)`` is the last result, for floats, Values, or any
    type that flows through the table of operations, so ``mg.grad(expression)(*expression.at)`` and
    ``mg.check(expression, expression.at)`` work. ``str(expression)`` is code that builds its graph.

    Attributes:
        at: the number of each leaf.
        steps: the lines of the program.
    """

    at: tuple[float, ...]
    steps: tuple[Step, ...]

    def __call__(self, *leaves: Any) -> Any:
        """Return the last result, of leaves of any one number type."""
        return self.results(*leaves)[-1]

    @property
    def __signature__(self) -> Signature:
        """The leaves by their names in the code, which reports use."""
        return Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in self._names()[: len(self.at)]])

    def results(self, *leaves: Any) -> list[Any]:
        """Return the leaves and the result of each step.

        Raises:
            TypeError: for another number of leaves than the program has.
        """
        if len(leaves) != len(self.at):
            raise TypeError(f"this program has {len(self.at)} leaves; got {len(leaves)}")
        results = list(leaves)
        for step in self.steps:
            results.append(step.op(*[results[x] if isinstance(x, int) else x for x in step.operands]))
        return results

    def graph(self) -> tuple[Value, list[Value]]:
        """Return the output of a new graph of this program, and its leaves, labelled as in the code."""
        leaves = [Value(x, label=name) for x, name in zip(self.at, self._names(), strict=False)]
        return self(*leaves), leaves

    @classmethod
    def of(cls, output: Value) -> "Expression":
        """Return the program that computes a Value, from pasted code or any graph."""
        order = [node for node in topological_order(output) if node.op is not ops.CONSTANT]
        order.sort(key=lambda node: not node.is_leaf)
        number = {node: i for i, node in enumerate(order)}
        steps = [Step(cast(Op, v.op), tuple(number.get(p, p.data) for p in v.parents)) for v in order if not v.is_leaf]
        return cls(tuple(v.data for v in order if v.is_leaf), tuple(steps))

    def __str__(self) -> str:
        names = self._names()
        lines = [f"{name} = mg.Value({_number(x)})" for name, x in zip(names, self.at, strict=False)]
        for name, step in zip(names[len(self.at) :], self.steps, strict=True):
            operands = [names[x] if isinstance(x, int) else _number(x) for x in step.operands]
            lines.append(f"{name} = {_code(step.op, operands)}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print each line of code on a line of its own, as Hypothesis reports a failure."""
        with printer.indent(4):
            for line in str(self).splitlines():
                printer.break_()
                printer.text(line)

    def _names(self) -> list[str]:
        """The names a, b, …, z, a1, b1 and so on."""
        count = len(self.at) + len(self.steps)
        return [chr(ord("a") + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]


def _code(op: Op, operands: list[str]) -> str:
    """Return the operation as a user would write it."""
    if op.python:
        return ops.spell(op, "python", *operands)
    if ops.in_table(op):
        if op.operator in ops.ARITHMETIC_OPERATORS:
            return op.operator + operands[0] if op.arity == 1 else f" {op.operator} ".join(operands)
        if op is ops.power and all(operand.isidentifier() for operand in operands):
            return f"{operands[0]} ** {operands[1]}"  # with a constant it would be another row
    if op.recipe is not None:
        factory, constants = op.recipe
        home = "mg.ops." if ops.in_table(op) else ""
        return f"{home}{factory.__name__}({', '.join(map(_number, constants))})({', '.join(operands)})"
    call = f"{op.name}({', '.join(operands)})"
    if getattr(import_module("microgrid"), op.name, None) is op:
        return f"mg.{call}"
    return f"mg.ops.{call}" if op is ops.TABLE.get(op.name) else call


def _number(x: float) -> str:
    if not math.isfinite(x):
        return f'float("{x}")'
    return repr(x) if math.copysign(1.0, x) > 0 else f"({x!r})"


@st.composite
def expressions(
    draw: DrawFn,
    ops: Sequence[Op] | None = None,  # shadows the module: the field's word for a user
    *,
    max_steps: int = 8,
    leaves: int = 3,
    data: SearchStrategy[float] | None = None,
    largest: float = 1e6,
) -> Expression:
    """Draw programs of one to ``max_steps`` operations of up to ``leaves`` leaves, sharing earlier results.

    Every line of a program is used: its output is the result that needs most lines, unused lines are removed.

    Args:
        draw: given by Hypothesis.
        ops: the operations, the simplest first; by default every row of the table. ``SMOOTH`` has those
            without a kink.
        max_steps: the largest number of operations.
        leaves: the largest number of leaves.
        data: the numbers of the leaves and of the constants; by default −3 to 3.
        largest: bounds the magnitude of every result and local derivative; all operands are inside the
            domains, so gradients are finite. ``math.inf`` allows everything, nan and inf too.

    Raises:
        ValueError: for an empty choice of operations, steps or leaves.
    """
    choice = list(_all_rows() if ops is None else ops)
    if not choice or max_steps < 1 or leaves < 1:
        raise ValueError(
            f"a program needs at least one operation, one step and one leaf; got {len(choice)} operations, "
            f"max_steps={max_steps}, leaves={leaves}"
        )
    numbers = st.floats(-3.0, 3.0) if data is None else data.map(float)  # an int among the operands is a reference
    at = draw(st.lists(numbers, min_size=1, max_size=leaves))
    constants = draw(st.lists(numbers, max_size=2))
    results, steps, used = list(at), list[Step](), set[int]()
    for first, references in draw(st.lists(_raw_step(choice), min_size=1, max_size=max_steps)):
        # half of the references go to unused results, the latest as 0, to which Hypothesis shrinks:
        # so few lines are unused
        anything: list[int | float] = [*reversed(range(len(results))), *constants]
        idle = [x for x in anything if x not in used and isinstance(x, int)] or anything
        # from the drawn operation down to the simplest: the first that these operands allow
        for op in choice[first::-1]:
            operands = [
                idle[r % len(idle)] if r < _FAR else anything[(r - _FAR) % len(anything)]
                for r in (*references, *[0] * op.arity)[: op.arity]
            ]
            if not any(isinstance(x, int) for x in operands):
                operands[0] = anything[0]
            xs = [results[x] if isinstance(x, int) else x for x in operands]
            y = op(*xs)
            if largest == math.inf or _is_tame(op, y, xs, largest):
                results.append(y)
                steps.append(Step(op, tuple(operands)))
                used.update(x for x in operands if isinstance(x, int))
                break
    assume(steps)
    return max((_live(at, steps[:n]) for n in range(1, len(steps) + 1)), key=lambda program: len(program.steps))


@st.composite
def _raw_step(draw: DrawFn, choice: list[Op]) -> tuple[int, list[int]]:
    """Draw the number of an operation and of its operands: few draws, so that whole steps shrink away."""
    first = draw(st.integers(0, len(choice) - 1))
    return first, [draw(st.integers(0, 2 * _FAR - 1)) for _ in range(choice[first].arity)]


_FAR = 6
"""From here on a drawn reference is to any result or constant, below to an unused one."""


def _all_rows() -> list[Op]:
    """Every row, addition and multiplication first: programs shrink towards them."""
    simplest = [ops.add, ops.mul, ops.sub, ops.div, ops.neg]
    return simplest + [op for op in ops.rows() if op not in simplest]


def _is_tame(op: Op, y: float, xs: list[float], largest: float) -> bool:
    return all(x in domain for x, domain in zip(xs, op.domain, strict=True)) and all(
        abs(number) <= largest for number in (y, *op.local_derivatives(y, *xs))
    )


def _live(at: Sequence[float], steps: Sequence[Step]) -> Expression:
    """Return the program without the lines and leaves that its last result does not need."""
    needed = {len(at) + len(steps) - 1}
    for i in reversed(range(len(steps))):
        if len(at) + i in needed:
            needed.update(x for x in steps[i].operands if isinstance(x, int))
    number = {old: new for new, old in enumerate(sorted(needed))}
    return Expression(
        tuple(x for i, x in enumerate(at) if i in needed),
        tuple(
            Step(step.op, tuple(number[x] if isinstance(x, int) else x for x in step.operands))
            for i, step in enumerate(steps, start=len(at))
            if i in needed
        ),
    )


# ---------------------------------------------------------------------------------------------------
# Networks


def mlps(
    inputs: SearchStrategy[int] | int | None = None,
    outputs: SearchStrategy[int] | int | None = None,
    *,
    max_hidden: int = 2,
    max_width: int = 4,
) -> SearchStrategy[MLP]:
    """Draw small multi-layer perceptrons, with seeded parameters.

    Args:
        inputs: how many inputs, a number or a strategy; by default 1 to 4.
        outputs: how many outputs; by default 1 to 4.
        max_hidden: the largest number of hidden layers.
        max_width: the largest number of neurons in a hidden layer.
    """
    widths = st.lists(st.integers(1, max_width), max_size=max_hidden)
    sizes = st.builds(lambda hidden, last: [*hidden, last], widths, _count(outputs))
    return st.builds(MLP, _count(inputs), sizes, seed=st.integers(0, 2**32 - 1))


def _count(number: SearchStrategy[int] | int | None) -> SearchStrategy[int]:
    if number is None:
        return st.integers(1, 4)
    return st.just(number) if isinstance(number, int) else number


@st.composite
def batches(
    draw: DrawFn,
    inputs: int,
    *,
    outputs: int = 1,
    classes: int | None = None,
    max_size: int = 8,
    data: SearchStrategy[float] | None = None,
) -> tuple[list[list[float]], list[Any]]:
    """Draw samples X with their targets Y: what a model with so many inputs and outputs is trained on.

    Args:
        draw: given by Hypothesis.
        inputs: how many numbers a sample has.
        outputs: how many numbers a target has: 1 for a plain float, more for a list.
        classes: for classification: how many classes there are; targets are their indices, from 0.
        max_size: the largest number of samples; there is at least one.
        data: the numbers of the samples and targets; by default −3 to 3.
    """
    numbers = st.floats(-3.0, 3.0) if data is None else data
    sample = st.lists(numbers, min_size=inputs, max_size=inputs)
    target: SearchStrategy[Any]
    if classes is not None:
        target = st.integers(0, classes - 1)
    else:
        target = numbers if outputs == 1 else st.lists(numbers, min_size=outputs, max_size=outputs)
    pairs = draw(st.lists(st.tuples(sample, target), min_size=1, max_size=max_size))
    return [x for x, _ in pairs], [y for _, y in pairs]
