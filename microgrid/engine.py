"""The engine: a Value is a number that remembers how it was computed.

Arithmetic on Values records a computation graph. ``backward()`` walks that graph once, in reverse
topological order, and applies the chain rule at each node: the gradient of the node, times its local
derivative by a parent, is added to the gradient of that parent.
"""

# Operators return what those of the base class do, which mypy knows as Any.
# mypy: disable-error-code="no-any-return"

from typing import Any, Final, Never, SupportsFloat, TypeAlias, cast

from microgrid import ops
from microgrid.builds import i32, mypyc_attr
from microgrid.node import BLANK, Node, watched
from microgrid.ops import CONSTANT, Op, Operation, as_float
from microgrid.ops.ieee import add_up, divide
from microgrid.ops.op import is_number
from microgrid.ops.operators import METHODS
from microgrid.recording import hooks, kinds, open_blocks, pending
from microgrid.reverse import live_nodes, require_numbers, sent_to_leaves, sweep

ADD: Final = ops.add
SUB: Final = ops.sub
MUL: Final = ops.mul
DIV: Final = ops.div

Result: TypeAlias = "Value | Never"  # noqa: RUF020 - in a union mypyc lets NotImplemented pass
"""The result of an operator: a Value, or ``NotImplemented`` for an operand that is not a number."""


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Value(Node):
    """A real number in a computation graph.

    >>> x, w = mg.Value(2.0, "x"), mg.Value(-3.0, "w")
    >>> (x * w + 1.0).backward()
    >>> x.grad, w.grad
    (-3.0, 2.0)

    Args:
        data: the number; any real number is taken and kept as a Python float.
        parents: the operands, if you computed the number yourself: ``Value(t, (x,), "sin")``. Then give the local
            derivatives too: assign ``out._backward`` a function that adds to the gradients of the parents, or give
            them in place of ``op``, a number or a function (y, *xs) for each parent. An ``mg.Op`` does more: it
            can be computed again, compiled, and differentiated twice. Also accepted as ``_children`` or ``children``,
            its names in other programs.
        op: the name of the operation, or the local derivatives; also as ``_op`` or ``local_grads``.
        label: free text that drawings and reports show; may be assigned later, and given as second argument.

    Attributes:
        data: the number, a float.
        grad: the gradient ∂output/∂self, filled by ``output.backward()``.
        op: the operation that computed this value, usually a row of the table of operations, which holds the local
            derivatives; ``ops.LEAF`` if the user gave the number, ``ops.CONSTANT`` for the 2 in ``2 * x``.
        label: free text.
        origin: where the node was made, if that was recorded; else ``None``.

    Raises:
        TypeError: if ``data`` is not a real number, ``label`` not text, or a parent not a Value.
    """

    __slots__ = ()

    def backward(self, gradient: SupportsFloat = 1.0) -> None:
        """Compute the gradient of this value by every value that it depends on (chapter 5.2).

        It sets the gradient of interior nodes to ∂self/∂node and **adds** it to that of leaves, so that the gradients
        of several outputs, or of several samples, sum up; a second call gives leaves exactly twice the first.
        To start afresh set ``leaf.grad = 0.0``, or call ``zero_grad()`` of a module or an optimiser.
        A node all of whose paths to this value are constant, as behind ``stop_gradient`` or a comparison,
        has gradient 0 and sends nothing back.

        Args:
            gradient: the gradient of this value itself: 1 unless it is part of something larger.

        Raises:
            AnomalyError: within ``detect_anomaly()``; the gradients of the leaves are as they were.
            TypeError: if a local derivative of an operation of yours is not a number; likewise.
        """
        seed = as_float(gradient)
        if sent_to_leaves(self, seed):
            return
        order = topological_order(self)
        leaves = [node for node in order if node.first is None]
        before = [leaf._grad for leaf in leaves]
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
                require_numbers(order)
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
    # The rest of Python's operators, and the operations as methods, are in Operators. In-place operators are not
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

    # -- the protocol of the table -------------------------------------------------------------------

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
        return record(op, number, operands[0], operands[1], tuple(operands[2:]))


def topological_order(*roots: Value) -> list[Value]:
    """Return every node that the roots depend on, and the roots: parents before children, each once.

    It is a depth-first search that places a node after all of its parents. The stack is a list, not
    Python's own, so the depth of a graph has no limit. ``None`` on the stack marks that the node
    below it comes up for the second time: its parents have been placed. Visited nodes are in a
    set or, in the compiled build, carry the number of this search: nothing else runs meanwhile there.

    >>> [node.data for node in mg.topological_order(mg.Value(2.0) * mg.Value(3.0))]
    [2.0, 3.0, 6.0]
    """
    for root in cast(Any, roots):  # Any, because what is given need not be a Value
        if not isinstance(root, Value):
            raise TypeError(f"a graph is made of Values; got {ops.short_repr(root)} of type {type(root).__name__}")
    global _searches
    _searches += 1
    search = _searches
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
            first, second = node.first, node.second
            if first is None:
                order.append(node)
                continue
            stack.append(node)
            stack.append(None)
            if node.others and id(node.others) not in shared:
                shared.add(id(node.others))
                stack.extend(reversed(node.others))
            if second is not None and ((second._mark != mark) if _compiled else (second not in seen)):
                stack.append(second)
            if (first._mark != mark) if _compiled else (first not in seen):
                stack.append(first)
    if _compiled and search != _searches:  # a finaliser has searched meanwhile, and marked nodes
        return topological_order(*roots)
    return order


_searches = 0
_new: Final[Any] = Value.__new__
_open: Final = open_blocks


def record(
    op: Operation, data: float, first: Value | None, second: Value | None = None, others: tuple[Value, ...] = ()
) -> Value:
    """Make the node of an operation whose result is known, in Python in a third of the time of ``Value(data)``."""
    if _open:
        node: Value = watched(kinds.get() or Value, hooks.get(), op, data, first, second, others)
        return node
    node = Value(BLANK) if _compiled else _new(Value)
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
setattr(Value, "__hash__", object.__hash__)  # noqa: B010 - mypyc wants it written out; Python's own is quicker


def _sum_of(op: Operation, operands: list[Value]) -> Value:
    """Record a sum of many operands, without a list of their numbers."""
    total = operands[0]._data
    for operand in operands[1:]:
        total += operand._data
    return record(op, total, operands[0], operands[1], tuple(operands[2:]))


def constant(number: SupportsFloat) -> Value:
    """Return a plain number as a node, marked as a constant, not a leaf."""
    return record(CONSTANT, as_float(number), None)


def _with_number(op: Op, a: Any, b: Any) -> Any:
    """Record an operation with one operand that is not a Value: a plain number, or an object with its own operator."""
    if not isinstance(a, Value):
        if not is_number(a):
            return NotImplemented
        a = constant(a)
    if not isinstance(b, Value):
        if not is_number(b):
            return NotImplemented
        b = constant(b)
    return record(op, op.forward(a._data, b._data), a, b)


def _method(op: Op) -> Any:
    def unary(self: Value, *others: Any) -> Any:
        return op(self, *others) if others else record(op, op.forward(self._data), self)

    return unary


for _name, _function in METHODS.items():
    if isinstance(_function, Op) and _function.arity == 1:  # as Operators has it, but quicker
        setattr(Value, _name, _method(_function))
