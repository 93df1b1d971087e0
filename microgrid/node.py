"""The storage, comparison and display of a node: everything of a ``Value`` but its mathematics."""

# Comparisons with other types return what those of a float return.
# mypy: disable-error-code="no-any-return"

from typing import Any, Final, NoReturn, Self, SupportsFloat

from microgrid import ops
from microgrid.builds import i32, mypyc_attr
from microgrid.given import Familiar, Given, give
from microgrid.ops import LEAF, Operation, as_float
from microgrid.ops.op import is_number
from microgrid.recording import Hook, open_blocks, pictures, readers, writes

BLANK: Final[Any] = object()
"""As the number of a new node: whoever makes it sets all attributes."""


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Node(Familiar):
    """A number, its gradient, the operation that computed it and the operands. ``Value`` says what they mean."""

    # The parents have slots, not a tuple: less memory, and half as many objects for
    # the garbage collector, whose visits would otherwise take most of the time. For the same reason the
    # derivatives are in the shared row, not in a closure per node: nothing points back from a parent
    # to its child, there are no cycles, and a graph dies with its last reference.
    __slots__ = ("_data", "_grad", "first", "label", "op", "origin", "others", "second")

    _mark: i32 = 0  # of the compiled build alone: here it is no slot, and stays 0; first, where it costs no padding

    first: Self | None
    second: Self | None
    others: tuple[Self, ...]

    def __init__(
        self,
        data: SupportsFloat,
        parents: Any = None,
        op: Any = None,
        label: Any = "",
        _children: Any = None,
        _op: Any = None,
        children: Any = None,
        local_grads: Any = None,
    ) -> None:
        if data is BLANK:
            return
        if isinstance(data, Node):
            raise TypeError(
                f"{data!r} is a Value already: use it as it is to stay in its graph, or Value(v.data) for a new leaf"
            )
        if not isinstance(label, str):
            raise TypeError(f"label must be text, and each number is a Value of its own; got {ops.short_repr(label)}")
        self._data: float = as_float(data)
        self._grad: float = 0.0
        self.op: Operation = LEAF
        self.first = None
        self.second = None
        self.others = ()
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
        writes.latest = object()

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
    def parents(self) -> tuple[Self, ...]:
        """The operands, in order and with repeats: ``x * x`` has two."""
        if self.first is None:
            return ()
        if self.second is None:
            return (self.first,)
        return (self.first, self.second, *self.others)

    @property
    def is_leaf(self) -> bool:
        """Whether no operation computed this value: it was given, or is a constant."""
        return self.first is None

    def local_derivatives(self) -> tuple[float, ...]:
        """Return ∂self/∂parent for each parent, at the present data."""
        if isinstance(self.op, Given):
            return self.op.derivatives_at(self)
        return self.op.local_derivatives(self._data, *[parent._data for parent in self.parents])

    # -- comparison: of the data, == too; hash is identity, so sets and dicts keep nodes of one number apart --

    def __eq__(self, other: object) -> bool:
        """Whether the numbers are equal. So ``x in a_list`` finds an equal number; for nodes use a set, or ``is``."""
        if open_blocks:
            announce_reads(self, other)
        if isinstance(other, Node):
            return self._data == other._data
        mine: Any = self._data
        return NotImplemented if hasattr(other, "__len__") else mine == other  # an array answers number by number

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __lt__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine < (other._data if isinstance(other, Node) else other)

    def __le__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine <= (other._data if isinstance(other, Node) else other)

    def __gt__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine > (other._data if isinstance(other, Node) else other)

    def __ge__(self, other: SupportsFloat) -> bool:
        if open_blocks:
            announce_reads(self, other)
        mine: Any = self._data
        return mine >= (other._data if isinstance(other, Node) else other)

    def __bool__(self) -> bool:
        return bool(self.data)

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
        """The display of a notebook cell that ends in this value; ``None`` for its repr alone."""
        return pictures[-1](self, None) if pictures else None


def watched(
    kind: Any, watching: tuple[Hook, ...], op: Operation, data: float, first: Any, second: Any, others: Any
) -> Any:
    """Make a node of a class when hooks may be watching."""
    node: Node = kind.__new__(kind)
    node._data = data
    node._grad = 0.0
    node.op = op
    node.first = first
    node.second = second
    node.others = others
    node.label = ""
    node.origin = None
    for hook in watching:
        hook(node)
    return node


def announce_reads(*read: Any) -> None:
    """Call the hooks of ``watch_reads`` for each Value among the objects about to be read."""
    for hook in readers.get():
        for value in read:
            if isinstance(value, Node):
                hook(value)


def _gradient(node: Node, number: Any) -> float:
    if is_number(number):
        return as_float(number)
    raise TypeError(
        f"the grad of {node!r} must be one real number; got {ops.short_repr(number)}; to start afresh set it to 0.0"
    )
