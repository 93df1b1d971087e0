"""A computation graph as plain data: the program that the explorer's page runs.

The page can only compute operations. So a row is exported as its JavaScript expression, and
its local derivatives as short programs of the same kind, recorded by running the row's own partials on
symbols. No derivative is written in JavaScript.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from microgrid import ops
from microgrid.engine import Value, topological_order
from microgrid.ops import Operation, Operators, expand

Json = dict[str, Any]


class Symbol(Operators):
    """An unknown number: an operation on it is recorded on its tape, not computed."""

    __slots__ = ("slot", "tape")

    def __init__(self, tape: "list[Entry]", slot: int) -> None:
        self.tape = tape
        self.slot = slot

    @classmethod
    def __apply__(cls, op: Operation, arguments: tuple[Any, ...]) -> "Symbol":
        tape = next(argument.tape for argument in arguments if isinstance(argument, Symbol))
        slots = [_slot(tape, argument) for argument in arguments]
        tape.append((op, slots))
        return cls(tape, len(tape) - 1)

    def __bool__(self) -> bool:
        raise TypeError("it chooses by the number itself; where(condition, a, b) keeps the choice in the program")

    def __lt__(self, other: Any) -> bool:
        return bool(self)

    def __eq__(self, other: object) -> bool:
        return bool(self)

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = object.__hash__


Entry = str | float | tuple[Operation, list[int]]
"""One slot of a tape: the name of an argument, a constant, or an operation on earlier slots."""


def _slot(tape: list[Entry], argument: Any) -> int:
    if isinstance(argument, Symbol):
        return argument.slot
    tape.append(ops.as_float(argument))
    return len(tape) - 1


class Row:
    """The export of one row of the table to the page.

    Attributes:
        javascript: its function in JavaScript; empty if it has none.
        tape: the slots of the local derivatives' program: y, the arguments, then the computed ones.
        is_users: whether it is user-defined, so that the page checks its JavaScript against Python's numbers.
        results: for each argument the slot of its local derivative; ``None`` if nothing ever flows back.
        problem: why the page cannot compute the row, in words; empty if it can.
    """

    def __init__(self, op: Operation) -> None:
        self.op = op
        self.tape: list[Entry] = ["{y}", *[f"{{{i}}}" for i in range(op.arity)]]
        self.results: list[int | None] = []
        self.is_users = not ops.in_table(op)
        self.javascript = javascript(op)
        known = self.javascript or not op.arity
        self.problem = "" if known else f"the operation {op.name} has no JavaScript expression"
        y, *xs = [Symbol(self.tape, slot) for slot in range(op.arity + 1)]
        constants: dict[float, int] = {}
        for partial in op.partials:
            if callable(partial):
                try:
                    self.results.append(_slot(self.tape, partial(y, *xs)))
                except Exception as error:  # a user's function: the page shows any exception
                    self.results.append(None)
                    self.problem = (
                        f"the local derivative of {op.name} is not written with operations of the table ({error})"
                    )
            elif partial == 0:
                self.results.append(None)
            else:
                if partial not in constants:
                    constants[partial] = _slot(self.tape, partial)
                self.results.append(constants[partial])
        for entry in self.tape:
            if isinstance(entry, tuple) and not javascript(entry[0]):
                self.problem = self.problem or (
                    f"the local derivative of {op.name} uses {entry[0].name}, which has no JavaScript expression"
                )


_MATH = {
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "exp",
    "expm1", "floor", "hypot", "log", "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"
}  # fmt: skip
"""The functions of JavaScript's Math that are those of the rows of these names."""


def javascript(op: Operation) -> str:
    """Return an operation's JavaScript function, ``(a0, a1) => (a0 + a1)``; empty if it has none.

    Raises:
        ValueError: if the user's template does not fit the number of arguments.
    """
    names = [f"a{i}" for i in range(op.arity)]
    try:
        return f"({', '.join(names)}) => ({_javascript(op, names)})" if names else ""
    except LookupError:
        return ""


def _javascript(op: Operation, operands: Sequence[Any]) -> str:
    texts = [_javascript_number(x) if isinstance(x, float) else x for x in operands]
    if op.javascript:
        return ops.spell(op, "javascript", *texts)
    if op.operator in ("+", "-", "*", "/"):
        return f"({op.operator}{texts[0]})" if op.arity == 1 else f"({f' {op.operator} '.join(texts)})"
    if op.name in _MATH and ops.in_table(op):
        return f"Math.{op.name}({', '.join(texts)})"
    if op.expansion is None:
        raise LookupError
    text: str = expand(op, _javascript, texts)
    return text


def _javascript_number(x: float) -> str:
    return {math.inf: "Infinity", -math.inf: "(-Infinity)"}.get(x, "NaN" if x != x else f"({x!r})")


class Program:
    """The computation graph of one output, with everything needed to run both passes again.

    Attributes:
        order: every Value, parents before children, in the order of ``backward()``.
        index: the position of each in ``order``.
        rows: the operations of the graph, and those that the page may need besides.
        numbers: of each operation, in the page's list, which includes those of local derivatives.
    """

    def __init__(self, output: Value, besides: Iterable[Operation] = ()) -> None:
        self.order = topological_order(output)
        self.index = {value: i for i, value in enumerate(self.order)}
        self.rows = {op: Row(op) for op in dict.fromkeys([*(value.op for value in self.order), *besides])}
        used = [entry[0] for row in self.rows.values() for entry in row.tape if isinstance(entry, tuple)]
        self.numbers = {op: i for i, op in enumerate(dict.fromkeys([*self.rows, *used]))}

    def functions(self) -> list[str]:
        """Return one JavaScript statement per operation that has an expression."""
        functions = [(i, javascript(op)) for op, i in self.numbers.items()]
        return [f"operations[{i}] = {function};" for i, function in functions if function]

    def json(self) -> Json:
        """Return rows and values as JSON has them; the numbers it lacks as text, ``"NaN"``."""
        known = [row.problem or row.is_users for row in map(self.rows.__getitem__, (value.op for value in self.order))]
        frozen = [(i, value) for i, value in enumerate(self.order) if known[i] and value.parents]
        given = [(i, value) for i, value in enumerate(self.order) if value.first is None]
        return {
            "rows": [self._row(self.rows[op]) if op in self.rows else {"name": op.name} for op in self.numbers],
            "op": [self.numbers[value.op] for value in self.order],
            "parents": [[self.index[parent] for parent in value.parents] for value in self.order],
            "labels": {i: value.label for i, value in enumerate(self.order) if value.label},
            "data": {i: number(value.data) for i, value in [*given, *frozen]},
            "derivatives": {i: [number(d) for d in value.local_derivatives()] for i, value in frozen},
        }

    def _row(self, row: Row) -> Json:
        texts = formulas(row.tape)
        operation = formula(row.op, texts[1 : row.op.arity + 1]) if row.op.arity else Text("", ATOM)
        return {
            "name": row.op.name,
            "symbol": row.op.symbol,
            "doc": row.op.doc,
            "problem": row.problem,
            "formula": operation.text,
            "tape": [
                [self.numbers[entry[0]], *entry[1]] if isinstance(entry, tuple) else number(entry)
                for entry in row.tape
                if not isinstance(entry, str)
            ],
            "results": row.results,
            "derivatives": ["0" if slot is None else texts[slot].text for slot in row.results],
        }


def number(x: float) -> float | str:
    """Return a float as JSON has it, and those that it lacks as the text that JavaScript reads."""
    return x if math.isfinite(x) else "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"


# ---------------------------------------------------------------------------------------------------
# Formulas for people. Each text has a strength, its precedence, which decides on parentheses.

COMPARISON, SUM, PRODUCT, PREFIX, POWER, ATOM = range(6)
STRENGTHS = {"+": SUM, "-": SUM} | dict.fromkeys(("*", "/", "//", "%"), PRODUCT)
FORMULA_LENGTH = 160


class Text(NamedTuple):
    """A formula, and its precedence."""

    text: str
    strength: int

    def held(self, strength: int) -> str:
        """Return it with at least this precedence, in parentheses if need be."""
        return self.text if self.strength >= strength else f"({self.text})"

    def __format__(self, specification: str) -> str:
        return self.held(ATOM) if specification == "atom" else self.text


def formulas(tape: Sequence[Entry]) -> list[Text]:
    """Write the slots of a tape as formulas."""
    texts: list[Text] = []
    for entry in tape:
        if isinstance(entry, str):
            texts.append(Text(entry, ATOM))
        elif isinstance(entry, tuple):
            texts.append(formula(entry[0], [texts[slot] for slot in entry[1]]))
        else:
            texts.append(Text(f"{entry:.4g}".replace("-", "−"), PREFIX if entry < 0 else ATOM))
    return texts


def formula(op: Operation, operands: Sequence[Text]) -> Text:
    """Write an operation as its row says: between the operands or before them, as its formula, or as a function."""
    symbol = op.symbol.replace("{", "{{").replace("}", "}}")  # the result is a template
    if op.operator:
        strength = STRENGTHS.get(op.operator, COMPARISON)
        if op.arity == 1:
            return Text(f"{symbol}{operands[0].held(PREFIX)}", PREFIX)
        first, *others = operands
        between = f" {symbol if op.arity == 2 else op.operator} "
        return Text(_shorten(between.join([first.held(strength), *[x.held(strength + 1) for x in others]])), strength)
    if op.formula:
        return Text(ops.spell(op, "formula", *operands), POWER if ":atom}" in op.formula else ATOM)
    return Text(_shorten(f"{symbol}({', '.join(operand.text for operand in operands)})"), ATOM)


def _shorten(text: str) -> str:
    """Cut what nobody would read, between two operands: the panel lists them all."""
    if len(text) <= FORMULA_LENGTH:
        return text
    cut = text.rfind(" ", 0, FORMULA_LENGTH)
    return f"{text[:cut]} …{')' if text.endswith(')') else ''}"
