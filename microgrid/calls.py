"""Calls of modules: which module made which node of a graph."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import mul
from typing import Any, ClassVar, Final, final

from microgrid import ops
from microgrid.builds import mypyc_attr
from microgrid.engine import ADD, MUL, Value, record
from microgrid.node import watched
from microgrid.recording import Origin, hooks, kinds, open_blocks


@mypyc_attr(native_class=False)
class Container:
    """A class that holds parameters through its attributes: the base of modules."""

    _called_as = ""


_container: Any = Container
"""What mypyc knows as a class it takes for final, as nothing that it compiles is a subclass."""


@final
@mypyc_attr(acyclic=True)
class Call:
    """One call of a module, which is the origin of its output nodes: drawings group nodes by it.

    It knows the module by name only, so that a graph keeps no module alive. A node whose line was
    recorded too has an ``Origin`` of its own; ``node.origin.module`` is the Call in both cases.

    Attributes:
        kind: the class of the module, ``"Neuron"``.
        outer: the call during which this one was made, or ``None``.
    """

    file: ClassVar[str] = ""
    line: ClassVar[int] = 0

    def __init__(self, kind: str, outer: "Call | None", called_as: str, module: Any, arguments: Any) -> None:
        self.kind = kind
        self.outer = outer
        self._called_as = called_as
        self._module = module  # while it runs: where the names of the modules within are found
        self._arguments = arguments

    @property
    def module(self) -> "Call":
        """This call: every ``node.origin.module`` is one, whether or not the line was recorded too."""
        return self

    @property
    def name(self) -> str:
        """The name of the module in the one that called it, ``"neurons.3"``; its kind if the user called it.

        The name is found when the module is first called, and kept.
        """
        return self.kind if self.outer is None else self._called_as

    @property
    def path(self) -> str:
        """The names from the module that the user called, joined by dots: ``"MLP.layers.0.neurons.3"``."""
        return self.name if self.outer is None else f"{self.outer.path}.{self.name}"

    @property
    def title(self) -> str:
        """What people read in the place of its name, ``"Neuron 3"``."""
        return title_of(self.kind, self.name)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The Values among the inputs of the module, out of lists of any depth."""
        return tuple(values_in(self._arguments))

    def __repr__(self) -> str:
        return f"<call of {self.path}, {len(self.inputs)} input(s)>"

    def __str__(self) -> str:
        return repr(self)


def title_of(kind: str, name: str) -> str:
    """Return ``"Neuron 3"`` for what a layer calls neurons.3, ``"encoder (MLP)"`` for what has a name of its own."""
    last = name.rpartition(".")[2]
    return f"{kind} {last}" if last.isdigit() else kind if last in ("", kind) else f"{last} ({kind})"


def titles(model: object) -> dict[str, str]:
    """Return what people read in the place of the dotted name of each module: ``"Layer 0 · Neuron 3"``."""
    found: dict[str, str] = {}
    for name, item in walk(model):
        if name and isinstance(item, _container):
            outer, _ = within(found, name)
            found[name] = " · ".join(filter(None, [outer, title_of(type(item).__name__, name)]))
    return {"": type(model).__name__, **found}


def within(titles: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the title of the innermost module around what has a dotted name, and what it is called there.

    The model itself is left out: it is the same for all.
    """
    outer = name
    while outer and outer not in titles:
        outer = outer.rpartition(".")[0]
    return titles[outer] if outer else "", name[len(outer) :].removeprefix(".")


_running = threading.local()


def _name_within(outer: Any, module: Any) -> str:
    """Return the name of a module in the one that called it, and note the names of its neighbours."""
    for name, item in walk(outer, into_modules=False):
        if name and isinstance(item, _container):
            item._called_as = name
    by_name = next((name for name, item in walk(outer) if item is module), type(module).__name__)
    found: str = module._called_as or by_name
    return found


def call(module: Any, forward: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return ``forward(*inputs, **options)`` of a module, and note the module in the nodes that it made."""
    outer: Call | None = getattr(_running, "call", None)
    name = "" if outer is None else module._called_as or _name_within(outer._module, module)
    one = len(inputs) == 1 and not options
    x = inputs[0] if one else (*inputs, *options.values())
    # A list is copied, for it may change after the call; the tuple of a layer serves all its neurons.
    this = Call(type(module).__name__, outer, name, module, tuple(x) if type(x) is list else x)
    _running.call = this
    try:
        outputs = forward(x) if one else forward(*inputs, **options)
    finally:
        _running.call = outer
        this._module = None
    if isinstance(outputs, Value):
        _note(outputs, this)
    else:
        for node in values_in(outputs):
            _note(node, this)
    return outputs


def _note(node: Value, made: Call) -> None:
    if node.origin is None:
        if node.first is not None:
            node.origin = made
    elif node.origin.module is None:
        node.origin = Origin(node.origin.file, node.origin.line, made)


def makers(order: Sequence[Value]) -> dict[Value, Call | None]:
    """Return, for each node of a graph, the innermost call of a module that it belongs to.

    A call owns the nodes between its outputs and its inputs, and its parameters. A node that several
    calls use belongs to the innermost module that holds them all (calls of one path count as one).

    Args:
        order: the nodes, as ``topological_order`` gives them.
    """
    found: dict[Value, Call | None] = {}
    inputs: dict[Call, frozenset[int]] = {}

    def outside(call: Call | None, node: Value) -> Call | None:
        while call is not None:
            if call not in inputs:
                inputs[call] = frozenset(map(id, call.inputs))
            if id(node) not in inputs[call]:
                break
            call = call.outer
        return call

    for node in reversed(order):
        made = node.origin.module if node.origin is not None else None
        call = found[node] = outside(made if isinstance(made, Call) else found.get(node), node)
        for parent in node.parents:
            wanted = outside(call, parent)
            found[parent] = _innermost_common(found[parent], wanted) if parent in found else wanted
    return found


def _innermost_common(a: Call | None, b: Call | None) -> Call | None:
    if a is b or a is None:
        return a
    paths = set()
    while b is not None:
        paths.add(b.path)
        b = b.outer
    while a is not None and a.path not in paths:
        a = a.outer
    return a


_open: Final = open_blocks
_sum_of: Final = ops.sum_of


def weighted_sum(start: Value, weights: list[Value], xs: tuple[Any, ...]) -> Any:
    """Return start + Σ wᵢ·xᵢ, the sum of a neuron, as one sum of products, as ``ops.total`` does."""
    total = start._data
    products: list[Value] = []
    watching, kind = (hooks.get(), kinds.get() or Value) if _open else (None, Value)  # asked once, not for each product
    for i, x in enumerate(xs):
        if not isinstance(x, Value):  # a user-defined number type
            return ops.total([start, *map(mul, weights, xs)])
        w = weights[i]
        product = w._data * x._data
        total += product
        products.append(
            record(MUL, product, w, x) if watching is None else watched(kind, watching, MUL, product, w, x, ())
        )
    op = ADD if len(products) == 1 else _sum_of(len(products) + 1)
    return record(op, total, start, products[0], tuple(products[1:]))


def walk(root: Any, into_modules: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield the content of modules, lists, tuples and dicts, each once and in order, with its dotted name."""
    stack: list[tuple[str, Any]] = [("", root)]
    seen = set()
    while stack:
        name, item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield name, item
        if isinstance(item, _container) and (into_modules or item is root):
            # A list of all at once: another thread may set an attribute meanwhile.
            within: Iterable[tuple[Any, Any]] = [pair for pair in [*vars(item).items()] if pair[0][:1] != "_"]
        elif isinstance(item, (list, tuple)):
            within = enumerate(item)
        elif isinstance(item, dict):
            within = item.items()
        else:
            continue
        dot = name and name + "."
        stack.extend(reversed([(f"{dot}{key}", value) for key, value in within]))


def values_in(nested: Any) -> tuple[Value, ...] | list[Value]:
    """Return the Values in lists of any depth; the usual plain list is quick."""
    if type(nested) in (list, tuple) and {*map(type, nested)} == {Value}:
        return nested  # type: ignore[no-any-return]
    return [item for _, item in walk(nested) if type(item) is Value]
