"""Derivatives as functions, of any order.

``gradient_graph`` is the reverse sweep of ``backward()`` run on Values instead of floats, with the same
rows of the table: its results are graphs themselves and can be differentiated again. The rest is built on
it: ``grad``, ``value_and_grad``, ``jacobian`` and ``hessian``; ``jvp`` and ``hvp`` push tangents forward.

The functions to differentiate take floats, or lists, tuples, dicts and NumPy arrays of floats, nested in
any way, and may be any Python: while they run, the numbers are Values.

>>> grad(grad(lambda x: x**3))(2.0)
12.0
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, overload

from microgrid import ops
from microgrid.engine import Value, constant, topological_order
from microgrid.ops import CONSTANT, LEAF, Op, Operation
from microgrid.ops.op import shared
from microgrid.recording import enable_grad, loops, watch
from microgrid.reverse import Choices, conditions

Function = Callable[..., Any]
Structure = TypeVar("Structure")


class Gradient(Protocol):
    """The gradient by the first argument, which has the structure of that argument."""

    @overload
    def __call__(self, x: float, /, *others: Any, **named: Any) -> float: ...
    @overload
    def __call__(self, x: Structure, /, *others: Any, **named: Any) -> Structure: ...


class ValueAndGradient(Protocol):
    """A function's value, with its gradient by the first argument."""

    @overload
    def __call__(self, x: float, /, *others: Any, **named: Any) -> tuple[float, float]: ...
    @overload
    def __call__(self, x: Structure, /, *others: Any, **named: Any) -> tuple[Any, Structure]: ...


under_way: ContextVar[frozenset[Value]] = ContextVar("under_way", default=frozenset())
"""The Values by which the running functions are differentiated."""


def gradient_graph(output: Value, inputs: Sequence[Value]) -> list[Value]:
    """Return ∂output/∂input for each input, as Values that can be differentiated in turn.

    The inputs may be any nodes, not only leaves. One that the output does not depend on has gradient 0.
    No ``grad`` is touched.

    >>> x = mg.Value(2.0)
    >>> (slope,) = mg.gradient_graph(x**3, [x])
    >>> slope.data, mg.gradient_graph(slope, [x])[0].data
    (12.0, 12.0)
    """
    order = topological_order(output)
    if not hasattr(type(inputs), "__iter__") or not all(isinstance(node, Value) for node in inputs):
        raise TypeError(f"gradient_graph() takes the inputs as a list of Values; got {ops.short_repr(inputs)}")
    recorded = loops.get()
    if recorded is not None:
        with enable_grad():
            output, inputs = recorded.written_out(output, inputs)
        order = topological_order(output)
    return _sweep(order, output, inputs)


def _sweep(order: Sequence[Value], output: Value, inputs: Sequence[Value]) -> list[Value]:
    """The reverse sweep over nodes in topological order; it visits those that depend on the inputs."""
    needed = set(inputs)
    for node in order:
        if node not in needed and not needed.isdisjoint(node.parents):
            needed.add(node)
    gradients: dict[Value, Value | float] = {output: 1.0}
    choosing = any(isinstance(node.op, Op) and node.op.chooses for node in order)
    reached = _Reached(order, output) if choosing else None
    with enable_grad():
        for node in reversed(order):
            gradient = gradients.get(node)
            if gradient is None or node not in needed:
                continue
            parents, mask = node.parents, reached and reached.mask(node)
            token = shared.set({})
            try:
                for parent, partial, connected in zip(parents, node.op.partials, node.op.connected, strict=True):
                    if parent not in needed or not connected:
                        continue
                    derivative = (
                        ops.local_derivative(node.op, partial, node, *parents) if callable(partial) else partial
                    )
                    product = _sent(node.op, gradient, derivative)
                    if mask is not None and callable(partial):  # times a plain number, 0 is 0
                        product = ops.chosen(mask, product)
                    gradients[parent] = gradients[parent] + product if parent in gradients else product
            finally:
                shared.reset(token)
        return [_as_value(gradients.get(node, 0.0)) for node in inputs]


class _Reached:
    """Which nodes a gradient of the output reaches, where that is a question of what is chosen."""

    def __init__(self, order: Sequence[Value], output: Value) -> None:
        self.order = order
        self.place = {node: k for k, node in enumerate(order)}
        operands = [[self.place.get(parent, -1) for parent in node.parents] for node in order]
        self.conditions = conditions([node.op for node in order], operands, [self.place.get(output, -1)])
        self.masks: dict[Choices | tuple[int, int], Value] = {}

    def mask(self, node: Value) -> Value | None:
        """1 where a gradient reaches a node, and 0 where none does; ``None`` if one does whatever is chosen."""
        choices = self.conditions.get(self.place[node])
        if choices is None:
            return None
        if choices not in self.masks:
            self.masks[choices] = ops.maximum(*[self._made(*choice) for choice in sorted(choices)])
        return self.masks[choices]

    def _made(self, chooses: int, k: int) -> Value:
        """Whether a node that a gradient reaches chose its operand ``k``."""
        if (chooses, k) not in self.masks:
            node = self.order[chooses]
            is_chosen = ops.local_derivative(node.op, node.op.partials[k], node, *node.parents)  # type: ignore[arg-type]
            above = self.mask(node)
            self.masks[chooses, k] = is_chosen if above is None else ops.mul(is_chosen, above)
        return self.masks[chooses, k]


def _sent(op: Operation, gradient: Any, derivative: Any) -> Any:
    """Return gradient · derivative, without a node for a factor of 1 or −1, which most local derivatives are."""
    for factor, other in ((gradient, derivative), (derivative, gradient)):
        if not isinstance(factor, Value):
            if factor == 1:
                return other
            if factor == -1:
                return -other
    return ops.sent(op, gradient, derivative)


def _as_value(number: Any) -> Value:
    return number if isinstance(number, Value) else constant(number)


@overload
def value_and_grad(f: Function) -> ValueAndGradient: ...
@overload
def value_and_grad(f: Function, argnums: int | tuple[int, ...]) -> Function: ...
def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Return the function that returns ``(f(*args), gradient)``; see ``grad``.

    >>> mg.value_and_grad(lambda x: x * x)(3.0)
    (9.0, 6.0)
    """
    _check_function(f, argnums)

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        with _Call(f, _chosen(f, argnums, args), args, kwargs) as call:
            gradient = call.gradients(call.scalar())
            return call.released(call.output), call.rebuild(gradient, argnums)

    return value_and_gradient


@overload
def grad(f: Function) -> Gradient: ...
@overload
def grad(f: Function, argnums: int | tuple[int, ...]) -> Function: ...
def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Return the function that computes the gradient of ``f`` by one of its arguments, or by several.

    >>> mg.grad(mg.dot, argnums=(0, 1))([1.0, 2.0], [3.0, 4.0])
    ([3.0, 4.0], [1.0, 2.0])

    Args:
        f: a function whose result is one number.
        argnums: the position of the argument; for a tuple of positions, the result is a tuple.

    Returns:
        A function with the arguments of ``f``; its result has the structure of the argument chosen.
        Floats give floats. If a Value is among the arguments, or ``f`` uses one from outside, the result
        is made of Values and keeps its graph, so ``grad`` nests, and no dependency is silently cut.

    Raises:
        TypeError: from the call, if ``f`` does not return one number, naming what it returned.
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def jacobian(f: Function, argnums: int = 0, *, sparse: bool = False) -> Function:
    """Return the function that computes every ∂outputᵢ/∂inputⱼ of ``f``.

    The result has the structure of ``f``'s result, with each number replaced by the structure of the
    argument: for a list of m numbers by a list of n it is m rows of n. It takes one reverse sweep per output, or one
    forward sweep per input, whichever visits fewer nodes; for a compiled function it is ``Compiled.jacobian``.

    >>> mg.jacobian(lambda x: [x[0] * x[1], x[0] - x[1]])([2.0, 3.0])
    [[3.0, 2.0], [1.0, -1.0]]

    Args:
        f: the function; its result may have any structure.
        argnums: the position of the argument.
        sparse: of a compiled function of one sample: a sparse matrix, ``scipy.sparse.csr_array``, of the entries
            that are not 0 by structure: ``jacobian(compile(f, batch=False), sparse=True)``.

    Raises:
        TypeError: if ``sparse`` is true for a function that is not compiled.
    """
    _check_function(f, argnums)
    if sparse:
        return _sparse(f, "jacobian", argnums)

    def jacobian_of_f(*args: Any, **kwargs: Any) -> Any:
        found = f.derivatives(args, kwargs, argnums, False) if hasattr(f, "derivatives") else None
        if found is not None:
            rows, structured = found
            _, again = flatten(args[argnums])
            return structured([again(row) for row in rows])
        with _Call(f, _chosen(f, argnums, args), args, kwargs) as call:
            outputs, rebuild = flatten(call.output)
            return rebuild([call.rebuild(row, argnums) for row in call.jacobian(outputs)])

    return jacobian_of_f


def hessian(f: Function, argnums: int = 0, *, sparse: bool = False) -> Function:
    """Return the function that computes every second derivative ∂²f/∂xᵢ∂xⱼ of a scalar ``f``.

    The arguments are those of ``jacobian``.

    >>> mg.hessian(lambda x: x[0] * x[0] * x[1])([2.0, 3.0])
    [[6.0, 4.0], [4.0, 0.0]]
    """
    _check_function(f, argnums)
    if sparse:
        return _sparse(f, "hessian", argnums)
    by_nodes = jacobian(grad(f, argnums), argnums)

    def hessian_of_f(*args: Any, **kwargs: Any) -> Any:
        found = f.derivatives(args, kwargs, argnums, True) if hasattr(f, "derivatives") else None
        if found is None:
            return by_nodes(*args, **kwargs)
        rows, _ = found
        _, again = flatten(args[argnums])
        return again([again(row) for row in rows])

    return hessian_of_f


def _sparse(f: Any, name: str, argnums: int) -> Function:
    """The method of a compiled function that returns a sparse matrix."""
    if not hasattr(f, name):
        raise TypeError(
            f"sparse=True is for a compiled function, whose structure is known: {name}(mg.compile(f, batch=False), "
            f"sparse=True); got {ops.short_repr(f)}"
        )
    return lambda *args, **kwargs: getattr(f, name)(*args, argnums=argnums, sparse=True, **kwargs)


def jvp(f: Function, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return ``f`` at a point and its derivative along a direction, in one pass forward.

    The tangent of a node is Σ ∂node/∂parent · tangent of the parent, over its parents; it is computed
    node by node in topological order, next to the value: forward-mode differentiation. A constant node, as behind
    ``stop_gradient`` or a comparison, or a constant chosen by ``take``, has no tangent and sends none on.

    >>> mg.jvp(lambda x: x * x, 3.0, 1.0)
    (9.0, 6.0)

    Args:
        f: the function; its result may have any structure.
        primals: the point: a tuple of the arguments of ``f``, or its only argument.
        tangents: the direction, in the same structure.

    Returns:
        ``(f(*primals), Σ ∂f/∂xᵢ · tangentᵢ)``, both in the structure of ``f``'s result.

    Raises:
        ValueError: if the structures of primals and tangents differ.
    """
    _check_function(f)
    args = primals if isinstance(primals, tuple) else (primals,)
    direction = [x if isinstance(x, Value) else ops.as_float(x) for x in flatten(tangents)[0]]
    with _Call(f, tuple(range(len(args))), args, {}) as call:
        if len(direction) != len(call.inputs):
            raise ValueError(
                f"primals hold {len(call.inputs)} number(s) and tangents {len(direction)}: "
                "give one tangent for each number, in the same structure"
            )
        keep_graph = call.keeps_graph or any(isinstance(tangent, Value) for tangent in direction)
        outputs, rebuild = flatten(call.output)
        order = call.nodes_of(output for output in outputs if isinstance(output, Value))
        pushed = _push_forward(order, outputs, dict(zip(call.inputs, direction, strict=True)), keep_graph)
        if keep_graph:
            return call.output, rebuild([_as_value(tangent) for tangent in pushed])
        return call.released(call.output), rebuild([ops.as_float(tangent) for tangent in pushed])


def _push_forward(
    order: Sequence[Value], outputs: list[Any], tangents: dict[Value, Any], keep_graph: bool
) -> list[Any]:
    """The tangents of the outputs, from those of the inputs; optionally as graphs.

    After a row that chooses, whether a node moves depends on the choice: the flag, 1 or 0, is a node with the index.
    """
    moves: dict[Value, Any] = {}
    with enable_grad():
        for node in order:
            parents, op = node.parents, node.op
            if tangents.keys().isdisjoint(parents):
                continue
            slopes = op.local_derivatives(node, *parents) if keep_graph else node.local_derivatives()
            known = [
                (parent, slope)
                for parent, connected, slope in zip(parents, op.connected, slopes, strict=True)
                if parent in tangents and connected
            ]
            if not known:
                continue
            products = [_sent(op, tangents[parent], slope) for parent, slope in known]
            if isinstance(op, Op) and op.chooses:
                moves[node] = ops.total([_sent(op, moves.get(parent, 1.0), slope) for parent, slope in known])
            elif moves:
                masks = [moves.get(parent) for parent, _ in known]
                products = [
                    product if mask is None else ops.chosen(mask, product)
                    for mask, product in zip(masks, products, strict=True)
                ]
                if None not in masks:
                    moves[node] = ops.maximum(*masks)
            tangents[node] = ops.total(products)
        return [tangents.get(output, 0.0) for output in outputs]


@overload
def hvp(f: Function) -> Function: ...
@overload
def hvp(f: Function, primals: Any, tangents: Any) -> Any: ...
def hvp(f: Function, primals: Any = None, tangents: Any = None) -> Any:
    """Return the Hessian of a scalar ``f``, times a direction, without forming the Hessian.

    Forward over reverse: the derivative of the gradient along the direction (Pearlmutter, 1994), at a
    small multiple of the cost of one gradient.

    >>> mg.hvp(lambda x: x[0] * x[0] * x[1], [2.0, 3.0], [1.0, 0.0])
    [6.0, 4.0]

    Args:
        f: a function whose result is one number.
        primals: the point: a tuple of the arguments of ``f``, or its only argument.
        tangents: the direction, in the same structure.

    Returns:
        Σⱼ ∂²f/∂xᵢ∂xⱼ · tangentⱼ, in the structure of ``primals``. For ``f`` alone, the function of point,
        direction and further arguments of ``f``, as SciPy calls it:
        ``minimize(f, x, method="Newton-CG", jac=grad(f), hessp=hvp(f))``.

    Raises:
        TypeError: for a point without a direction.
    """
    if primals is None and tangents is None:
        return lambda x, p, *args: hvp((lambda *xs: f(*xs, *args)) if args else f, x, p)
    if primals is None or tangents is None:
        raise TypeError(
            "hvp() takes a point and a direction, or neither: hvp(f, x, p) or hvp(f)(x, p); got "
            f"{ops.short_repr(primals)} and {ops.short_repr(tangents)}"
        )
    argnums = tuple(range(len(primals))) if isinstance(primals, tuple) else 0
    return jvp(grad(f, argnums), primals, tangents)[1]


def _check_function(f: Any, argnums: Any = ()) -> None:
    if not callable(f):
        raise TypeError(
            f"a derivative is taken of a function, as in grad(lambda x: x * x); got {ops.short_repr(f)}. For the "
            "gradients of a Value call its backward(), or gradient_graph(value, inputs)"
        )
    for position in argnums if isinstance(argnums, tuple) else (argnums,):
        if isinstance(position, bool) or not hasattr(type(position), "__index__"):
            raise TypeError(
                f"argnums must be the position of an argument, from 0, or a tuple of positions; got {argnums!r}"
            )


def _chosen(f: Function, argnums: int | tuple[int, ...], args: tuple[Any, ...]) -> tuple[int, ...]:
    positions = argnums if isinstance(argnums, tuple) else (argnums,)
    for position in positions:
        if not -len(args) <= position < len(args):
            raise ValueError(
                f"argnums={argnums!r} asks for argument {position} of {getattr(f, '__name__', f)!s}, which was "
                f"called with {len(args)} positional argument(s): count from 0, and pass by position what is "
                "to be differentiated"
            )
    return tuple(position % len(args) for position in positions)


_LOOKED_AT = 8
"""The number of outputs, spread over all, whose nodes are counted."""


class _Call:
    """One call of ``f`` on fresh Values in place of the numbers of the chosen arguments.

    The Values are fresh even in place of a Value: a new node, linked by ``identity``. So the
    inner of two nested derivatives sees only the paths that lead through its own argument, and the outer
    still sees all of them. The call notes the nodes that it records: only these can depend on its fresh Values, so a
    derivative costs as much as the call, however long the history of its other operands.
    """

    def __init__(self, f: Function, positions: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.f = f
        self.inputs: list[Value] = []
        self.rebuilds: list[tuple[int, Function]] = []
        self.recorded: list[Value] = []
        changed = list(args)
        with enable_grad():
            for position in positions:
                numbers, rebuild = flatten(args[position])
                values = [ops.identity(x) if isinstance(x, Value) else Value(x) for x in numbers]
                self.inputs += values
                self.rebuilds.append((len(values), rebuild))
                changed[position] = rebuild(values)
            given = any(value.op is not LEAF for value in self.inputs)
            token = under_way.set(under_way.get().union(self.inputs))
            try:
                with watch(self.recorded.append):
                    self.output = f(*changed, **kwargs)
            finally:
                under_way.reset(token)
        self.keeps_graph = given or self._reaches_outside()

    def _reaches_outside(self) -> bool:
        """Whether the results depend on a Value that is neither a constant nor made by this call."""
        numbers, _ = flatten(self.output)
        outputs = [number for number in numbers if isinstance(number, Value)]
        used: set[Any] = {*outputs, *[node.first for node in self.recorded], *[node.second for node in self.recorded]}
        used.update(*{id(node.others): node.others for node in self.recorded if node.others}.values())
        outside = {x for x in used.difference(self.recorded, self.inputs) if x is not None and x.op is not CONSTANT}
        if not outside:
            return False
        reached = {*outputs, *(parent for node in self.nodes_of(outputs) for parent in node.parents)}
        return not reached.isdisjoint(outside)

    @cached_property
    def place(self) -> dict[Value, int]:
        """The place of each node in the order in which the call recorded them, which is topological."""
        return {node: k for k, node in enumerate(self.recorded)}

    def nodes_of(self, outputs: Iterable[Value]) -> list[Value]:
        """The part of the graph of outputs that this call recorded, in topological order."""
        place = self.place
        found: set[Value] = set()
        shared: set[int] = set()  # as in topological_order
        stack = list(outputs)
        while stack:
            node = stack.pop()
            if node not in place or node in found:
                continue
            found.add(node)
            stack += [parent for parent in (node.first, node.second) if parent is not None]
            if node.others and id(node.others) not in shared:
                shared.add(id(node.others))
                stack += node.others
        return sorted(found, key=place.__getitem__)

    def __enter__(self) -> "_Call":
        return self

    def __exit__(self, *_: object) -> None:
        for value in self.inputs:  # to an outer derivative, the numbers of this call are constants
            if value.op is LEAF:
                value.op = CONSTANT

    def scalar(self) -> Any:
        """The result, which must be one number."""
        outputs, _ = flatten(self.output)
        if all(number is not self.output for number in outputs):
            raise TypeError(
                f"{getattr(self.f, '__name__', self.f)!s} must return one number to have a gradient; it returned "
                f"{ops.short_repr(self.output)}: return a single Value, or use jacobian()"
            )
        return self.output

    def gradients(self, output: Any) -> list[Any]:
        """∂output/∂input for every input, in floats where nothing needs the graph."""
        if not isinstance(output, Value):
            ops.as_float(output)  # raises if it is not a number
            return [0.0] * len(self.inputs)
        if self.keeps_graph:
            return list(_sweep(self.nodes_of([output]), output, self.inputs))
        for value in self.inputs:
            value.grad = 0.0
        output.backward()
        return [value.grad for value in self.inputs]

    def jacobian(self, outputs: list[Any]) -> list[list[Any]]:
        """∂output/∂input for every output and input: forward where that visits fewer nodes."""
        some = outputs[:: max(len(outputs) // _LOOKED_AT, 1)]
        if len(self.inputs) < len(outputs):
            visited = sum(len(self.nodes_of([output])) for output in some if isinstance(output, Value)) / len(some)
            if len(self.inputs) * len(self.recorded) < visited * len(outputs):
                order = self.nodes_of(output for output in outputs if isinstance(output, Value))
                columns = [_push_forward(order, outputs, {x: 1.0}, self.keeps_graph) for x in self.inputs]
                release = _as_value if self.keeps_graph else ops.as_float
                return [list(map(release, row)) for row in zip(*columns, strict=True)]
        return [self.gradients(output) for output in outputs]

    def released(self, output: Any) -> Any:
        """The output as floats, unless it keeps its graph."""
        if self.keeps_graph:
            return output
        numbers, rebuild = flatten(output)
        return rebuild([x._data if isinstance(x, Value) else x for x in numbers])

    def rebuild(self, numbers: list[Any], argnums: int | tuple[int, ...]) -> Any:
        """The numbers in the structures of the chosen arguments."""
        structures, start = [], 0
        for length, rebuild in self.rebuilds:
            structures.append(rebuild(numbers[start : start + length]))
            start += length
        return tuple(structures) if isinstance(argnums, tuple) else structures.pop()


def flatten(structure: Any) -> tuple[list[Any], Callable[[Iterable[Any]], Any]]:
    """Return the numbers of a nested structure in order, and the function that puts others in their place.

    Lists, tuples, named tuples, dicts, NumPy arrays and objects of dataclasses are structures; anything else counts as
    a number.
    """
    if isinstance(structure, (Value, float)):
        return [structure], _only
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(structure, numpy.ndarray):
        return list(structure.flat), lambda numbers: _array_like(numpy, structure.shape, list(numbers))
    if isinstance(structure, dict):
        keys, children = list(structure), list(structure.values())
    elif isinstance(structure, (list, tuple)):
        keys, children = None, list(structure)
    elif is_dataclass(structure) and not isinstance(structure, type):
        keys = [field.name for field in fields(structure)]
        children = [getattr(structure, key) for key in keys]
    else:
        return [structure], _only
    parts = [flatten(child) for child in children]

    def rebuild(numbers: Iterable[Any]) -> Any:
        remaining = iter(numbers)
        rebuilt = [again([next(remaining) for _ in leaves]) for leaves, again in parts]
        return made_of(type(structure), keys, rebuilt)

    return [number for leaves, _ in parts for number in leaves], rebuild


def made_of(kind: type, keys: Iterable[Any] | None, entries: Iterable[Any]) -> Any:
    """Return a container of a type with these entries; an object of a dataclass as ``copy`` makes it, by its fields."""
    if issubclass(kind, (list, tuple)):
        return kind(*entries) if hasattr(kind, "_fields") else kind(entries)
    named = zip(keys or (), entries, strict=True)
    if issubclass(kind, dict):
        return dict(named)
    made = object.__new__(kind)
    for name, entry in named:
        object.__setattr__(made, name, entry)
    return made


def _only(numbers: Iterable[Any]) -> Any:
    return next(iter(numbers))


def _array_like(numpy: Any, shape: tuple[int, ...], items: list[Any]) -> Any:
    """An array of floats, of Values, or of arrays stacked along the given shape."""
    if items and all(isinstance(item, numpy.ndarray) for item in items):
        stacked = numpy.stack(items)
        return stacked.reshape(shape + stacked.shape[1:])
    kind = float if all(isinstance(item, (int, float)) for item in items) else object
    array = numpy.empty(len(items), dtype=kind)
    for i, item in enumerate(items):
        array[i] = item
    return array.reshape(shape)
