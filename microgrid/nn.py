"""Neural networks of scalar nodes: a neuron is a sum of products, a layer is a list of neurons.

The classes of micrograd are here under their names, with their arguments, attributes, reprs and, for the
same ``random.seed``, the same numbers:

>>> import random; random.seed(1337)
>>> model = MLP(2, [16, 16, 1])
>>> model([1.0, -2.0]).op.name
'sum[17]'

Everything composes: a module takes a list of Values and numbers (or a bare one) and returns a list, or a
bare Value if there is one output. A class of your own needs a ``forward``:

>>> class Residual(Module):
...     def __init__(self, inner):
...         self.inner = inner
...     def forward(self, x):
...         return [a + b for a, b in zip(x, self.inner(x), strict=True)]
>>> network = Sequential(Residual(Affine(2, 2, seed=0)), Tanh(), Affine(2, 1, seed=1))
>>> [name for name, _ in network.named_parameters()][:2]
['modules.0.inner.neurons.0.w.0', 'modules.0.inner.neurons.0.w.1']
"""

import json
import math
import operator
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from microgrid import atomic, ops
from microgrid.calls import Container, call, walk, weighted_sum
from microgrid.engine import Value, constant
from microgrid.ops import LEAF, Op, T, as_float
from microgrid.recording import written

Seed = int | random.Random | None
"""An integer, a generator to draw from, or ``None`` for Python's global ``random``."""


class Module(Container):
    """A function with parameters: a neuron, a layer, a network.

    Its parameters are the leaf Values in its attributes, also within lists, tuples, dicts and
    modules there, except attributes whose names begin with ``_``. Each has a dotted name, such as
    ``layers.0.neurons.3.w.1``; a parameter that is used in two places has its first name only.

    Attributes:
        training: whether ``Dropout`` drops; see ``train()`` and ``eval()``.
    """

    training = True

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return ``forward(*inputs, **options)``, and note the module in the nodes that it made."""
        return call(self, self.forward, inputs, options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the outputs; each kind of module has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define forward(self, x) in the class")

    def predict(self, *batch: Any, **named: Any) -> Any:
        """Return the outputs as arrays, a row for each sample: no Values, no graph, nothing is dropped.

        It is compiled at the first call, and again after the module has changed; a module that does not compile is
        computed sample by sample. Outputs that are no list keep their structure: see ``mg.compile(…).predict``.

        >>> MLP(2, [3], seed=0).predict([[1.0, 2.0], [3.0, 4.0]]).shape
        (2, 3)

        Args:
            *batch: the arguments of the module, an array each, with an axis over the samples in front.
            **named: arguments by name, likewise.

        Raises:
            ModuleNotFoundError: without NumPy, naming the extra that brings it.
            ValueError: if the inputs do not fit the module.
        """
        return import_module("microgrid.compiler").predict(self, *batch, **named)  # a higher layer, which loads NumPy

    # -- parameters ----------------------------------------------------------------------------------

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        """Yield each parameter with its dotted name, in the order of the attributes."""
        for name, item in walk(self):
            if isinstance(item, Value) and item.op is LEAF:  # a subclass while a function is compiled
                yield name, item

    def parameters(self) -> list[Value]:
        """Return the parameters, each once, in the order of the attributes."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    # -- modes ---------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set this module and those within to training mode, or to ``eval()`` mode; return it."""
        within = list(modules(self))
        atomic.assign((within, "training", [mode] * len(within)))
        return self

    def eval(self) -> Self:
        """Set this module and those within to evaluation mode: nothing is dropped; return it."""
        return self.train(False)

    # -- the numbers, in memory and in files ---------------------------------------------------------

    def state_dict(self) -> dict[str, float]:
        """Return the number of every parameter by its dotted name."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, float]) -> Self:
        """Set every parameter from a ``state_dict()``; return the module.

        Raises:
            ValueError: if the names are not exactly those of this module's parameters.
            TypeError: if something in it is not a real number. In both cases the module is unchanged.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"a state is a dict of numbers by name; got {ops.short_repr(state)}; the module is unchanged"
            )
        parameters = dict(self.named_parameters())
        missing = [name for name in parameters if name not in state]
        unknown = [name for name in state if name not in parameters]
        if missing or unknown:
            differences = [
                f"{len(names)} {what}: {', '.join(map(str, names[:3]))}{', …' if len(names) > 3 else ''}"
                for names, what in ((missing, "missing"), (unknown, "not in the model"))
                if names
            ]
            raise ValueError(
                f"the parameters do not fit this {type(self).__name__}: expected {len(parameters)}, "
                f"given {len(state)}; {'; '.join(differences)}. Load them into a model made with the same arguments; "
                "this one is unchanged"
            )
        numbers = [_number(name, state[name]) for name in parameters]
        atomic.assign((list(parameters.values()), "_data", numbers), written())
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters to a JSON file, exactly: ``load()`` gives the same bits.

        A number that JSON lacks is a string there: ``"nan"``, ``"inf"``, ``"-inf"``. The file is written whole
        or not at all: whatever goes wrong, one that was there before stays.

        Raises:
            OSError: if it cannot be written.
        """
        numbers = {name: x if math.isfinite(x) else str(x) for name, x in self.state_dict().items()}
        text = json.dumps({"format": _FORMAT, "model": type(self).__name__, "parameters": numbers}, indent=1)
        atomic.write_file(path, f"{text}\n".encode())

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Set every parameter from a file that ``save()`` wrote; return the module.

        It reads at most as many bytes as a file for this module can have. A pickle of a module is different: Python
        runs whatever its writer wants, so load none that you do not trust.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not such a file, or holds other parameters; the module is unchanged.
        """
        names = [name for name, _ in self.named_parameters()]
        most = 10_000 + sum(200 + 12 * len(name) for name in names)  # one letter may be written as \\ud83c\\udf4e
        try:
            with open(path, "rb") as file:
                read = file.read(most + 1)
            if len(read) > most:
                raise ValueError(
                    f"it is longer than a file for the {len(names)} parameters of this {type(self).__name__} can be"
                )
            content = json.loads(read.decode())
            if not isinstance(content, dict) or content.get("format") != _FORMAT:
                raise ValueError(f"no {_FORMAT!r} in it")
            numbers = content.get("parameters")
            if not isinstance(numbers, dict):
                raise ValueError(f'"parameters" should be an object with names and numbers, and is {numbers!r:.60}')
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot read the model: {error.strerror}. Give the path that was given to save()",
                str(path),
            ) from error
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{os.fspath(path)}: expected a JSON file written by save(), but {error}. "
                "Give the path that was given to save(), or save the model again; this one is unchanged"
            ) from error
        special: dict[str, Any] = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
        try:
            return self.load_state_dict(
                {name: special.get(x, x) if isinstance(x, str) else x for name, x in numbers.items()}
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error


_FORMAT = "microgrid parameters 1"


def _number(name: str, x: Any) -> float:
    try:
        if isinstance(x, bool):
            raise TypeError(f"expected one real number, got {x!r}")
        return as_float(x)
    except TypeError as error:
        raise TypeError(f"parameter {name}: {error}; the model is unchanged") from None


def modules(root: Any) -> Iterator[Module]:
    """Yield the modules in a module, itself first, or in a list, tuple or dict; each once."""
    stack, seen = [root], set()
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Module):
            yield item
            stack += [value for name, value in [*vars(item).items()] if name[:1] != "_"][::-1]
        elif isinstance(item, dict):
            stack += [*item.values()][::-1]
        elif isinstance(item, (list, tuple)) and {*map(type, item)} != {Value}:  # weights are many
            stack += item[::-1]


@contextmanager
def mode(model: Any, *, training: bool) -> Iterator[None]:
    """Put a model into training mode or not, for Dropout, in a block; a model without modes is left alone."""
    before = getattr(model, "training", None)
    if before is None:
        yield
        return
    if getattr(type(model), "train", None) is not Module.train:
        model.train(training)
        try:
            yield
        finally:
            model.train(before)
        return
    others = [module for module in modules(model) if module.training != training]
    atomic.assign((others, "training", [training] * len(others)))
    try:
        yield
    finally:
        atomic.assign((others, "training", [not training] * len(others)))


def as_list(x: Any) -> list[Any]:
    """Return the numbers of a sequence as a list; a bare Value or number is a list of one."""
    return list(x) if hasattr(type(x), "__iter__") else [x]


def _inputs(module: Module, x: Any, expected: int) -> tuple[Any, ...]:
    """Check the inputs of a layer; plain numbers become constants here, once for all of its neurons."""
    given = as_list(x)
    if len(given) != expected:
        sizes = f"{expected}, {len(module.neurons)}" if isinstance(module, Layer) else expected
        raise ValueError(
            f"{type(module).__name__}({sizes}) takes {expected} input(s), got {len(given)}: {given!r:.100}. "
            "Give the numbers of one sample at a time, as many as the layer was made for"
        )
    return tuple([item if hasattr(type(item), "__apply__") else constant(item) for item in given])


def _size(what: str, n: Any) -> int:
    try:
        size = operator.index(n)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, got {n!r} of type {type(n).__name__}") from None
    if size < 1:
        raise ValueError(f"{what} must be at least 1, got {n!r}: a layer needs something to compute")
    return size


# ---------------------------------------------------------------------------------------------------
# Neurons and layers

INITIALIZATIONS: dict[str, Callable[[Any, int], float]] = {
    "uniform": lambda generator, nin: generator.uniform(-1, 1),
    "he": lambda generator, nin: generator.gauss(0.0, math.sqrt(2.0 / nin)),
    "xavier": lambda generator, nin: generator.gauss(0.0, math.sqrt(1.0 / nin)),
}
"""The distribution of a weight of a neuron with ``nin`` inputs: uniform between −1 and 1 (micrograd), or normal
with the standard deviation √(2/nin) (He et al. 2015, for ReLU) or √(1/nin) (Xavier as in chapter 6.2,
for sigmoid and tanh; Glorot & Bengio 2010 use nin + nout). Biases start at 0."""


def _initialization(init: str | float) -> Callable[[Any, int], float]:
    if isinstance(init, str) and init in INITIALIZATIONS:
        return INITIALIZATIONS[init]
    if ops.is_number(init) and 0 <= (deviation := as_float(init)) < math.inf:
        return lambda generator, nin: generator.gauss(0.0, deviation)
    names = ", ".join(map(repr, INITIALIZATIONS))
    raise ValueError(f"init must be one of {names}, or a standard deviation, finite and 0 or more; got {init!r}")


class Neuron(Module):
    """y = relu(b + Σ wᵢ·xᵢ), or b + Σ wᵢ·xᵢ if not ``nonlin``.

    Args:
        nin: the number of inputs.
        nonlin: whether the sum goes through ReLU.
        init: the distribution of the weights, a key of ``INITIALIZATIONS``, or the standard deviation of a normal one,
            as in chapter 5.7's ``weight_init_std=0.01``.
        seed: of the weights; without one, ``random.seed(1337)`` before gives the numbers of micrograd.

    Attributes:
        w: the weights, a list of ``nin`` Values.
        b: the bias, a Value.
        nonlin: as given.

    Raises:
        ValueError: if ``nin`` is less than 1 or ``init`` is invalid; when called with another number of inputs.
    """

    def __init__(self, nin: int, nonlin: bool = True, *, init: str | float = "uniform", seed: Seed = None) -> None:
        nin = _size("the number of inputs, nin,", nin)
        generator, draw = _generator(seed) or random, _initialization(init)
        self.w = [Value(draw(generator, nin), f"w{i}") for i in range(nin)]
        self.b = Value(0.0, "b")
        self.nonlin = nonlin

    if TYPE_CHECKING:

        def __call__(self, x: Any) -> Value:
            """Return ``forward(x)``."""

    def forward(self, x: Any) -> Value:
        """Return the output for the inputs x, as one sum: the bias, then the products in order."""
        if type(x) is not tuple or len(x) != len(self.w):
            x = _inputs(self, x, len(self.w))
        activation: Value = weighted_sum(self.b, list(self.w), x)
        return activation.relu() if self.nonlin else activation

    def __repr__(self) -> str:
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """``nout`` neurons side by side, each with all the inputs; arguments as for ``Neuron``.

    Attributes:
        neurons: a list of ``nout`` neurons.

    Raises:
        ValueError: if a size is less than 1; when called with another number of inputs, naming both.
    """

    def __init__(
        self, nin: int, nout: int, nonlin: bool = True, *, init: str | float = "uniform", seed: Seed = None
    ) -> None:
        generator = _generator(seed)
        nout = _size("the number of outputs, nout,", nout)
        self.neurons = [Neuron(nin, nonlin, init=init, seed=generator) for _ in range(nout)]

    def forward(self, x: Any) -> Any:
        """Return the outputs for the inputs x: a list, or a bare Value if there is one neuron."""
        x = _inputs(self, x, len(self.neurons[0].w))
        outputs = [neuron(x) for neuron in self.neurons]
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class Affine(Layer):
    """y = W·x + b, the layer of chapter 5.6: ``nout`` neurons without nonlinearity, He-initialised."""

    def __init__(self, nin: int, nout: int, *, init: str | float = "he", seed: Seed = None) -> None:
        super().__init__(nin, nout, nonlin=False, init=init, seed=seed)

    def __repr__(self) -> str:
        return f"Affine({len(self.neurons[0].w)}, {len(self.neurons)})"


class Embedding(Module):
    """A table of ``count`` rows of ``width`` parameters: a row for each token, drawn from N(0, 1) as PyTorch's.

    Args:
        count: the number of tokens.
        width: the number of parameters of each.
        seed: as for ``Neuron``.

    Attributes:
        table: the rows, lists of Values.

    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(self, count: int, width: int, *, seed: Seed = None) -> None:
        count, width = _size("the number of tokens, count,", count), _size("the width of a row", width)
        draw = (_generator(seed) or random).gauss
        self.table = [[Value(draw(0.0, 1.0), f"e{k}_{j}") for j in range(width)] for k in range(count)]

    if TYPE_CHECKING:

        def __call__(self, token: Any) -> list[Any]:
            """Return ``forward(token)``."""

    def forward(self, token: Any) -> list[Any]:
        """Return the row of a token, a whole number from 0, also as a Value; for a list of tokens a list of rows.

        Raises:
            IndexError: if there is no such row; in a compiled function the row is nan.
        """
        if hasattr(type(token), "__iter__") and not isinstance(token, (str, bytes, dict)):
            return [self.forward(one) for one in token]
        return list(ops.take(self.table, token))

    def __repr__(self) -> str:
        return f"Embedding({len(self.table)}, {len(self.table[0])})"


class MLP(Module):
    """A multi-layer perceptron: layers one after the other, all but the last with ReLU.

    Args:
        nin: the number of inputs.
        nouts: the number of neurons of each layer, as in ``MLP(2, [16, 16, 1])``.
        init: as for ``Neuron``.
        seed: as for ``Neuron``.

    Attributes:
        layers: a list of layers.

    Raises:
        ValueError: if there is no layer or a size is less than 1.
    """

    def __init__(self, nin: int, nouts: Sequence[int], *, init: str | float = "uniform", seed: Seed = None) -> None:
        if not isinstance(nouts, Sequence) or isinstance(nouts, str):
            raise TypeError(f"nouts must be a list with the size of each layer, as in MLP(2, [16, 1]); got {nouts!r}")
        if not nouts:
            raise ValueError("nouts is empty: give the size of at least one layer, as in MLP(2, [16, 1])")
        generator = _generator(seed)
        sizes = [nin, *nouts]
        self.layers = [
            Layer(sizes[i], sizes[i + 1], nonlin=i != len(nouts) - 1, init=init, seed=generator)
            for i in range(len(nouts))
        ]

    def forward(self, x: Any) -> Any:
        """Return the outputs of the last layer: a list, or a bare Value if it has one neuron."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"


class Sequential(Module):
    """Modules (or any functions) one after the other: each takes the output of the one before.

    Attributes:
        modules: a list of them.

    Raises:
        ValueError: if there is none.
        TypeError: if one cannot be called.
    """

    def __init__(self, *modules: Callable[[Any], Any]) -> None:
        if not modules:
            raise ValueError("Sequential() is empty: give it modules, as in Sequential(Affine(2, 8), ReLU())")
        for module in modules:
            if not callable(module) or isinstance(module, type):
                raise TypeError(
                    f"Sequential takes modules one by one, as in Sequential(Affine(2, 8), ReLU()); got {module!r}"
                )
        self.modules = list(modules)

    def forward(self, x: Any) -> Any:
        """Return the output of the last one."""
        for module in self.modules:
            x = module(x)
        return x

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(str, self.modules))})"


class _Elementwise(Module):
    """An operation on each input: a list for a list, a bare Value for a bare one."""

    op: ClassVar[Op]

    if TYPE_CHECKING:

        @overload
        def __call__(self, x: T) -> T: ...
        @overload
        def __call__(self, x: Iterable[T]) -> list[T]: ...
        def __call__(self, x: Any) -> Any: ...

    def forward(self, x: Any) -> Any:
        """Return the operation of each input."""
        return [self.op(item) for item in x] if hasattr(type(x), "__iter__") else self.op(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ReLU(_Elementwise):
    """y = max(x, 0) for each input (chapter 5.5.1)."""

    op = ops.relu


class Sigmoid(_Elementwise):
    """y = 1 / (1 + e⁻ˣ) for each input (chapter 5.5.2)."""

    op = ops.sigmoid


class Tanh(_Elementwise):
    """y = tanh(x) for each input."""

    op = ops.tanh


class Softmax(Module):
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ): probabilities, to look at; ``cross_entropy`` takes the scores before it."""

    if TYPE_CHECKING:

        def __call__(self, x: T | Iterable[T]) -> list[T]:
            """Return ``forward(x)``."""

    def forward(self, x: Any) -> list[Any]:
        """Return the probabilities, a list."""
        return ops.softmax(as_list(x))

    def __repr__(self) -> str:
        return "Softmax()"


class Dropout(Module):
    """In training, each input is 0 with probability ``rate``, else xᵢ / (1 − rate); in ``eval()`` it is xᵢ.

    This is PyTorch's convention, which leaves the mean as it is. The book's class (chapter 6.4.3) does not
    scale in training, and multiplies by 1 − rate in use.

    Args:
        rate: the probability, at least 0 and below 1.
        seed: of the choice, as for ``Neuron``.

    Raises:
        ValueError: for another rate.
    """

    def __init__(self, rate: float = 0.5, *, seed: Seed = None) -> None:
        self.rate = as_float(rate)
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"rate is the probability of dropping an input, at least 0 and below 1; got {rate!r}")
        self._generator = _generator(seed)

    def forward(self, x: Any) -> Any:
        """Return the inputs, some of them times 0 if in training."""
        if not self.training or not self.rate:
            return x
        items = as_list(x)
        y = [item * factor for item, factor in zip(items, factors_of.get()(self, len(items)), strict=True)]
        return y if hasattr(type(x), "__iter__") else y[0]

    def draw(self, n: int) -> list[float]:
        """Return ``n`` factors: 0 with probability ``rate``, else 1 / (1 − rate)."""
        kept = 1.0 / (1.0 - self.rate)
        draw = (self._generator or random).random
        return [0.0 if draw() < self.rate else kept for _ in range(n)]

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r})"


factors_of: ContextVar[Callable[[Dropout, int], Sequence[Any]]] = ContextVar("factors_of", default=Dropout.draw)
"""The source of ``Dropout``'s factors: while a function is compiled, numbers that each call will draw."""


def _generator(seed: Seed) -> random.Random | None:
    return seed if seed is None or isinstance(seed, random.Random) else random.Random(seed)
