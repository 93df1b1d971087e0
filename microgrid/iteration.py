"""Loops of which a step is traced once where they are compiled: over inputs, or until a condition holds.

The number of steps of a loop with a condition depends on the data, and in a batch on the sample.
"""

import inspect
from collections.abc import Callable, Iterable
from math import isqrt
from operator import index
from typing import Any, Literal, TypeVar

from microgrid import ops
from microgrid.calculus import flatten, jacobian
from microgrid.engine import Value
from microgrid.recording import loops, no_grad

State = TypeVar("State")
Output = TypeVar("Output")
_Number = Any
"""A float or a Value."""
_Numbers = list[_Number]
_Step = Callable[[_Numbers], _Numbers]
_Condition = Callable[[_Numbers, _Numbers], _Number]

_ORDERS = 3
"""The number of recorded steps of Newton's method: up to this order the derivatives of a solution are exact."""


def scan(
    step: Callable[[Any, Any], tuple[Any, Output]],
    state: State,
    inputs: Iterable[object],
    *,
    checkpoint: int | Literal["sqrt"] | None = None,
) -> tuple[State, list[Output]]:
    """Return the last state of a loop over inputs, and what each step gives: ``state, output = step(state, input)``.

    >>> def decay(level, dose):
    ...     level = 0.5 * level + dose
    ...     return level, level
    >>> mg.scan(decay, 0.0, [8.0, 0.0, 4.0])
    (6.0, [8.0, 4.0, 6.0])

    Eagerly it is this loop::

        outputs = []
        for x in inputs:
            state, output = step(state, x)
            outputs.append(output)

    An ordinary ``for`` compiles to a loop, too, but all of its steps are traced. Here one is, whatever the number of
    inputs: so a long loop compiles quickly, and in memory linear in steps times state. Derivatives of any order go
    through all steps, by parameters, the state and the inputs. A loop in a step of a loop is one, too, whose steps are
    run again on the way back. All steps are traced where a derivative is taken within the compiled function, and where
    a step chooses by ``take`` among results of earlier ones: nothing may flow back to what a later one did not choose.

    For the gradient all states are stored, and what is computed for all steps at once. With ``checkpoint=k`` the loop
    is one over stretches of k steps: the state before each is stored, and on the way back the stretch is run again from
    there, so that some n/k + k states are stored instead of n, for one more run of the steps; fewest by ``"sqrt"``,
    k = ⌈√n⌉ (A. Griewank, A. Walther, *Evaluating Derivatives*, 2008, chapter 12). Gradients are the same but for the
    order in which they are added up. An output that is used is stored for each step: for a sum of them add up in the
    state. Eagerly every node stays and ``checkpoint`` changes nothing, nor where a derivative is taken within the
    compiled function.

    Args:
        step: the next state, of the structure of ``state``, and an output, from a state and an input. It may use any
            Values from outside. Output that is not needed is ``None``.
        state: the first one: a number, or lists, tuples, dicts of numbers, nested as you like.
        inputs: one for each step, all of one structure of numbers: a list, an array's first axis, ``zip(xs, ys)`` of
            several, ``range(n)`` to count.
        checkpoint: the number of steps in a stretch of a compiled loop, ``"sqrt"``, or None: one stretch.

    Raises:
        TypeError: if ``step`` is no function, ``inputs`` cannot be iterated, or a part of a structure is
            not a number.
        ValueError: if ``step`` returns anything but a state of the structure that it is given, and an output; if the
            inputs of a loop that is compiled differ in structure; or if ``checkpoint`` is none of these.
    """
    if not callable(step):
        raise TypeError(f"scan() takes a function from a state and an input; got {ops.short_repr(step)}")
    if not hasattr(type(inputs), "__iter__") and not hasattr(type(inputs), "__getitem__"):
        raise TypeError(
            f"scan() takes an input for each step, as a list has them; got {ops.short_repr(inputs)}: for n steps "
            "without one take range(n)"
        )
    entries = [*inputs]
    length = _stretch(checkpoint, len(entries))
    numbers, rebuild, structure = _parts(state)
    put_together: list[Callable[[_Numbers], Output]] = []

    def advance(before: _Numbers, given: object) -> tuple[_Numbers, Output]:
        found = step(rebuild(before), given)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise ValueError(f"step must return a pair, (state, output); it returned {ops.short_repr(found)}")
        return _of_structure(structure, found[0], state), found[1]

    recorded = loops.get()
    if recorded is None or not entries:
        outputs = []
        for entry in entries:
            numbers, output = advance(numbers, entry)
            outputs.append(output)
        return rebuild(numbers), outputs

    rows, again, first = [], *_parts(entries[0])[1:]
    for entry in entries:
        mine, _, its = _parts(entry)
        if its != first:
            raise ValueError(
                "scan() takes inputs of one structure where it is compiled; got "
                f"{ops.short_repr(entries[0])} and {ops.short_repr(entry)}"
            )
        rows.append(mine)

    def traced(before: _Numbers, given: _Numbers) -> tuple[_Numbers, _Numbers]:
        after, output = advance(before, again(given))
        mine, rebuild_output, _ = _parts(output)
        put_together.append(rebuild_output)
        return after, mine

    numbers, given = recorded.in_stretches(traced, numbers, rows, length)
    return rebuild(numbers), [put_together[-1](mine) for mine in given]


def _stretch(checkpoint: Any, steps: int) -> int:
    """Return of how many steps a stretch is, between two states that are stored."""
    if checkpoint is None:
        return max(steps, 1)
    if isinstance(checkpoint, str) and checkpoint == "sqrt":
        return isqrt(max(steps - 1, 0)) + 1
    if isinstance(checkpoint, bool) or not hasattr(type(checkpoint), "__index__") or (length := index(checkpoint)) < 1:
        raise ValueError(
            "checkpoint must be None, 'sqrt' or a positive integer, the number of steps between two states that are "
            f"stored; got {ops.short_repr(checkpoint)}: for some √n take 'sqrt'"
        )
    return length


def _parts(structure: object) -> tuple[_Numbers, Callable[[_Numbers], Any], str]:
    """Return the numbers of a structure, what puts others in their place, and what it looks like; None has none."""
    if structure is None:
        return [], lambda _: None, "None"
    numbers, rebuild = flatten(structure)
    for number in numbers:
        if number is None:
            raise TypeError(
                f"None may be a whole input or output, but not a part of one; got {ops.short_repr(structure)}"
            )
        if not isinstance(number, Value):
            ops.as_float(number)
    return numbers, rebuild, repr(rebuild(range(len(numbers))))


def _of_structure(structure: str, found: object, like: object) -> _Numbers:
    """Return the numbers of a state that a step returned, if it is of the structure that the step was given."""
    after, _, its = _parts(found)
    if its != structure:
        raise ValueError(
            f"step must return a state of the structure that it is given, as {ops.short_repr(like)}; it returned "
            f"{ops.short_repr(found)}"
        )
    return after


def iterate(
    step: Callable[[Any], Any], state: State, *, until: Callable[..., Any], at_most: int, implicit: bool = False
) -> State:
    """Return the state in which a loop ends: ``state = step(state)``, again and again, until a condition holds.

    An ``until`` of one argument, the state, is tested before each step, as ``while`` does: a start that satisfies it is
    the result. One of two arguments, the states before and after a step, is tested after each step.

    >>> def newton(x):
    ...     return (x + 2.0 / x) / 2.0
    >>> mg.iterate(newton, 1.0, until=lambda before, after: abs(after - before) < 1e-15, at_most=50)
    1.414213562373095

    Eagerly it is an ordinary loop. Compiled it is one operation, whose step is traced once: each sample of a
    batch stops when its own condition holds, and the loop when it holds for all. In a compiled ``until`` comparisons
    are operations; join them by ``mg.minimum`` and ``mg.maximum``, not by ``and`` and ``or``.

    Derivatives go through the steps that were made and treat their number as a constant. *Implicit* ones are those of
    the solution x of x = F(x, θ), however it was found: ẋ = (I − ∂F/∂x)⁻¹ · ∂F/∂θ · θ̇. They store no step, and
    nothing flows back to the start. They are exact up to the third order: the loop is then a constant, followed by
    three steps x + (I − ∂F/∂x)⁻¹ (F(x, θ) − x) with a constant inverse, each of which makes one more order exact
    (A. Griewank, A. Walther, *Evaluating Derivatives*, 2008, chapter 15; B. Christianson, *Reverse accumulation and
    attractive fixed points*, 1994). The inverse takes a small multiple of n³ operations for n numbers.

    Args:
        step: the next state from a state, of the same structure. It may use any Values from outside.
        state: the first one: a number, or lists, tuples, dicts of numbers, nested as you like.
        until: the condition: a comparison of numbers.
        at_most: the largest number of steps; the loop then ends with the present state. To notice that, test ``until``
            on the result, or count in the state: ``(x, n)``. Compiled code has memory for so many states.
        implicit: take the derivatives of a fixed point of ``step``, which must be found to its last digits or nearly.

    Raises:
        ArithmeticError: if ``implicit`` is asked for and the condition does not hold after ``at_most`` steps; the
            result of a compiled function is nan then.
        TypeError: if ``step`` or ``until`` is no function, or ``until`` takes neither one argument nor two.
        ValueError: if ``step`` returns another structure, or ``at_most`` is not a positive integer.
    """
    if not callable(step):
        raise TypeError(f"iterate() takes a function from a state to the next one; got {ops.short_repr(step)}")
    looks_back = _looks_back(until)
    if isinstance(at_most, bool) or not hasattr(type(at_most), "__index__") or (at_most := index(at_most)) < 1:
        raise ValueError(f"at_most must be a positive integer, the largest number of steps; got {at_most!r}")
    numbers, rebuild, structure = _parts(state)
    if not numbers:
        raise ValueError(f"iterate() takes a state of one number or more; got {state!r}")

    def advance(before: _Numbers) -> _Numbers:
        return _of_structure(structure, step(rebuild(before)), state)

    def ends(before: _Numbers, after: _Numbers) -> _Number:
        return until(rebuild(before), rebuild(after)) if looks_back else until(rebuild(after))

    recorded = loops.get()
    if not implicit:
        return rebuild((recorded.iterate if recorded else _run)(advance, ends, looks_back, numbers, at_most)[0])  # type: ignore[no-any-return]
    if recorded is not None:
        found, ended = recorded.iterate(advance, ends, looks_back, numbers, at_most)
        solution = [ops.where(ended, ops.stop_gradient(x), ops.nan) for x in found]
    else:
        with no_grad():
            found, ended = _run(advance, ends, looks_back, [getattr(x, "_data", x) for x in numbers], at_most)
        solution = [getattr(x, "_data", x) for x in found]
        if not ended:
            raise ArithmeticError(
                f"iterate(): until does not hold after at_most={at_most} steps, so there is no solution by which "
                f"implicit derivatives could be taken; the state is {ops.short_repr(rebuild(solution))}: allow more "
                "steps, or a condition that rounding lets hold"
            )
    return rebuild(_solved(advance, solution))  # type: ignore[no-any-return]


def _looks_back(until: object) -> bool:
    """Whether a condition takes the states before and after a step."""
    if not callable(until):
        raise TypeError(
            f"until must be a function of a state, or of the last and the next; got {ops.short_repr(until)}"
        )
    try:
        parameters = [*inspect.signature(until).parameters.values()]
    except ValueError:  # a function written in C
        parameters = []
    named = [x for x in parameters if x.kind in (x.POSITIONAL_ONLY, x.POSITIONAL_OR_KEYWORD) and x.default is x.empty]
    if len(named) not in (1, 2):
        raise TypeError(
            "until must take one argument, the state, or two, the last and the next one, without defaults; "
            f"{ops.short_repr(until)} does not"
        )
    return len(named) == 2


def _run(step: _Step, ends: _Condition, looks_back: bool, state: _Numbers, at_most: int) -> tuple[_Numbers, bool]:
    """Return the last state, and whether the condition holds there: an ordinary loop."""
    ended = not looks_back and _holds(ends, state, state)
    for _ in range(at_most):
        if ended:
            break
        before, state = state, step(state)
        ended = _holds(ends, before, state)
    return state, ended


def _holds(ends: _Condition, before: _Numbers, after: _Numbers) -> bool:
    """Whether a condition holds, computed without a graph."""
    with no_grad():
        return bool(ends(before, after))


def _solved(step: _Step, solution: _Numbers) -> _Numbers:
    """Return a constant solution of x = step(x) with its derivatives by everything else that a step reads."""
    slopes = [[_still(x) for x in row] for row in jacobian(step)(solution)]
    inverse = _inverse([[float(i == j) - x for j, x in enumerate(row)] for i, row in enumerate(slopes)])
    state = solution
    for _ in range(_ORDERS):
        moved = [x - y for x, y in zip(step(state), state, strict=True)]
        state = [y + ops.dot(row, moved) for y, row in zip(state, inverse, strict=True)]
    return state


def _still(x: _Number) -> _Number:
    """The number as a constant to derivatives; a float if it is known."""
    return ops.stop_gradient(x) if loops.get() is not None else getattr(x, "_data", x)


def _inverse(matrix: list[_Numbers]) -> list[_Numbers]:
    """Return the inverse of a matrix of floats or Values: elimination with the largest pivots, without a branch."""
    size = len(matrix)
    rows = [[*row, *[float(i == j) for j in range(size)]] for i, row in enumerate(matrix)]
    for k in range(size):
        for i in range(k + 1, size):
            larger = ops.greater(ops.absolute(rows[i][k]), ops.absolute(rows[k][k]))
            pair = [*zip(rows[k], rows[i], strict=True)]
            rows[k] = [ops.where(larger, b, a) for a, b in pair]
            rows[i] = [ops.where(larger, a, b) for a, b in pair]
        rows[k] = [ops.div(x, rows[k][k]) for x in rows[k]]
        for i in range(size):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]
