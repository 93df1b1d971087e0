"""Eight exercises, from a ``Value`` of your own to attention: each takes your function and answers.

>>> from microgrid import exercises
>>> def backward(x, dout):
...     return dout if x > 0 else 0.0
>>> exercises.relu(backward)
✓ relu: right in all 5 cases

An answer is true if all is right, so ``assert exercises.relu(backward)`` is a test. If not, it shows the first case
that differs, of cases that grow from the smallest: its inputs, your numbers and the right ones, and a hint; in a
notebook also the graph, where there is one, with your number at the place where it is wrong. They follow chapter 5 of
*Deep Learning from Scratch* (K. Saitoh, O'Reilly), 6.1 for momentum, and Vaswani et al. (2017) for attention.
"""

import html
import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from microgrid import losses, ops
from microgrid.calculus import grad
from microgrid.engine import Value
from microgrid.ops import short_repr

_TOLERANCE = 1e-9
"""The allowed error, relative to the largest number: equivalent formulas round differently."""


@dataclass(frozen=True)
class Answer:
    """The answer of an exercise; true if all is right.

    Attributes:
        exercise: its name.
        cases: how many were tried.
        case: the smallest case that went wrong, as a call; empty if none did.
        yours: the result of your function there, or the error that it raised.
        right: the right result.
        hint: a hint.
        graph: the output of that case, or several, if it is a graph.
        wrong: the Value whose number or gradient is wrong, if it is known.
        said: your number there.
    """

    exercise: str
    cases: int
    case: str = ""
    yours: str = ""
    right: str = ""
    hint: str = ""
    graph: Value | list[Value] | None = None
    wrong: Value | None = None
    said: str = ""

    def __bool__(self) -> bool:
        return not self.case

    def __repr__(self) -> str:
        if self:
            return f"✓ {self.exercise}: right in all {self.cases} cases"
        lines = [f"✗ {self.exercise}: {self.case}", f"  yours: {self.yours}", f"  right: {self.right}"]
        return "\n".join([*lines, f"  {self.hint}"])

    def _repr_html_(self) -> str:
        """The same for a notebook, with the picture of the graph, where your number stands at the wrong place."""
        from microgrid.drawing import draw

        text = f"<pre>{html.escape(repr(self))}</pre>"
        mark = None if self.wrong is None else {self.wrong: f"yours: {self.said}"}
        return text if self.graph is None else text + draw(self.graph, mark=mark).svg


@dataclass(frozen=True)
class _Case:
    """One call: its arguments as numbers or lists of numbers, the right result, a hint, and the graph behind it."""

    arguments: tuple[Any, ...]
    right: Any
    hint: str
    graph: Value | list[Value] | None = None
    places: Sequence[Value] = ()  # for each number of the answer the node that it is about
    call: str = ""  # how the case reads, unless as the call of a function


def _judged(exercise: str, function: Callable[..., Any], cases: Iterable[_Case]) -> Answer:
    """Call a function with each case; stop at the first that differs."""
    count = 0
    if not callable(function):
        raise TypeError(f"exercises.{exercise} takes your function or class itself; got {short_repr(function)}")
    for count, case in enumerate(cases, 1):
        call = case.call or f"{getattr(function, '__name__', 'yours')}({', '.join(map(_text, case.arguments))})"
        try:
            yours = _plain(function(*case.arguments))
        except Exception as error:  # whatever a learner's function raises is part of the answer
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
            place = f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
            raised = f"{type(error).__name__}: {error}{place}"
            return Answer(exercise, count, call, raised, _text(case.right), case.hint, case.graph)
        different = _different(yours, case.right)
        if different is not None:
            known = 0 <= different < len(case.places)
            wrong, said = (case.places[different], _text(_flat(yours)[different])) if known else (None, "")
            shown = "None: is there a return?" if yours is None else _text(yours)
            return Answer(exercise, count, call, shown, _text(case.right), case.hint, case.graph, wrong, said)
    return Answer(exercise, count)


def _plain(x: Any) -> Any:
    """Return numbers for Values and lists for arrays and tuples, within each other."""
    if isinstance(x, Value):
        return x.data
    if hasattr(x, "tolist"):
        return x.tolist()
    if isinstance(x, dict):
        return {name: _plain(part) for name, part in x.items()}
    return [_plain(part) for part in x] if isinstance(x, (list, tuple, set)) else x


def _flat(x: Any) -> list[Any]:
    if isinstance(x, dict):
        return _flat(list(x.values()))
    return [number for part in x for number in _flat(part)] if isinstance(x, list) else [x]


def _different(yours: Any, right: Any) -> int | None:
    """Return the position of the first number that differs, −1 if the shape does; ``None`` if all are right."""
    given, expected = _flat(yours), _flat(right)
    if len(given) != len(expected) or isinstance(yours, list) != isinstance(right, list):
        return -1
    scale = max(map(abs, expected), default=0.0)
    for i, (a, b) in enumerate(zip(given, expected, strict=True)):
        if not ops.is_number(a) or not abs(a - b) <= _TOLERANCE * scale:
            return i
    return None


def _text(x: Any) -> str:
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(_text, x))}]"
    if isinstance(x, dict):
        return ", ".join(f"{name} = {_text(part)}" for name, part in x.items())
    if isinstance(x, float):
        return f"{x:.6g}"
    return getattr(x, "name", "") or getattr(x, "__name__", str(x)).lstrip("_")


# ---------------------------------------------------------------------------------------------------
# The exercises


def value(yours: Callable[[float], Any]) -> Answer:
    """Write a class ``Value(data)`` with ``data``, ``grad``, ``+``, ``*`` and ``backward()`` (chapters 5.1 to 5.3).

    Each case is a formula of one or two Values, whose result and gradients are compared.
    """
    sort = "A node may send back only when all that use it have sent: sort the graph."
    formulas: list[tuple[str, Callable[..., Any], str]] = [
        ("a + b", lambda a, b: a + b, "Addition hands its gradient on to both."),
        ("a * b", lambda a, b: a * b, "Each factor gets the gradient times the other factor."),
        ("a * b + a", lambda a, b: a * b + a, "A number that is used twice gets both gradients: add, do not assign."),
        ("a * a", lambda a, b: a * a, "Both factors are the same number: it gets two contributions."),
        ("c = a * b; (c + a) * c", lambda a, b: (lambda c: (c + a) * c)(a * b), sort),
        ("c = a * b; c * (c + a)", lambda a, b: (lambda c: c * (c + a))(a * b), sort),
    ]

    def run(make: Callable[[float], Any], function: Callable[..., Any]) -> tuple[dict[str, Any], list[Any]]:
        a, b = make(3.0), make(-2.0)
        z = function(a, b)
        z.backward()
        return {"data": z.data, "a.grad": a.grad, "b.grad": b.grad}, [z, a, b]

    cases = []
    for formula, function, hint in formulas:
        right, places = run(Value, function)
        places[1].label, places[2].label = "a", "b"
        cases.append(_Case((function,), right, hint, places[0], places, f"{formula} for a = 3, b = -2"))
    return _judged("value", (lambda function: run(yours, function)[0]) if callable(yours) else yours, cases)


def by_hand(backward: Callable[[float, float, float], Any]) -> Answer:
    """Write ``backward(apple, apples, tax)``: the gradients of apple · apples · tax by each (chapter 5.1.3)."""
    hints = "The way back multiplies: by the tax first, then by the other factor of the first product."
    cases = []
    for numbers in ((1.0, 1.0, 1.0), (2.0, 1.0, 3.0), (100.0, 2.0, 1.1), (0.0, 3.0, 2.0)):
        leaves = [Value(x, name) for x, name in zip(numbers, ("apple", "apples", "tax"), strict=True)]
        price = leaves[0] * leaves[1] * leaves[2]
        price.backward()
        cases.append(_Case(numbers, [leaf.grad for leaf in leaves], hints, price, leaves))
    return _judged("by_hand", backward, cases)


def relu(backward: Callable[[float, float], Any]) -> Answer:
    """Write ``backward(x, dout)`` of y = max(x, 0): the gradient at x for the gradient dout at y (chapter 5.5.1)."""
    cases = []
    for x, dout in ((2.0, 1.0), (-2.0, 1.0), (3.0, -0.5), (-3.0, 4.0), (0.0, 1.0)):
        leaf = Value(x, "x")
        y = dout * leaf.relu()
        y.backward()
        hint = "A switch: on for x > 0, where dout passes unchanged; off else, also at 0." if x else "At 0 it is off."
        cases.append(_Case((x, dout), leaf.grad, hint, y, (leaf,)))
    return _judged("relu", backward, cases)


def softmax_with_loss(backward: Callable[[list[float], int], Any]) -> Answer:
    """Write ``backward(scores, target)``: the gradients of cross-entropy after softmax (chapter 5.6.3)."""
    cases = []
    for scores, target in (([0.0, 0.0], 0), ([1.0, -1.0], 1), ([0.3, 0.2, 0.5], 1), ([800.0, 0.0, 790.0], 0)):
        leaves = [Value(a, f"a{i}") for i, a in enumerate(scores)]
        loss = losses.cross_entropy(leaves, target)
        loss.backward()
        hint = (
            "exp(800) overflows: subtract the largest score first, which changes no probability."
            if max(scores) > 700
            else "The probabilities minus the answer: y − t, where t is 1 at the target and 0 elsewhere."
        )
        cases.append(_Case((scores, target), [leaf.grad for leaf in leaves], hint, loss, leaves))
    return _judged("softmax_with_loss", backward, cases)


def momentum(step: Callable[[float, float, float, float, float], Any]) -> Answer:
    """Write ``step(x, v, gradient, rate, momentum)``: the new x and the new velocity (chapter 6.1.4).

    v ← momentum · v − rate · gradient, then x ← x + v.
    """
    cases = []
    for x, v, gradient, rate, kept in (
        (0.0, 0.0, 1.0, 0.1, 0.9),
        (1.0, 0.5, 0.0, 0.1, 0.9),
        (1.0, -0.5, 2.0, 0.01, 0.5),
        (-3.0, 1.0, -4.0, 0.1, 0.0),
    ):
        new_v = kept * Value(v, "v") - rate * Value(gradient, "gradient")
        new_x = Value(x, "x") + new_v
        new_v.label, new_x.label = "new v", "new x"
        right = [new_x.data, new_v.data]
        hint = "First the velocity, from the old one and against the gradient; then x moves by the new velocity."
        cases.append(_Case((x, v, gradient, rate, kept), right, hint, new_x, (new_x, new_v)))
    return _judged("momentum", step, cases)


def gradient_check(numerical: Callable[[Callable[[float], float], float], Any]) -> Answer:
    """Write ``numerical(f, x)``: the derivative of f at x by differences (chapter 4.3), right to six digits."""
    large = "Where x is large, so must h be, near 1e-5·|x|: else the difference is rounding."
    functions: list[tuple[Callable[[Any], Any], float, str]] = [
        (_line, 2.0, "Rise over run: (f(x + h) − f(x − h)) / 2h."),
        (_parabola, 1.0, "The difference on one side is off by h; the central one, (f(x + h) − f(x − h)) / 2h, by h²."),
        (ops.TABLE["exp"], 3.0, "An h near 1e-5: much smaller, and the subtraction loses its digits."),
        (ops.TABLE["sin"], 0.0, "At x = 0, too, h must not be 0: take 1e-5·max(1, |x|)."),
        (ops.TABLE["log"], 1e8, large),
        (_parabola, -1e8, large),
    ]
    cases = []
    for function, x, hint in functions:
        leaf = Value(x, "x")
        y = function(leaf)
        y.backward()
        cases.append(_Case((function, x), leaf.grad, hint, y, (leaf,)))

    def rounded(function: Callable[[float], float], x: float) -> Any:
        """Six digits are asked for: an estimate that has them counts as the derivative itself."""
        estimate, exact = numerical(function, x), float(grad(function)(x))
        good = ops.is_number(estimate) and math.isclose(estimate, exact, rel_tol=1e-6)
        return exact if good else estimate

    rounded.__name__ = getattr(numerical, "__name__", "numerical")
    return _judged("gradient_check", rounded if callable(numerical) else numerical, cases)


def _line(x: Any) -> Any:
    return 3.0 * x + 1.0


def _parabola(x: Any) -> Any:
    return 1e5 * x * x


def dead_neurons(dead: Callable[[list[list[float]]], Any]) -> Answer:
    """Write ``dead(outputs)``: which ReLU neurons are off for every sample, as their numbers, ascending.

    ``outputs[k][i]`` is the output of neuron i for sample k. No gradient reaches the weights of such a neuron.
    """
    hint = "A neuron is dead if its output is 0 for all samples, not for one: look down a column."
    return _judged(
        "dead_neurons",
        dead,
        [
            _Case(([[0.0]],), [0], hint),
            _Case(([[0.0, 1.0]],), [0], hint),
            _Case(([[0.0, 1.0], [2.0, 0.0]],), [], hint),
            _Case(([[0.0, 0.0, 1.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]],), [0], hint),
        ],
    )


def attention(attend: Callable[[list[float], list[list[float]], list[list[float]]], Any]) -> Answer:
    """Write ``attend(query, keys, values)``: Σₛ wₛ·valueₛ with w = softmax(query · keyₛ / √d), d the query's length."""
    cases = []
    for query, keys, values in (
        ([1.0], [[5.0]], [[2.0]]),
        ([0.0], [[1.0], [3.0]], [[2.0], [4.0]]),
        ([1.0, 1.0], [[1.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]),
        ([2.0, -1.0, 0.0, 3.0], [[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 1.0, 0.5]], [[1.0], [2.0]]),
    ):
        asked = [Value(q, f"q{j}") for j, q in enumerate(query)]
        fit = [ops.dot(asked, key) / math.sqrt(len(query)) for key in keys]
        weights = ops.softmax(fit)
        out = [ops.dot(weights, column) for column in zip(*values, strict=True)]
        hint = (
            "One key: its weight is 1, and its value comes out whole."
            if len(keys) == 1
            else "Weights are the softmax of query · key / √d over the positions; forgotten √d? They must sum to 1."
        )
        cases.append(_Case((query, keys, values), [y.data for y in out], hint, out, out))
    return _judged("attention", attend, cases)
