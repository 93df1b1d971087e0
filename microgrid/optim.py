"""Optimisers: how the parameters of a model move along their gradients (chapter 6.1).

Each formula is written once, as arithmetic on a parameter, its gradient and the optimiser's memory of it.
The same lines update Values one by one in ``step()`` and, in ``update()``, all the numbers of an array at
once, with the same results and the same memory; the two may alternate.

>>> from microgrid.engine import Value
>>> w = Value(1.0)
>>> optimizer = Momentum([w], learning_rate=0.1)
>>> for _ in range(2):
...     optimizer.zero_grad()
...     (w * w).backward()
...     optimizer.step()
>>> round(w.data, 12)
0.46
"""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from inspect import signature
from math import inf, sqrt
from numbers import Real
from typing import Any, ClassVar, Self

from microgrid import atomic
from microgrid.engine import Value
from microgrid.ops import LEAF, as_float, short_repr
from microgrid.recording import written

MANY = 64
"""So many parameters are moved as arrays, which takes less time than one after the other."""


class Optimizer(ABC):
    """The base of every optimiser; η is the learning rate, g the gradient, λ the weight decay.

    Args:
        parameters: the Values to move: ``model.parameters()``.
        learning_rate: η, above 0; may be changed between steps.
        weight_decay: λ, at least 0. It adds λ·parameter to the gradient, as if the loss had the term
            ½ λ Σ parameter² (chapter 6.4.2, and PyTorch); AdamW decays differently.

    Attributes:
        parameters: as given, a list.
        learning_rate: η.
        weight_decay: λ.
        steps: how many steps have been taken.

    Raises:
        TypeError: if the parameters are not leaf Values, or a setting is not a real number.
        ValueError: if there are no parameters, one is given twice, or a number is out of its range.
    """

    memory: ClassVar[tuple[str, ...]] = ()
    """The names of the numbers that it remembers for each parameter, 0 at first. Squares are never negative."""

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        """Refuse unknown settings, listing the valid ones."""
        known = signature(cls.__init__).parameters if settings else {}
        unknown = [name for name in settings if name not in known]
        if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            names = [name for name in known if name not in ("self", "parameters")]
            raise TypeError(f"{cls.__name__} takes {', '.join(names)}; there is no {', '.join(map(repr, unknown))}")
        return super().__new__(cls)

    def __init__(self, parameters: Iterable[Value], learning_rate: float, weight_decay: float = 0.0) -> None:
        self.parameters = _parameters(parameters)
        self.learning_rate = _setting("learning_rate", learning_rate)
        self.weight_decay = _setting("weight_decay", weight_decay)
        self.steps = 0
        self._memory: list[Any] = [[0.0] * len(self.parameters) for _ in self.memory]

    @abstractmethod
    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return the new parameter and the new memory: of floats, or of arrays elementwise.

        ``steps`` counts this step already, so it is 1 in the first. It must not modify its arguments: a step
        that is cut short leaves no trace.
        """

    def step(self) -> None:
        """Move every parameter, by its ``grad``. A step that Ctrl-C or an error cuts short changes nothing."""
        after = copy(self)
        vars(after).update(self._settings())
        present = [parameter.data for parameter in self.parameters]
        gradients = [parameter.grad for parameter in self.parameters]
        if len(present) >= MANY and "numpy" in sys.modules and after._is_same_on_arrays():
            import numpy as np

            after._memory = [np.array(m, float) for m in self._memory]
            with np.errstate(all="ignore"):
                arrays = after._advance(np.array(present), np.array(gradients))
            self._become(after, arrays.tolist())
            return
        after.steps += 1
        memory = [m if isinstance(m, list) else m.tolist() for m in self._memory]
        moved = [after._decayed(*numbers) for numbers in zip(present, gradients, *memory, strict=True)]
        numbers, *memories = zip(*moved, strict=True)
        after._memory = list(map(list, memories))
        self._become(after, list(map(as_float, numbers)))

    def _is_same_on_arrays(self) -> bool:
        """Whether arrays give the same to the last digit: by a formula from here, with floats as settings."""
        kind = type(self)
        settings = vars(self).keys() - {"parameters", "steps", "_memory"}
        return {kind.formula.__module__, kind._decayed.__module__, kind._advance.__module__} == {__name__} and all(
            type(vars(self)[name]) is float for name in settings
        )

    def update(self, parameters: Any, gradients: Any) -> Any:
        """Return the new array of all parameters, in the optimiser's order.

        It takes one step and remembers as ``step()`` does, but does not change the Values.

        Args:
            parameters: a flat array of NumPy or JAX, with a number for each of ``self.parameters``.
            gradients: an array of the gradients.

        Raises:
            ValueError: if the shapes are not those.
        """
        after = copy(self)
        moved = after._advance(parameters, gradients)
        self._become(after)
        return moved

    def _advance(self, parameters: Any, gradients: Any) -> Any:
        """Take a step of arrays in place; cut short, it leaves ``steps`` ahead of the memory."""
        expected = (len(self.parameters),)
        for name, array in (("parameters", parameters), ("gradients", gradients)):
            if getattr(array, "shape", None) != expected:
                raise ValueError(
                    f"update() takes {name} as an array of shape {expected}, one number for each parameter of the "
                    f"optimiser; got {getattr(array, 'shape', type(array).__name__)}"
                )
        import numpy as np

        memory = [np.asarray(m, parameters.dtype) if isinstance(m, list) else m for m in self._memory]
        vars(self).update(self._settings())
        self.steps += 1
        moved, *self._memory = self._decayed(parameters, gradients, *memory)
        return moved

    def _become(self, after: Self, numbers: Sequence[float] = ()) -> None:
        """Take over a whole step at once: the attributes of a copy, and the numbers of the parameters."""
        attributes = {**vars(self), **changes(vars(self), vars(after))}
        moved = self.parameters[: len(numbers)], "_data", numbers
        atomic.assign(moved, ([self], "__dict__", [attributes]), written())

    def _decayed(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        return self.formula(parameter, gradient, *memory)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0: ``backward()`` adds to it."""
        atomic.assign((self.parameters, "_grad", [0.0] * len(self.parameters)))

    def state_dict(self) -> dict[str, Any]:
        """Return its memory and its settings, as plain numbers and lists."""
        memory = {name: list(map(float, m)) for name, m in zip(self.memory, self._memory, strict=True)}
        return {"optimizer": type(self).__name__, **self._settings(), "memory": memory}

    def _settings(self) -> dict[str, float]:
        # a NumPy float32 makes a number times it a float32, too
        numbers = {name: x for name, x in vars(self).items() if isinstance(x, Real)}
        return {name: x if isinstance(x, int) else float(x) for name, x in numbers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict()``.

        Raises:
            ValueError: if it is of another kind of optimiser or another number of parameters, or if a number
                in it is out of its range.
            TypeError: if something in it is not a number. In both cases the optimiser is unchanged.
        """
        try:
            vars(self).update(self._restored(state))
        except (ValueError, TypeError) as error:
            raise type(error)(
                f"{error}. Load what state_dict() of the same kind of optimiser gave; this one is unchanged"
            ) from None

    def _restored(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The attributes that a state has, checked."""
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a dict; got {short_repr(state)}")
        expected = self.state_dict()
        given_memory = state.get("memory")
        if (
            state.get("optimizer") != expected.pop("optimizer")
            or set(state) != {"optimizer", *expected}
            or not isinstance(given_memory, Mapping)
            or set(given_memory) != set(expected.pop("memory"))
        ):
            raise ValueError(f"this state does not fit: expected {_outline(self.state_dict())}; got {_outline(state)}")
        restored: dict[str, Any] = {"_memory": []}
        for name in self.memory:
            numbers = given_memory[name]
            if not hasattr(type(numbers), "__iter__") or isinstance(numbers, (str, Mapping)):
                raise TypeError(f"{name} must be a list of numbers; got {short_repr(numbers)}")
            numbers = [_number(name, number) for number in numbers]
            if len(numbers) != len(self.parameters):
                raise ValueError(
                    f"this state is of {len(numbers)} parameters ({name}), and the optimiser has {len(self.parameters)}"
                )
            if name.endswith("squares") and any(number < 0.0 for number in numbers):
                raise ValueError(f"{name} cannot be negative; got {min(numbers)!r}")
            restored["_memory"].append(numbers)
        for name, present in expected.items():
            # A user's class may use the name for something else, as its present number shows.
            is_setting = name in RANGES and RANGES[name][1](present)
            number = (_setting if is_setting else _number)(name, state[name])
            if isinstance(present, int) and not number.is_integer():
                raise ValueError(f"{name} must be a whole number; got {number!r}")
            restored[name] = type(present)(number)
        return restored

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if isinstance(v, float))
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"


class SGD(Optimizer):
    """Stochastic gradient descent: W ← W − η g (chapter 6.1.2, and PyTorch)."""

    def __init__(self, parameters: Iterable[Value], learning_rate: float = 0.01, *, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, learning_rate, weight_decay)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η g."""
        return (parameter - self.learning_rate * gradient,)


class Momentum(Optimizer):
    """Gradients add up to a velocity: v ← α v + g, then W ← W − η v (PyTorch's ``SGD(momentum=α)``).

    The book (chapter 6.1.4) keeps η inside: v ← α v − η g, then W ← W + v. The parameters are the same as
    long as η is; after η was changed, the book's go on for a while with the old one.

    Args:
        parameters: as for every ``Optimizer``.
        learning_rate: η.
        momentum: α, at least 0 and below 1.
        weight_decay: λ.
    """

    memory = ("velocity",)

    def __init__(
        self,
        parameters: Iterable[Value],
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.momentum = _setting("momentum", momentum)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η v, and v."""
        velocity = self.momentum * memory[0] + gradient
        return parameter - self.learning_rate * velocity, velocity


class Nesterov(Momentum):
    """Momentum that looks ahead: v ← α v + g, then W ← W − η (g + α v) (PyTorch's ``SGD(nesterov=True)``).

    The class of the book's code keeps η inside v, with the same difference as in ``Momentum``.
    """

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η (g + α v), and v."""
        velocity = self.momentum * memory[0] + gradient
        return parameter - self.learning_rate * (gradient + self.momentum * velocity), velocity


class AdaGrad(Optimizer):
    """Steps shrink with the squares so far: h ← h + g², then W ← W − η g / (√h + ε) (chapter 6.1.5, PyTorch).

    Args:
        parameters: as for every ``Optimizer``.
        learning_rate: η.
        epsilon: ε, above 0: PyTorch has 1e-10, the book 1e-7.
        weight_decay: λ.
    """

    memory = ("sum_of_squares",)

    def __init__(
        self,
        parameters: Iterable[Value],
        learning_rate: float = 0.01,
        *,
        epsilon: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.epsilon = _setting("epsilon", epsilon)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η g / (√h + ε), and h."""
        squares = memory[0] + gradient * gradient
        return parameter - self.learning_rate * gradient / (_root(squares) + self.epsilon), squares


class RMSprop(Optimizer):
    """AdaGrad that forgets: h ← ρ h + (1 − ρ) g², then W ← W − η g / (√h + ε) (the book's code, PyTorch).

    Args:
        parameters: as for every ``Optimizer``.
        learning_rate: η.
        decay: ρ, at least 0 and below 1; PyTorch calls it alpha.
        epsilon: ε, above 0: PyTorch has 1e-8, the book 1e-7.
        weight_decay: λ.
    """

    memory = ("mean_of_squares",)

    def __init__(
        self,
        parameters: Iterable[Value],
        learning_rate: float = 0.01,
        decay: float = 0.99,
        *,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.decay = _setting("decay", decay)
        self.epsilon = _setting("epsilon", epsilon)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η g / (√h + ε), and h."""
        squares = self.decay * memory[0] + (1.0 - self.decay) * (gradient * gradient)
        return parameter - self.learning_rate * gradient / (_root(squares) + self.epsilon), squares


class Adam(Optimizer):
    """Momentum and RMSprop in one, corrected for their start at 0 (Kingma & Ba 2015; chapter 6.1.6).

    In step t: m ← β₁ m + (1 − β₁) g, and v ← β₂ v + (1 − β₂) g²; then with m̂ = m / (1 − β₁ᵗ) and
    v̂ = v / (1 − β₂ᵗ), W ← W − η m̂ / (√v̂ + ε). This is PyTorch's formula, and the paper's. The book adds
    its ε = 1e-7 to √v before the correction: W ← W − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε).

    Args:
        parameters: as for every ``Optimizer``.
        learning_rate: η.
        beta1: β₁, at least 0 and below 1.
        beta2: β₂, at least 0 and below 1.
        epsilon: ε, above 0.
        weight_decay: λ.
    """

    memory = ("mean", "mean_of_squares")

    def __init__(
        self,
        parameters: Iterable[Value],
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.beta1 = _setting("beta1", beta1)
        self.beta2 = _setting("beta2", beta2)
        self.epsilon = _setting("epsilon", epsilon)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η m̂ / (√v̂ + ε), m and v."""
        mean = self.beta1 * memory[0] + (1.0 - self.beta1) * gradient
        squares = self.beta2 * memory[1] + (1.0 - self.beta2) * (gradient * gradient)
        rate = self.learning_rate / (1.0 - self.beta1**self.steps)
        scale = _root(squares / (1.0 - self.beta2**self.steps)) + self.epsilon
        return parameter - rate * mean / scale, mean, squares


class AdamW(Adam):
    """Adam with decoupled weight decay: W ← W − η λ W, then Adam's step (Loshchilov & Hutter 2019; PyTorch).

    The decay goes past m and v, so it shrinks all weights alike. The book does not have it.
    """

    def __init__(
        self,
        parameters: Iterable[Value],
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, learning_rate, beta1, beta2, epsilon=epsilon, weight_decay=weight_decay)

    def _decayed(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        return self.formula(parameter - self.learning_rate * self.weight_decay * parameter, gradient, *memory)


def _root(squares: Any) -> Any:
    # a float to the power of 0.5 may be off by a last digit, where arrays are not
    return sqrt(squares) if type(squares) is float else squares**0.5


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that are new or no longer the same object."""
    return {name: value for name, value in after.items() if name not in before or before[name] is not value}


def _parameters(parameters: Iterable[Value]) -> list[Value]:
    if not hasattr(type(parameters), "__iter__"):
        raise TypeError(
            f"an optimiser takes a list of Values, as in SGD(model.parameters()); got {type(parameters).__name__}"
        )
    values = list(parameters)
    for value in values:
        if not isinstance(value, Value) or value.op is not LEAF:
            raise TypeError(
                f"an optimiser moves leaf Values, as in SGD(model.parameters()); got {short_repr(value)}"
                + (f", the result of {value.op.name}" if isinstance(value, Value) else "")
            )
    if not values:
        raise ValueError("an optimiser needs at least one parameter; got none. Has the model any parameters()?")
    if len(set(values)) < len(values):
        twice = next(value for value, count in Counter(values).items() if count > 1)
        raise ValueError(f"an optimiser takes each parameter once; got {twice!r} twice")
    return values


RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(("learning_rate", "epsilon"), ("above 0 and finite", lambda x: 0.0 < x < inf)),
    **dict.fromkeys(("weight_decay", "steps"), ("at least 0 and finite", lambda x: 0.0 <= x < inf)),
    **dict.fromkeys(("momentum", "decay", "beta1", "beta2"), ("at least 0 and below 1", lambda x: 0.0 <= x < 1.0)),
}
"""The range of each setting."""


def _setting(name: str, number: Any) -> float:
    """Return a setting as a float, if it is in its range."""
    value = _number(name, number)
    expected, holds = RANGES[name]
    if not holds(value):
        raise ValueError(f"{name} must be {expected}; got {number!r}")
    return value


def _number(name: str, number: Any) -> float:
    try:
        return as_float(number)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def _outline(state: Mapping[str, Any]) -> str:
    if not state:
        return "an empty dict"
    memory = state.get("memory")
    names = ", ".join(map(str, [*state, *memory])) if isinstance(memory, Mapping) else ", ".join(map(str, state))
    return f"{state.get('optimizer', 'a state of no optimiser')} with {names:.300}"
