"""Program: a graph of scalars as flat lists, one entry per node: its row of the table, and its arguments' numbers."""

import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, reduce
from hashlib import sha256
from typing import Any, cast

from microgrid import ops
from microgrid.calculus import under_way
from microgrid.compiler.tracing import Traced, TraceError, without_collector
from microgrid.engine import Value, topological_order
from microgrid.given import Given
from microgrid.ops import CONSTANT, Op
from microgrid.ops.op import in_table
from microgrid.recording import enable_grad


def named(name: str) -> Op:
    """Return a row of this module by its name: what a pickled program stores of it."""
    return _ROWS[name]


def _row(name: str, forward: Callable[..., float], doc: str) -> Op:
    return Op(name, forward, (), doc=doc, recipe=(named, (name,)))  # type: ignore[arg-type]


PARAMETER = _row("parameter", lambda: ops.nan, "A leaf that the function found outside its arguments.")
SUM = _row("sum", lambda *xs: reduce(operator.add, xs), "The sum of any number of arguments.")
LARGEST = _row("largest", lambda *xs: reduce(ops.maximum.forward, xs), "The largest of the arguments.")
SMALLEST = _row("smallest", lambda *xs: reduce(ops.minimum.forward, xs), "The smallest of the arguments.")
SCAN = _row("scan", lambda *xs: ops.nan, "A recurrence, of its start, its inputs and constants; data: which one.")
STATE = _row("state", lambda scan: ops.nan, "A number of a recurrence's states, the start the first; data: its place.")


def not_within(*_: object) -> float:
    """Refuse a derivative of a loop that is one operation.

    Raises:
        TraceError: always.
    """
    raise TraceError(
        "gradient_graph() of what a loop of mg.scan or mg.iterate computes: while a function is compiled such a loop "
        "is one operation; take the derivative by mg.grad(f) of the function f that has the loop in it"
    )


PICK = Op(
    "pick",
    lambda loop, place: ops.nan,
    (not_within, 0.0),
    doc="A number of the states of a loop that was recorded as one operation, at a place: see ``STATE``.",
    recipe=(named, ("pick",)),  # type: ignore[arg-type]
)
_ROWS = {row.name: row for row in (PARAMETER, SUM, LARGEST, SMALLEST, SCAN, STATE, PICK)}


@cache
def argument_of(k: int) -> Op:
    """Return the row that marks a number of argument ``k``."""
    return Op(f"argument[{k}]", lambda: ops.nan, (), doc=f"A number of argument {k}.", recipe=(argument_of, (k,)))


@dataclass(slots=True)
class Program:
    """A graph of scalars, flat: node ``i`` is ``rows[i]`` of the nodes ``arguments[starts[i]:starts[i+1]]``.

    Arguments stand before what uses them. A leaf carries a number in ``data``: a constant its value, an
    argument or a parameter its position.

    Attributes:
        rows: the operation of each node.
        starts: where the arguments of each node start; one more entry than there are nodes.
        arguments: the arguments of all nodes, one after the other.
        data: the number that a leaf carries; 0 for an operation.
        outputs: the nodes that the program computes.
        sizes: how many numbers each argument of the function has.
        parameters: how many parameters there are.
        recurrences: what the nodes of the row ``SCAN`` compute.
    """

    rows: list[Op] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    arguments: list[int] = field(default_factory=list)
    data: list[float] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    parameters: int = 0
    recurrences: "list[Recurrence]" = field(default_factory=list)

    def append(self, row: Op, arguments: Iterable[int] = (), data: float = 0) -> int:
        """Add a node and return its number."""
        self.rows.append(row)
        self.arguments.extend(arguments)
        self.starts.append(len(self.arguments))
        self.data.append(data)
        return len(self.rows) - 1

    def bodies(self) -> "Iterator[tuple[Program, int]]":
        """Yield the program of a step of each recurrence, those within steps, too, and how many steps are made."""
        for recurrence in self.recurrences:
            yield recurrence.body, recurrence.steps
            yield from ((body, recurrence.steps * steps) for body, steps in recurrence.body.bodies())

    @property
    def columns(self) -> tuple[list[Op], list[int], list[int], list[float]]:
        """The lists of rows, starts, arguments and data, for the passes that run over all nodes."""
        return self.rows, self.starts, self.arguments, self.data

    def __len__(self) -> int:
        return len(self.rows)

    def nodes(self) -> Iterator[tuple[Op, list[int], float]]:
        """Yield the row, the arguments and the data of each node."""
        start = 0
        for row, end, data in zip(self.rows, self.starts[1:], self.data, strict=True):
            yield row, self.arguments[start:end], data
            start = end

    def digest(self) -> str:
        """Return a digest of all of it; nothing if a row is not the package's: then its name does not say all.

        Nor do name and constants of a row whose constants are not all numbers: a loop that ends by a condition.
        """
        numbers = {row: number for number, row in enumerate(dict.fromkeys(self.rows))}
        if self.recurrences or not all(row is CONSTANT or in_table(row) for row in numbers):
            return ""
        for row in numbers:
            constants: tuple[object, ...] = () if row.recipe is None else row.recipe[1]
            if not all(isinstance(x, int | float | str) for x in constants):
                return ""
        names = [(row.name, row.recipe and (row.recipe[0].__qualname__, row.recipe[1])) for row in numbers]
        counts = len(self.rows), len(self.outputs), self.sizes, self.parameters
        found = sha256(repr((names, counts)).encode())
        for integers in ([numbers[row] for row in self.rows], self.starts, self.arguments, self.outputs):
            found.update(array("q", integers))
        found.update(array("d", self.data))
        return found.hexdigest()

    def dump(self, limit: int = 200) -> str:
        """Return the program as text, one node a line, at most ``limit`` of them."""
        lines = []
        for i, (row, arguments, data) in enumerate(self.nodes()):
            if i == limit:
                lines.append(f"... and {len(self) - limit} more")
                break
            leaf = str(data if row is CONSTANT else int(data))
            inside = ", ".join(f"%{a}" for a in arguments) if arguments else leaf
            lines.append(f"%{i} = {row.name}({inside})")
        lines.append("return " + ", ".join(f"%{i}" for i in self.outputs))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, eq=False)
class Recurrence:
    """Steps of which each is one program of the last states; its operands are a start, inputs and constants, flat.

    Attributes:
        body: the program of a step, of three arguments: the states, the inputs of the step, the constants. It
            computes the new states.
        steps: how many steps there are.
        stops: whether a step changes nothing where the last state is not 0, as it stays then.
    """

    body: Program
    steps: int
    stops: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """What ``known`` makes it of."""
        rows, starts, arguments, data = self.body.columns
        numbers = tuple([float(x).hex() for x in data])
        lists = tuple(rows), tuple(starts), tuple(arguments), numbers, tuple(self.body.outputs), tuple(self.body.sizes)
        return (*lists, tuple(self.body.recurrences), self.steps, self.stops)

    def __reduce__(self) -> tuple[object, ...]:
        return known, self.key


@lru_cache(maxsize=1024)
def known(*key: Any) -> Recurrence:
    """Return the recurrence of a step, the same one wherever it is traced again: rows are told apart by identity."""
    rows, starts, arguments, numbers, outputs, sizes, recurrences, steps, stops = key
    data = [*map(float.fromhex, numbers)]
    body = Program([*rows], [*starts], [*arguments], data, [*outputs], [*sizes], recurrences=[*recurrences])
    return Recurrence(body, steps, stops)


def recurrence_of(row: Op) -> Recurrence | None:
    """Return the recurrence of which a row is all states, of its operands; None of any other row."""
    constants: tuple[object, ...] = () if row.recipe is None else row.recipe[1]
    constant = constants[0] if constants else None
    return constant if isinstance(constant, Recurrence) else None


Number = Any
"""A float or a Value."""

_ON_VALUES: dict[Op, Callable[[list[Number]], Number]] = {
    SUM: ops.total,
    LARGEST: lambda xs: reduce(ops.maximum, xs),
    SMALLEST: lambda xs: reduce(ops.minimum, xs),
    PICK: lambda xs: xs[0][int(xs[1])],
}


def values_of(program: Program, theta: Sequence[Number], sample: Sequence[Sequence[Number]]) -> list[Number]:
    """Return what each node of a program is, computed on Values of the parameters and of each argument of a sample."""
    values: list[Number] = []
    for row, arguments, data in program.nodes():
        if arguments:
            mine = [values[a] for a in arguments]
            recurrence = recurrence_of(row)
            if recurrence is not None:
                values.append(states_of(recurrence, mine))
            else:
                values.append(_ON_VALUES[row](mine) if row in _ON_VALUES else row(*mine))
        elif row is PARAMETER:
            values.append(theta[int(data)])
        elif row.recipe is not None and row.recipe[0] is argument_of:
            values.append(sample[int(row.recipe[1][0])][int(data)])
        else:
            values.append(data)
    return values


def states_of(recurrence: Recurrence, operands: Sequence[Number]) -> list[Number]:
    """Return the numbers of all states of a recurrence, on Values; traced, without a stop."""
    (size, count, _), steps = recurrence.body.sizes, recurrence.steps
    first, constants = size + steps * count, operands[size + steps * count :]
    stops = recurrence.stops and not any(isinstance(x, Traced) for x in operands)
    state = operands[:size]
    found = [*state]
    for begin in range(size, first, count) if count else [size] * steps:
        if not (stops and getattr(state[-1], "_data", state[-1])):
            values = values_of(recurrence.body, (), [state, operands[begin : begin + count], constants])
            state = [values[output] for output in recurrence.body.outputs]
        found += state
    return found


def from_values(
    nodes: Iterable[Value], outputs: Sequence[Value], inputs: Sequence[Sequence[Value]] = ()
) -> tuple[Program, list[Value]]:
    """Return the program of recorded nodes, and the leaves among them that are parameters.

    Args:
        nodes: the nodes, parents before children; leaves, and what was computed before, may be left out.
        outputs: the nodes to compute.
        inputs: the leaves of each argument.

    Returns:
        The program, and the leaves that are neither inputs nor constants, in the order of their first use.

    Raises:
        TraceError: if a node was cut out of the graph by ``no_grad()``.
        ValueError: if one leaf stands twice among the inputs.
    """
    found = _Numbering(inputs)
    found.add(nodes)
    found.program.outputs = [found.number[node] if node in found.number else found.place(node) for node in outputs]
    found.program.parameters = len(found.parameters)
    return found.program, found.parameters


class _Numbering:
    """A program that grows node by node. Two functions would refer to each other, and live until collected."""

    def __init__(self, inputs: Sequence[Sequence[Value]]) -> None:
        self.program = Program(sizes=[len(argument) for argument in inputs])
        self.number: dict[Value, int] = {}
        self.parameters: list[Value] = []
        self.varied = under_way.get()  # a derivative by one of these sees only paths that lead through the node itself
        for k, argument in enumerate(inputs):
            for position, leaf in enumerate(argument):
                if leaf in self.number:
                    raise ValueError(f"{leaf!r} stands twice among the inputs; give each leaf once")
                self.number[leaf] = self.program.append(argument_of(k), (), position)

    def place(self, node: Value) -> int:
        """Add a node that the trace did not record: a leaf, or a result computed before it from leaves."""
        number, program = self.number, self.program
        if node.first is not None and node not in self.varied:
            order = topological_order(node)
            if not self.varied.isdisjoint(order):
                needed = {node}
                for x in reversed(order):
                    if x in needed and x not in self.varied:
                        needed.update(x.parents)
                order = [x for x in order if x in needed]
            self.add(order)
        elif node.op is CONSTANT:
            number[node] = program.append(CONSTANT, (), node._data)
        elif type(node) is Traced:
            raise TraceError(
                f"{node!r} was computed in a traced function but cut out of its graph, so it would be frozen at the "
                "number of this trace: instead of no_grad() use mg.stop_gradient(x); a step of mg.scan or mg.iterate "
                "must return its numbers, not keep them elsewhere"
            )
        else:
            number[node] = place = len(program.rows)
            program.rows.append(PARAMETER)
            program.starts.append(len(program.arguments))
            program.data.append(len(self.parameters))
            self.parameters.append(node)
            return place
        return number[node]

    def add(self, nodes: Iterable[Value]) -> None:
        """Add nodes, parents before children."""
        (rows, starts, arguments, data), varied = self.program.columns, self.varied
        number: dict[Value, Any] = self.number  # Any: what mypyc knows as int it makes anew for each list
        nothing: Any = 0.0
        for node in nodes:
            if node in number:
                continue
            first, second = node.first, node.second
            if first is None or (varied and node in varied):
                self.place(node)
                continue
            op = node.op
            if type(op) is not Op:
                result = _spelled_out(node)
                self.add(topological_order(result))
                number[node] = number[result]
                continue
            a = number.get(first)
            if a is None:
                a = self.place(first)
            if second is None:
                arguments.append(a)
            else:
                b = number.get(second)
                if b is None:
                    b = self.place(second)
                others = node.others
                rest = [number[x] if x in number else self.place(x) for x in others] if others else None
                arguments.append(a)
                arguments.append(b)
                if rest is not None:
                    arguments.extend(rest)
            number[node] = len(rows)
            rows.append(op)
            starts.append(len(arguments))
            data.append(nothing)


def _spelled_out(node: Value) -> Value:
    """Return what a compiled call computed before the trace, as a graph of rows.

    Raises:
        TraceError: if the node's operation is no compiled call, but one that is known at one point only.
    """
    op = node.op
    if isinstance(op, Given):
        raise TraceError(
            f"operation {op.name!r} was given as a number with its local derivatives, so it cannot be "
            f"compiled; {op.remedy}"
        )
    with enable_grad():
        return cast(Any, op).played_back(node.parents)  # type: ignore[no-any-return]


def from_graph(outputs: Sequence[Value], inputs: Sequence[Sequence[Value]] = ()) -> tuple[Program, list[Value]]:
    """Return the program of a graph that is there already; see ``from_values``."""
    with without_collector():
        return from_values(topological_order(*outputs), outputs, inputs)
