"""Optimisers: how the parameters of a model move along their gradients (chapter 6.1).

Each formula stands once, as arithmetic on a parameter, its gradient and what the optimiser remembers of it.
The same lines update Values one by one in ``step()`` and, in ``update()``, all the numbers of an array at
once, with the same results and the same memory; the two may take turns.

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

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from microgrid.engine import Value
from microgrid.ops import LEAF, as_float


class Optimizer(ABC):
    """What every optimiser does; η is the learning rate, g the gradient, λ the weight decay.

    Args:
        parameters: the Values to move: ``model.parameters()``.
        learning_rate: η, above 0; may be changed between steps.
        weight_decay: λ, at least 0. It adds λ·parameter to the gradient, as if the loss had the term
            ½ λ Σ parameter² (chapter 6.4.2, and PyTorch); AdamW has a way of its own.

    Attributes:
        parameters: as given, a list.
        learning_rate: η.
        weight_decay: λ.
        steps: how many steps have been taken.

    Raises:
        TypeError: if the parameters are no leaf Values, or something else is no real number.
        ValueError: if there are no parameters, one is given twice, or a number is out of its range.
    """

    memory: ClassVar[tuple[str, ...]] = ()
    """The names of what it remembers of each parameter; all of it is 0 at first."""

    def __init__(self, parameters: Iterable[Value], learning_rate: float, weight_decay: float = 0.0) -> None:
        self.parameters = _parameters(parameters)
        self.learning_rate = _setting("learning_rate", learning_rate, above=0.0)
        self.weight_decay = _setting("weight_decay", weight_decay, least=0.0)
        self.steps = 0
        self._memory: list[Any] = [[0.0] * len(self.parameters) for _ in self.memory]

    @abstractmethod
    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return the new parameter and the new memory: of floats, or of arrays elementwise.

        ``steps`` counts this step already, so it is 1 in the first.
        """

    def step(self) -> None:
        """Move every parameter, by its ``grad``."""
        self._memory = [m if isinstance(m, list) else m.tolist() for m in self._memory]
        self.steps += 1
        moved = [
            self._decayed(parameter.data, parameter.grad, *memory)
            for parameter, *memory in zip(self.parameters, *self._memory, strict=True)
        ]
        numbers, *memories = zip(*moved, strict=True)
        self._memory = list(map(list, memories))
        for parameter, number in zip(self.parameters, numbers, strict=True):
            parameter.data = number

    def update(self, parameters: Any, gradients: Any) -> Any:
        """Return the array that the parameters become; for all of them at once, in the optimiser's order.

        It takes one step and remembers as ``step()`` does, but leaves the Values as they are.

        Args:
            parameters: a flat array of NumPy or JAX, with a number for each of ``self.parameters``.
            gradients: an array of the gradients.

        Raises:
            ValueError: if the shapes are not those.
        """
        expected = (len(self.parameters),)
        for name, array in (("parameters", parameters), ("gradients", gradients)):
            if getattr(array, "shape", None) != expected:
                raise ValueError(
                    f"update() takes {name} as an array of shape {expected}, one number for each parameter of the "
                    f"optimiser; got {getattr(array, 'shape', type(array).__name__)}"
                )
        import numpy as np

        memory = [np.asarray(m, parameters.dtype) if isinstance(m, list) else m for m in self._memory]
        self.steps += 1
        moved, *self._memory = self._decayed(parameters, gradients, *memory)
        return moved

    def _decayed(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        return self.formula(parameter, gradient, *memory)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0: ``backward()`` adds to it."""
        for parameter in self.parameters:
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers and its settings, as plain numbers and lists."""
        settings = {name: value for name, value in vars(self).items() if isinstance(value, (int, float))}
        memory = {name: list(map(float, m)) for name, m in zip(self.memory, self._memory, strict=True)}
        return {"optimizer": type(self).__name__, **settings, "memory": memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict()`` gave.

        Raises:
            ValueError: if it is of another kind of optimiser or another number of parameters.
            TypeError: if something in it is no number. In both cases the optimiser is unchanged.
        """
        expected = self.state_dict()
        given_memory = state.get("memory")
        if (
            state.get("optimizer") != expected["optimizer"]
            or set(state) != set(expected)
            or not isinstance(given_memory, Mapping)
            or set(given_memory) != set(self.memory)
        ):
            raise ValueError(
                f"this state does not fit: expected {_outline(expected)}; got {_outline(state)}. Load "
                "what state_dict() of the same kind of optimiser gave; this one is unchanged"
            )
        memory = []
        for name in self.memory:
            numbers = list(map(as_float, given_memory[name]))
            if len(numbers) != len(self.parameters):
                raise ValueError(
                    f"this state is of {len(numbers)} parameters ({name}), and the optimiser has "
                    f"{len(self.parameters)}; it is unchanged"
                )
            memory.append(numbers)
        settings = {name: as_float(state[name]) for name in expected if name not in ("optimizer", "memory")}
        settings["steps"] = int(settings["steps"])
        vars(self).update(settings)
        self._memory = memory

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
        self.momentum = _setting("momentum", momentum, least=0.0, below=1.0)

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
        self.epsilon = _setting("epsilon", epsilon, above=0.0)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η g / (√h + ε), and h."""
        squares = memory[0] + gradient * gradient
        return parameter - self.learning_rate * gradient / (squares**0.5 + self.epsilon), squares


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
        self.decay = _setting("decay", decay, least=0.0, below=1.0)
        self.epsilon = _setting("epsilon", epsilon, above=0.0)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η g / (√h + ε), and h."""
        squares = self.decay * memory[0] + (1.0 - self.decay) * (gradient * gradient)
        return parameter - self.learning_rate * gradient / (squares**0.5 + self.epsilon), squares


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
        self.beta1 = _setting("beta1", beta1, least=0.0, below=1.0)
        self.beta2 = _setting("beta2", beta2, least=0.0, below=1.0)
        self.epsilon = _setting("epsilon", epsilon, above=0.0)

    def formula(self, parameter: Any, gradient: Any, *memory: Any) -> tuple[Any, ...]:
        """Return W − η m̂ / (√v̂ + ε), m and v."""
        mean = self.beta1 * memory[0] + (1.0 - self.beta1) * gradient
        squares = self.beta2 * memory[1] + (1.0 - self.beta2) * (gradient * gradient)
        rate = self.learning_rate / (1.0 - self.beta1**self.steps)
        scale = (squares / (1.0 - self.beta2**self.steps)) ** 0.5 + self.epsilon
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


def _parameters(parameters: Iterable[Value]) -> list[Value]:
    if not hasattr(type(parameters), "__iter__"):
        raise TypeError(
            f"an optimiser takes a list of Values, as in SGD(model.parameters()); got {type(parameters).__name__}"
        )
    values = list(parameters)
    for value in values:
        if not isinstance(value, Value) or value.op is not LEAF:
            raise TypeError(
                f"an optimiser moves leaf Values, as in SGD(model.parameters()); got {value!r}"
                + (f", the result of {value.op.name}" if isinstance(value, Value) else "")
            )
    if not values:
        raise ValueError("an optimiser needs at least one parameter; got none. Has the model any parameters()?")
    if len(set(values)) < len(values):
        twice = next(value for value, count in Counter(values).items() if count > 1)
        raise ValueError(f"an optimiser takes each parameter once; got {twice!r} twice")
    return values


def _setting(
    name: str, number: Any, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """Return a hyperparameter as a float, if it is finite and in its range."""
    value = as_float(number)
    limits = [
        (f"at least {least:g}", value >= least) if least is not None else None,
        (f"above {above:g}", value > above) if above is not None else None,
        (f"below {below:g}", value < below) if below is not None else ("finite", value < float("inf")),
    ]
    rules = [limit for limit in limits if limit is not None]
    if not all(holds for _, holds in rules):
        raise ValueError(f"{name} must be {' and '.join(text for text, _ in rules)}; got {number!r}")
    return value


def _outline(state: Mapping[str, Any]) -> str:
    memory = state.get("memory")
    names = ", ".join(map(str, [*state, *memory])) if isinstance(memory, Mapping) else ", ".join(map(str, state))
    return f"{state.get('optimizer')} with {names}"
