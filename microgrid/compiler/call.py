"""A call of a kernel as one node of an ordinary graph."""

from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from itertools import compress
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microgrid import engine, ops
from microgrid.calculus import gradient_graph
from microgrid.compiler.program import PARAMETER, Program, argument_of, values_of
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.simplify import without_gradient
from microgrid.compiler.structure import Split
from microgrid.compiler.task import PULLBACK, VALUE, Task
from microgrid.engine import Value
from microgrid.ops import Operation
from microgrid.recording import is_recording, is_watched, pending
from microgrid.reverse import add_gradients

Rule = Callable[[Operation, Sequence[bool]], Sequence[bool]]
"""Says through which operands of an operation something passes, of which it is known whether they are a 0 that stays.
"""


Cuts = tuple[NDArray[np.bool_], list[list[bool]]]
"""For each parameter, and each number of each argument, whether no path leads to it from an output."""


class Called(Protocol):
    """What a call needs of a kernel; see ``Kernel``."""

    parameters: list[Value]
    others: tuple[Value, ...]
    signature: Signature
    varied: bool

    @property
    def program(self) -> Program:
        """The scalars, simplified."""
        ...

    def cut(self, output: int) -> "Cuts":
        """Return for each parameter, and each number of each argument, whether no path leads to it from an output."""
        ...

    @property
    def theta(self) -> Floats:
        """The numbers of the parameters, to be read only."""
        ...

    def present(self, arrays: Sequence[Floats], size: int) -> Any:
        """Return the value at the present parameters."""
        ...

    def compute(
        self, task: Task, theta: ArrayLike, batch: Sequence[Any], seed: Any = None, sent: Any = None
    ) -> tuple[Any, Any]:
        """Return the value and the gradient."""
        ...


SPELLED_OUT = 100_000
"""About so many nodes are made of a compiled call where it is spelled out, sample by sample."""

spelling_out: ContextVar[list[Value] | None] = ContextVar("spelling_out", default=None)
"""Where a compiled function that is called leaves what it computes as it is written, on some of the samples, too."""


def samples_within(nodes: int) -> int:
    """Of how many samples a call is spelled out that takes so many nodes for each."""
    return max(SPELLED_OUT // max(nodes, 1), 1)


class Pullback:
    """The gradient of whatever is made of the Values that one call gave, one for each sample and output.

    Each of them sends its own gradient here; when the sweep is over the kernel runs once, for all.

    Args:
        kernel: what was called.
        arrays: the arguments, a row for each sample.
    """

    def __init__(self, kernel: "Called", arrays: Sequence[Floats]) -> None:
        self.kernel, self.arrays = kernel, list(arrays)

    def seeds(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the gradients to send to, zero for each sample and output, and whether one was sent."""
        shape = len(self.arrays[0]), self.kernel.signature.outputs or 1
        return np.zeros(shape), np.zeros(shape, bool)

    def finish(self, seeds: tuple[Floats, NDArray[np.bool_]]) -> None:
        """Add what was sent, times the derivatives, to the gradients of the parameters."""
        weights, sent = seeds
        kernel = self.kernel
        batch = [a.reshape(-1, *shape) for a, shape in zip(self.arrays, kernel.signature.shapes, strict=True)]
        gradient = kernel.compute(PULLBACK, kernel.theta, batch, weights, sent)[1]
        add_gradients(kernel.parameters, gradient.tolist())


class CompiledCall:
    """The row of one call of a kernel: its parents are the parameters, and Values among the arguments.

    Its derivatives by floats are the kernel's; by Values, for derivatives of higher order, the program is
    evaluated on Values.
    """

    __slots__ = ("batch", "kernel", "last", "output", "places", "pullback", "sample")

    name = symbol = "compiled"
    doc = "A compiled function of its parameters, on one batch."
    kink = None
    recipe = None
    array = javascript = ufunc = operator = formula = python = ""
    expansion = None

    kernel: "Called"
    output: int
    pullback: Pullback | None
    sample: int | None
    batch: Sequence[Floats]
    places: Sequence[Collection[int]]
    last: tuple[Any, Any]

    def __init__(
        self,
        kernel: "Called",
        output: int,
        batch: Sequence[Floats],
        places: Sequence[Collection[int]],
        pullback: Pullback | None = None,
        sample: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.output = output
        self.batch = batch
        self.places = places
        self.last = _NOTHING
        self.pullback = pullback
        self.sample = sample

    @property
    def arrays(self) -> list[Floats]:
        """The arguments, a row for each sample of the call, or for the one sample that this output is of."""
        k = self.sample
        return list(self.batch) if k is None else [array[k : k + 1] for array in self.batch]

    @property
    def arity(self) -> int:
        """The number of parents."""
        return len(self.kernel.parameters) + sum(map(len, self.places))

    @property
    def connected(self) -> Any:
        """For each parent, whether a path leads to it from the output, through the program."""
        of_parameters, of_arguments = self.kernel.cut(self.output)
        cuts: list[bool] = of_parameters.tolist()
        for cut, places in zip(of_arguments, self.places, strict=True):
            cuts += [cut[place % len(cut)] for place in places]
        return tuple([not cut for cut in cuts])

    @property
    def unit(self) -> float:
        """The largest relative error of one rounded number of the kernel."""
        return float(np.finfo(self.kernel.signature.dtype).eps) / 2.0

    @property
    def domain(self) -> Any:
        """All reals, for each parent."""
        return (ops.REALS,) * self.arity

    @property
    def partials(self) -> Any:
        """A function for each parent, or 0 where no path leads to it through the program."""
        return tuple(
            (lambda y, *xs, i=i: self._gradient(xs)[i]) if connected else 0.0
            for i, connected in enumerate(self.connected)
        )

    @property
    def cuts(self) -> bool:
        """Whether nothing ever flows back to some parent that may have parents itself."""
        return (any(self.places) or self.kernel.varied) and not all(self.connected)

    def local_derivatives(self, y: Any, *xs: Any) -> tuple[Any, ...]:
        """Return the derivative by each parent."""
        return tuple(self._gradient(xs))

    def forward(self, *xs: float) -> float:
        """Run the kernel."""
        theta, batch = self._filled(xs)
        value = np.asarray(self.kernel.compute(VALUE, theta, batch)[0])
        return float(value.reshape(-1)[self.output])

    def passing(self, moves: Sequence[bool], xs: Sequence[float], rule: Rule) -> list[bool]:
        """Return for each parent whether anything can come of moving it, in any sample.

        Args:
            moves: for each parent whether it moves.
            xs: the numbers of the parents.
            rule: the same for the operands of one operation of the program.
        """
        theta, batch = self._filled(xs)
        program, count = self.kernel.program, len(self.kernel.parameters)
        rows = [array.reshape(-1, size) for array, size in zip(batch, program.sizes, strict=True)]
        places = [(k, place % program.sizes[k]) for k, mine in enumerate(self.places) for place in mine]
        moved = {place for place, moving in zip(places, moves[count:], strict=True) if moving}
        arguments_of = [arguments for _, arguments, _ in program.nodes()]
        leaves: dict[Any, int] = {}
        still: list[Floats | None] = []  # the numbers, in all samples, of what does not move
        for i, (row, mine, data) in enumerate(zip(program.rows, arguments_of, program.data, strict=True)):
            if mine:
                numbers = [x for a in mine if (x := still[a]) is not None]
                columns = (
                    np.stack(np.broadcast_arrays(*numbers), axis=1).tolist() if len(numbers) == len(mine) else None
                )
                still.append(None if columns is None else np.array([row.forward(*xs) for xs in columns]))
            elif row is PARAMETER:
                leaves[int(data)] = i
                still.append(None if moves[int(data)] else theta[int(data), None])
            elif row.recipe is not None and row.recipe[0] is argument_of:
                place = int(row.recipe[1][0]), int(data)
                leaves[place] = i
                still.append(None if place in moved else rows[place[0]][:, place[1]])
            else:
                still.append(np.array([data]))
        zeros = [numbers is not None and not numbers.any() for numbers in still]
        reached = bytearray(len(still))
        reached[program.outputs[self.output]] = 1
        for i in reversed(range(len(still))):
            if reached[i] and arguments_of[i]:
                row, mine = program.rows[i], arguments_of[i]
                is_chain = not row.partials  # a sum or a maximum of many, which no user writes
                for a in mine if is_chain else compress(mine, rule(row, [zeros[a] for a in mine])):
                    reached[a] = 1
        return [place in leaves and bool(reached[leaves[place]]) for place in (*range(count), *places)]

    def backpropagate(self, node: Any) -> None:
        """Add the node's gradient, times each derivative, to the gradients of its parents."""
        gradient = node.grad
        sent_back = pending.get(None)
        if self.pullback is not None and sent_back is not None:
            if self.pullback not in sent_back:
                sent_back[self.pullback] = self.pullback.seeds()
            weights, sent = sent_back[self.pullback]
            weights[self.sample, self.output] += gradient
            sent[self.sample, self.output] = True
            return
        parents = node.parents
        derivatives = self._gradient([p._data for p in parents])
        for parent, derivative, connected in zip(parents, derivatives, self.connected, strict=True):
            if connected:
                parent._grad += gradient * derivative

    def send_to_leaves(self, node: Any, gradient: float) -> bool:
        """Do what ``backward()`` of a node of this call does, if all its parents are leaves; return whether it did."""
        kernel = self.kernel
        if self.sample is not None or kernel.varied or any(self.places) or not is_of_parameters(node, kernel):
            return False
        found = self._by_parameters(kernel.theta, self._shaped(self.arrays)).astype(float) * gradient
        cut = kernel.cut(self.output)[0]
        if cut.any():
            found[cut] = 0.0
        node._grad = gradient
        add_gradients(kernel.parameters, found.tolist())
        return True

    def __reduce__(self) -> Any:
        return CompiledCall, (self.kernel, self.output, self.arrays, [list(places) for places in self.places])

    def _filled(self, xs: Sequence[float]) -> tuple[Floats, list[Floats]]:
        """The parameters, and the arguments with the data of their Values."""
        count = len(self.kernel.parameters)
        rest = iter(xs[count:])
        batch = self.arrays
        for k, places in enumerate(self.places):
            if places:
                batch[k] = batch[k].copy()
                batch[k].ravel()[list(places)] = [next(rest) for _ in places]
        return np.array(xs[:count], self.kernel.signature.dtype), self._shaped(batch)

    def _shaped(self, arrays: Sequence[Floats]) -> list[Floats]:
        """Rows of arguments in the shapes that the kernel takes."""
        signature = self.kernel.signature
        leading = (-1,) if signature.batched else ()
        return [array.reshape((*leading, *shape)) for array, shape in zip(arrays, signature.shapes, strict=True)]

    def _gradient(self, xs: Sequence[Any]) -> list[Any]:
        """The derivatives by all parents; the latest are kept, as they are asked for one by one."""
        key = tuple(xs)
        last, found = self.last
        if (
            last
            and len(last) == len(key)
            and all(a is b or (type(a) is type(b) is float and a == b) for a, b in zip(last, key, strict=True))
        ):
            return found  # type: ignore[no-any-return]
        found = self._graph(xs) if any(isinstance(x, Value) for x in xs) else self._floats(xs)
        self.last = (key, found)
        return found

    def _floats(self, xs: Sequence[float]) -> list[float]:
        theta, batch = self._filled(xs)
        if not any(self.places):
            return self._by_parameters(theta, batch).tolist()  # type: ignore[no-any-return]
        by_theta, by_arguments = self.kernel.compute(Task.gradient("both"), theta, batch, self._seed)[1]
        found: list[float] = by_theta.reshape(-1).tolist()
        for gradient, places in zip(by_arguments, self.places, strict=True):
            found += gradient.reshape(-1)[list(places)].tolist()
        return found

    def _by_parameters(self, theta: Floats, batch: Sequence[Floats]) -> Floats:
        found: Floats = self.kernel.compute(Task.gradient("parameters"), theta, batch, self._seed)[1]
        return found.reshape(-1)

    @property
    def _seed(self) -> Floats | None:
        """The weight of each output: 1 of this one."""
        signature = self.kernel.signature
        if signature.outputs is None:
            return None
        seed: Floats = np.eye(signature.outputs)[self.output]
        return seed[None] if signature.per_sample else seed

    def _graph(self, xs: Sequence[Any]) -> list[Any]:
        """The derivatives as Values: the program, evaluated on Values, differentiated as any graph."""
        inputs = [ops.identity(x) if isinstance(x, Value) else engine.constant(x) for x in xs]
        return list(gradient_graph(self.played_back(inputs), inputs))

    def played_back(self, parents: Sequence[Value], samples: int | None = None) -> Any:
        """Return the program as an ordinary graph of the parents, of all samples or of the first ones."""
        count = len(self.kernel.parameters)
        rest = iter(parents[count:])
        batch: list[list[Any]] = []
        for array, places, size in zip(self.arrays, self.places, self.kernel.program.sizes, strict=True):
            numbers: list[Any] = array.ravel().tolist()
            for place in places:
                numbers[place] = next(rest)
            batch.append(numbers if samples is None else numbers[: samples * size])
        return played_back(self.kernel, parents[:count], batch, self.output)

    def spelled_out(self, parents: Sequence[Value], build: Callable[[], Any] | None) -> list[Value]:
        """Return graphs of what compiled functions compute, operation by operation, for some samples.

        Args:
            parents: the parents of the call.
            build: what calls them: then each is run as it was written. Without, the program of this one is evaluated.
        """
        outputs: list[Value] = []
        if build is not None:
            token = spelling_out.set(outputs)
            try:
                build()
            finally:
                spelling_out.reset(token)
        return outputs or [self.played_back(parents, samples_within(len(self.kernel.program)))]


_NOTHING: tuple[Any, Any] = ((), None)


def node(call: CompiledCall, number: float, parents: Sequence[Value], others: tuple[Value, ...]) -> Value:
    """Return the Value of a call, a constant if it depends on none; ``others`` are the parents from the third on."""
    if not parents:
        return engine.constant(number)
    return engine.record(call, number, parents[0], parents[1] if len(parents) > 1 else None, others)


def per_sample_values(
    kernel: "Called", arrays: Sequence[Floats], values: Sequence[dict[int, dict[int, Value]]], numbers: Floats
) -> list[Any]:
    """Return the Values of a call that keeps its samples apart.

    All share one tuple of parameters and one ``Pullback``; but a sample that has Values among its arguments has
    nodes of its own, whose gradients go back to these too; and so have all where parameters have parents.

    Args:
        kernel: what was called.
        arrays: the arguments, a row for each sample.
        values: for each argument, the Values of each sample by their place.
        numbers: the results, a row for each sample.
    """
    pullback, parameters, others = Pullback(kernel, arrays), kernel.parameters, kernel.others
    nowhere: list[dict[int, Value]] = [{}] * len(values)
    results: list[Any] = []
    for k, row in enumerate(numbers.tolist()):
        mine = [found.get(k, {}) for found in values] if any(values) else nowhere
        own = [value for places in mine for value in places.values()]
        parents, rest = ([*parameters, *own], tuple([*parameters, *own][2:])) if own else (parameters, others)
        shared = None if own or kernel.varied else pullback
        nodes = [node(CompiledCall(kernel, j, arrays, mine, shared, k), y, parents, rest) for j, y in enumerate(row)]
        results.append(nodes[0] if kernel.signature.outputs is None else nodes)
    return results


def called(kernel: Called, split: Sequence[Split]) -> Any:
    """Return what a call gives, of arguments that are taken apart; under ``no_grad`` nothing else is kept."""
    signature = kernel.signature
    arrays, size = signature.rows([part.numbers for part in split])
    found = kernel.present(arrays, size)
    if not is_recording() and not is_watched():
        return leaves_like(found if isinstance(found, float) else found.tolist())
    if signature.per_sample:
        return per_sample_values(kernel, arrays, [part.samples(size) for part in split], found.reshape(size, -1))
    own = [value for part in split if part.values for value in part.values.values()]
    parents, others = kernel.parameters, kernel.others
    if own:
        parents = [*parents, *own]
        others = tuple(parents[2:])
    places = [part.values for part in split]
    if signature.outputs is None:
        return node(CompiledCall(kernel, 0, arrays, places), found, parents, others)
    return [node(CompiledCall(kernel, k, arrays, places), y, parents, others) for k, y in enumerate(found.tolist())]


def leaves_like(numbers: Any) -> Any:
    """Return nested lists of numbers with a leaf for each."""
    return [leaves_like(x) for x in numbers] if isinstance(numbers, list) else Value(numbers)


def is_of_parameters(node: Value, kernel: Called) -> bool:
    """Whether the parents of a node are the parameters of a kernel: those of a graph that was stored are others."""
    parameters = [*kernel.parameters[:2], None, None]
    return node.others is kernel.others and node.first is parameters[0] and node.second is parameters[1]


def played_back(kernel: Called, theta: Sequence[Any], batch: Sequence[Sequence[Any]], output: int) -> Any:
    """Return an output as an ordinary graph: the program, evaluated on Values, sample by sample."""
    signature, program = kernel.signature, kernel.program
    samples = len(batch[0]) // max(program.sizes[0], 1) if signature.batched else 1
    results = []
    for k in range(samples):
        sample = [numbers[k * size : (k + 1) * size] for numbers, size in zip(batch, program.sizes, strict=True)]
        results.append(values_of(program, theta, sample)[program.outputs[output]])
    total = ops.total(results)
    total = total / float(samples) if signature.reduce == "mean" and signature.batched else total
    return total if isinstance(total, Value) else engine.constant(total)


def cuts(program: Program, output: int) -> Cuts:
    """Return for each parameter, and each number of each argument, whether no path leads to it from an output.

    A path does not lead through a local derivative that is 0 by definition, as that of ``stop_gradient``.
    """
    part = Program(*program.columns, [program.outputs[output]], program.sizes, program.parameters)
    of_parameters = np.ones(program.parameters, bool)
    of_arguments = [[True] * size for size in program.sizes]
    for row, frozen, position in zip(program.rows, without_gradient(part), program.data, strict=True):
        if not frozen and row is PARAMETER:
            of_parameters[int(position)] = False
        elif not frozen and row.recipe is not None and row.recipe[0] is argument_of:
            of_arguments[int(row.recipe[1][0])][int(position)] = False
    return of_parameters, of_arguments
