"""The engine: a Value is a number that remembers how it was computed.

Arithmetic on Values records a computation graph. ``backward()`` walks that graph once, in reverse
topological order, and applies the chain rule at each node: the gradient of the node, times its local
derivative by a parent, is added to the gradient of that parent.

>>> x, w = Value(2.0, label="x"), Value(-0.25, label="w")
>>> y = (x * w).tanh()
>>> y.backward()
>>> w.grad == (1 - y.data**2) * x.data
True
"""

# Operators return what those of the base class do, which mypy knows as Any.
# mypy: disable-error-code="no-any-return"

from collections.abc import Iterable, Sequence
from itertools import compress
from operator import mul
from typing import Any, Final, Never, NoReturn, SupportsFloat, TypeAlias

from microgrid import ops
from microgrid.builds import i32, mypyc_attr
from microgrid.given import Familiar, Given, give
from microgrid.ops import CONSTANT, LEAF, Op, Operation, as_float
from microgrid.ops.ieee import add_up, divide
from microgrid.ops.op import CONSTANTS, ONE_FUNCTION, OTHER, PRODUCT, SUM, TWO_FUNCTIONS, is_number
from microgrid.ops.operators import METHODS
from microgrid.recording import (  # noqa: F401 - all of these can be imported from here, where they were
    AnomalyError,
    Origin,
    check_backward,
    check_forward,
    detect_anomaly,
    enable_grad,
    hooks,
    kinds,
    no_grad,
    open_blocks,
    pending,
    pictures,
    readers,
    record_lines,
    watch,
    watch_reads,
)

ADD: Final = ops.add
SUB: Final = ops.sub
MUL: Final = ops.mul
DIV: Final = ops.div

Result: TypeAlias = "Value | Never"  # noqa: RUF020 - in a union mypyc lets NotImplemented pass
"""What an operator returns: a Value, or ``NotImplemented`` for what is no number."""


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Value(Familiar):
    """A real number in a computation graph.

    Args:
        data: the number; any real number is taken and kept as a Python float.
        parents: the operands, if you computed the number yourself: ``Value(t, (x,), "sin")``. Then give the local
            derivatives too: assign ``out._backward`` a function that adds to the gradients of the parents, or give
            them in place of ``op``, a number or a function (y, *xs) for each parent. An ``mg.Op`` does more: it
            can be computed again, compiled, and differentiated twice.
        op: the name of the operation, or the local derivatives.
        _children, children, _op, local_grads: the same by the names that other programs have for them.
        label: free text that drawings and reports show; may be assigned later, and given as second argument.

    Attributes:
        data: the number, a float.
        grad: the gradient ∂output/∂self, filled by ``output.backward()``.
        op: the operation that computed this value. Usually it is a row of the table of operations, which
            holds the local derivatives; else a call of a compiled function, or what you gave. ``ops.LEAF`` if
            the user gave the number, ``ops.CONSTANT`` if it is a plain number that met a Value, as the 2 in
            ``2 * x``.
        label: free text.
        origin: where the node was made, if something asked to record it; else ``None``.

    Raises:
        TypeError: if ``data`` is not a real number, ``label`` not text, or a parent not a Value.
    """

    # The parents stand in slots of their own, not in a tuple: less memory, and half as many objects for
    # the garbage collector, whose visits would otherwise take most of the time. For the same reason the
    # derivatives live in the shared row, not in a closure per node: nothing points back from a parent
    # to its child, there are no cycles, and a graph dies with its last reference.
    __slots__ = ("_data", "_grad", "first", "label", "op", "origin", "others", "second")

    _mark: i32 = 0  # of the compiled build alone: here it is no slot, and stays 0

    def __init__(
        self,
        data: SupportsFloat,
        parents: Any = None,
        op: Any = None,
        label: str = "",
        _children: Any = None,
        _op: Any = None,
        children: Any = None,
        local_grads: Any = None,
    ) -> None:
        if isinstance(data, Value):
            raise TypeError(
                f"{data!r} is a Value already: use it as it is to stay in its graph, or Value(v.data) for a new leaf"
            )
        if not isinstance(label, str):
            raise TypeError(f"label must be text, and each number is a Value of its own; got {ops.short_repr(label)}")
        self._data: float = as_float(data)
        self._grad: float = 0.0
        self.op: Operation = LEAF
        self.first: Value | None = None
        self.second: Value | None = None
        self.others: tuple[Value, ...] = ()
        self.label: Any = label  # text, as drawings say when it is not
        self.origin: Any = None
        if parents is not None or _children is not None or children is not None:
            if parents is None:
                parents = children if _children is None else _children
            give(self, parents, (op, _op, local_grads))

    @property
    def data(self) -> float:
        """The number."""
        if open_blocks:
            announce_reads(self)
        return self._data

    @data.setter
    def data(self, number: SupportsFloat) -> None:
        self._data = as_float(number)

    @property
    def grad(self) -> float:
        """The gradient of the latest output by this value."""
        return self._grad

    @grad.setter
    def grad(self, number: SupportsFloat) -> None:
        if type(number) is not float:
            number = _gradient(self, number)
        self._grad = number

    @property
    def parents(self) -> "tuple[Value, ...]":
        """The operands, in order and with repeats: ``x * x`` has two."""
        if self.first is None:
            return ()
        if self.second is None:
            return (self.first,)
        return (self.first, self.second, *self.others)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing computes this value: it was given, or is a constant."""
        return self.first is None

    def local_derivatives(self) -> tuple[float, ...]:
        """Return ∂self/∂parent for each parent, at the present data."""
        if isinstance(self.op, Given):
            return self.op.derivatives_at(self)
        return self.op.local_derivatives(self._data, *[parent._data for parent in self.parents])

    # -- the two passes ------------------------------------------------------------------------------

    def backward(self, gradient: SupportsFloat = 1.0) -> None:
        """Compute the gradient of this value by every value that it depends on (chapter 5.2).

        Interior nodes get ∂self/∂node. Leaves get it **added**, so that the gradients of several
        outputs, or of several samples, sum up; a second call gives them exactly twice the first.
        To start afresh set ``leaf.grad = 0.0``, or call ``zero_grad()`` of a module or an optimiser.
        A node all of whose paths to this value are constant, as behind ``stop_gradient`` or a comparison,
        has gradient 0 and sends nothing back.

        Args:
            gradient: the gradient of this value itself: 1 unless it is part of something larger.

        Raises:
            AnomalyError: within ``detect_anomaly()``; the gradients of the leaves are as they were.
            TypeError: if a local derivative of an operation of yours is not a number; likewise.
        """
        order = topological_order(self)
        leaves = [node for node in order if node.first is None]
        before = [leaf._grad for leaf in leaves]
        seed = as_float(gradient)
        outer = pending.set({})
        try:
            for node in order:
                node._grad = 0.0
            self._grad = seed
            sweep(live_nodes(order, [self]))
            for call, gradients in pending.get().items():
                call.finish(gradients)
            for leaf in leaves:
                if type(leaf._grad) is not float:  # an operation of the user's gave another kind of number
                    leaf._grad = as_float(leaf._grad)
        except BaseException as error:
            for leaf, was in zip(leaves, before, strict=True):
                leaf._grad = was
            if isinstance(error, (TypeError, *ops.ARITHMETIC)):
                for node in order:  # the faulty one raises, naming its operation
                    derivatives: tuple[Any, ...] = node.local_derivatives()
                    for derivative in derivatives:
                        ops.number(node.op, derivative, "local derivative")
            raise
        finally:
            pending.reset(outer)
        # Adding the whole sum here, not each term as it comes, makes two passes exactly twice one pass.
        for leaf, was in zip(leaves, before, strict=True):
            leaf._grad += was

    def forward(self) -> "Value":
        """Compute this value again, in place, after the ``data`` of leaves changed; return it.

        Raises:
            ValueError: for a node whose number you gave, of other operands; all nodes are as they were.
        """
        order = topological_order(self)
        before = [node._data for node in order]
        try:
            for node in order:
                if node.first is not None:
                    node._data = node.op.forward(*[parent._data for parent in node.parents])
        except BaseException:
            for node, was in zip(order, before, strict=True):
                node._data = was
            raise
        return self

    # -- arithmetic ----------------------------------------------------------------------------------
    # The rest of Python's operators, and the operations as methods, stand in Operators. In-place operators are not
    # defined, so Python rebinds: ``x += 1`` is ``x = x + 1``, as for floats.

    def __add__(self, other: SupportsFloat) -> Result:
        if isinstance(other, Value):
            return record(ADD, self._data + other._data, self, other)
        return _with_number(ADD, self, other)

    def __radd__(self, other: SupportsFloat) -> Result:
        return _with_number(ADD, other, self)

    def __sub__(self, other: SupportsFloat) -> Result:
        if isinstance(other, Value):
            return record(SUB, self._data - other._data, self, other)
        return _with_number(SUB, self, other)

    def __rsub__(self, other: SupportsFloat) -> Result:
        return _with_number(SUB, other, self)

    def __mul__(self, other: SupportsFloat) -> Result:
        if isinstance(other, Value):
            return record(MUL, self._data * other._data, self, other)
        return _with_number(MUL, self, other)

    def __rmul__(self, other: SupportsFloat) -> Result:
        return _with_number(MUL, other, self)

    def __truediv__(self, other: SupportsFloat) -> Result:
        if isinstance(other, Value):
            return record(DIV, divide(self._data, other._data), self, other)
        return _with_number(DIV, self, other)

    def __rtruediv__(self, other: SupportsFloat) -> Result:
        return _with_number(DIV, other, self)

    def __pow__(self, exponent: SupportsFloat) -> Result:
        if isinstance(exponent, Value) or not is_number(exponent):
            return super().__pow__(exponent)
        op = ops.power_of(as_float(exponent))
        return record(op, op.forward(self._data), self)

    # -- comparison: of the data, == too; hash is identity, so sets and dicts keep nodes of one number apart --

    def __eq__(self, other: object) -> bool:
        """Whether the numbers are equal. So ``x in a_list`` finds an equal number; for nodes use a set, or ``is``."""
        if open_blocks:
            announce_reads(self, other)
        if isinstance(other, Value):
            return self._data == other._data
        mine: Any = self._data
        return NotImplemented if hasattr(other, "__len__") else mine == other  # an array answers number by number

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __lt__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine < (other._data if isinstance(other, Value) else other)

    def __le__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine <= (other._data if isinstance(other, Value) else other)

    def __gt__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine > (other._data if isinstance(other, Value) else other)

    def __ge__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine >= (other._data if isinstance(other, Value) else other)

    def __bool__(self) -> bool:
        return bool(self.data)

    # -- what others see of a Value ------------------------------------------------------------------

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "Value":
        if len(arguments) == 1:
            x: Value = arguments[0]
            result: Any = op.forward(x._data)
            return record(op, result if type(result) is float else ops.number(op, result), x)
        operands = [x if isinstance(x, Value) else constant(x) for x in arguments]
        if op.forward is add_up:
            return _sum_of(op, operands)
        data: Any = op.forward(*[operand._data for operand in operands])
        number: float = data if type(data) is float else ops.number(op, data)
        return record(op, number, operands[0], operands[1] if len(operands) > 1 else None, tuple(operands[2:]))

    def __float__(self) -> NoReturn:
        raise TypeError(
            f"float({self!r}) would silently cut it out of its graph: write v.data for the plain number, "
            "or the function of this package to stay in the graph: mg.sin(v), not math.sin(v)"
        )

    def __int__(self) -> NoReturn:
        raise TypeError(
            f"int({self!r}) would silently cut it out of its graph: write int(v.data) for the plain number, "
            "or mg.trunc(v), mg.floor(v) or round(v) to stay in the graph"
        )

    def __format__(self, specification: str) -> str:
        return format(self._data, specification) if specification else repr(self)

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self._data!r}, grad={self.grad!r}{label})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str] | None:
        """What a notebook shows of a cell that ends in this value; ``None`` for its repr alone."""
        return pictures[-1](self, None) if pictures else None


def topological_order(*roots: Value) -> list[Value]:
    """Return every node that the roots depend on, and the roots: parents before children, each once.

    It is a depth-first search that places a node after all of its parents. The stack is a list, not
    Python's own, so the depth of a graph has no limit. ``None`` on the stack marks that the node
    below it comes up for the second time: its parents have been placed. What has been seen stands in a
    set or, in the compiled build, carries the number of this search: nothing else runs meanwhile there.
    """
    given_roots: tuple[Any, ...] = roots  # Any, because what is given need not be a Value
    for root in given_roots:
        if not isinstance(root, Value):
            raise TypeError(f"a graph is made of Values; got {ops.short_repr(root)} of type {type(root).__name__}")
    while True:
        order, undisturbed = _search(roots)
        if undisturbed:
            return order


def _search(roots: Sequence[Value]) -> tuple[list[Value], bool]:
    """Return the order, and whether no other search has marked nodes meanwhile, as a finaliser might."""
    _searches[0] += 1
    search = _searches[0]
    mark: i32 = 1 + search % 0x7FFFFFFF  # a new node has 0
    seen: set[Value] = set()
    order: list[Value] = []
    shared: set[int] = set()  # a compiled call gives many nodes that have one long tuple of parents
    stack: list[Value | None] = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node is None:
            placed = stack.pop()
            assert placed is not None
            order.append(placed)
        elif (node._mark != mark) if _compiled else (node not in seen):
            if _compiled:
                node._mark = mark  # type: ignore[misc]
            else:
                seen.add(node)
            if node.first is None:
                order.append(node)
                continue
            stack.append(node)
            stack.append(None)
            if node.second is not None:
                if node.others and id(node.others) not in shared:
                    shared.add(id(node.others))
                    stack.extend(reversed(node.others))
                stack.append(node.second)
            stack.append(node.first)
    return order, not _compiled or search == _searches[0]


_searches = [0]


def live_nodes(order: list[Value], outputs: Iterable[Value]) -> list[Value]:
    """Return the nodes of a topological order that a gradient can reach from the outputs.

    Behind a local derivative that is 0 by definition, as that of ``stop_gradient``, nothing flows back:
    not 0 times an infinite local derivative either, which would be nan.
    """
    for node in order:
        op = node.op
        if type(op) is Op and not op.cuts:
            continue
        if op.cuts:
            break
    else:
        return order
    live = set(outputs)
    shared: set[int] = set()
    for node in reversed(order):
        if node not in live:
            continue
        if node.op.cuts:
            live.update(compress(node.parents, node.op.connected))
        elif id(node.others) in shared:
            live.update((node.first, node.second))  # type: ignore[arg-type]
        else:
            live.update(node.parents)
            shared.add(id(node.others))
    return [node for node in order if node in live]


def sweep(nodes: list[Value]) -> None:
    """Apply the chain rule to nodes in topological order, the last one first.

    Each adds its gradient, times its local derivatives, to the gradients of its parents. The row says which form
    these have; the common forms are spelled out here, because this is where the time goes.
    """
    no_row = CONSTANT  # which sends nothing back: it stands for an operation that is no row
    anomalies = bool(open_blocks) and check_forward in hooks.get()
    for node in reversed(nodes):
        if anomalies:
            check_backward(node)
        first = node.first
        if first is None:
            continue
        op, gradient, second = node.op, node._grad, node.second
        row = op if type(op) is Op else no_row
        form = row.form
        if form == PRODUCT and second is not None:
            first._grad += gradient * second._data
            second._grad += gradient * first._data
        elif form == SUM:
            first._grad += gradient
            if second is not None:
                second._grad += gradient
                for other in node.others:
                    other._grad += gradient
        elif form == ONE_FUNCTION:
            first._grad += gradient * row.by_first(node._data, first._data)
        elif form == TWO_FUNCTIONS and second is not None:
            a, b = first._data, second._data
            first._grad += gradient * row.by_first(node._data, a, b)
            second._grad += gradient * row.by_second(node._data, a, b)
        elif form == CONSTANTS:
            first._grad += gradient * row.left
            if second is not None:
                second._grad += gradient * row.right
        elif form == OTHER or row is no_row:
            op.backpropagate(node)


# ---------------------------------------------------------------------------------------------------
# Recording nodes


_new: Final[Any] = Value.__new__
_open: Final = open_blocks


def record(
    op: Operation, data: float, first: Value | None, second: Value | None = None, others: tuple[Value, ...] = ()
) -> Value:
    """Make the node of an operation whose result is known: in Python in a third of the time of ``Value(data)``."""
    if _open:
        return _record_watched(op, data, first, second, others)
    node: Value = Value(data) if _compiled else _new(Value)
    node._data = data
    node._grad = 0.0
    node.op = op
    node.first = first
    node.second = second
    node.others = others
    node.label = ""
    node.origin = None
    return node


_compiled: Final = not hasattr(record, "__code__")  # there the call of a class is quicker than its __new__
if not _compiled:  # mypyc wants it written out; Python is quicker without a function of its own
    Value.__hash__ = object.__hash__  # type: ignore[method-assign]


def _record_watched(
    op: Operation, data: float, first: Value | None, second: Value | None, others: tuple[Value, ...]
) -> Value:
    """Do the same where something may be watching."""
    node: Value = _new(kinds.get() or Value)
    node._data, node._grad, node.op = data, 0.0, op
    node.first, node.second, node.others = first, second, others
    node.label, node.origin = "", None
    for hook in hooks.get():
        hook(node)
    return node


def _sum_of(op: Operation, operands: list[Value]) -> Value:
    """Record a sum of many operands, without a list of their numbers."""
    total = operands[0]._data
    for operand in operands[1:]:
        total += operand._data
    return record(op, total, operands[0], operands[1], tuple(operands[2:]))


def weighted_sum(start: Value, weights: list[Value], xs: tuple[Any, ...]) -> Any:
    """Return start + Σ wᵢ·xᵢ as one sum of products, as ``ops.total`` gives it: what a neuron computes."""
    total = start._data
    products: list[Value] = []
    for i, x in enumerate(xs):
        if not isinstance(x, Value):  # a number type of the user's
            return ops.total([start, *map(mul, weights, xs)])
        w = weights[i]
        product = w._data * x._data
        total += product
        products.append(record(MUL, product, w, x))
    op = ADD if len(products) == 1 else ops.sum_of(len(products) + 1)
    return record(op, total, start, products[0], tuple(products[1:]))


def constant(number: SupportsFloat) -> Value:
    """Return a plain number as a node, marked as a constant, not a leaf."""
    return record(CONSTANT, as_float(number), None)


def _with_number(op: Op, a: Any, b: Any) -> Any:
    """Record an operation one of whose operands is not a Value: a plain number, or what may know better itself."""
    if not isinstance(a, Value):
        if not is_number(a):
            return NotImplemented
        a = constant(a)
    if not isinstance(b, Value):
        if not is_number(b):
            return NotImplemented
        b = constant(b)
    return record(op, op.forward(a._data, b._data), a, b)


def _method(function: Any) -> Any:
    """Return an operation as a method of its first operand."""
    if not isinstance(function, Op) or function.arity != 1:
        return lambda self, *others: function(self, *others)
    op: Op = function

    def unary(self: Value, *others: Any) -> Any:
        return op(self, *others) if others else record(op, op.forward(self._data), self)

    return unary


for _name, _function in METHODS.items():
    setattr(Value, _name, _method(_function))


def announce_reads(*read: Any) -> None:
    """Call the hooks of ``watch_reads`` for each Value among what is about to be read."""
    for hook in readers.get():
        for value in read:
            if isinstance(value, Value):
                hook(value)


def _gradient(node: Value, number: Any) -> float:
    if is_number(number):
        return as_float(number)
    raise TypeError(
        f"the grad of {node!r} must be one real number; got {ops.short_repr(number)}; to start afresh set it to 0.0"
    )
