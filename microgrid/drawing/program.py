"""A computation graph as plain data: the program that the explorer's page runs.

The page can compute operations and nothing else. So a row goes there with its JavaScript expression, and
with its local derivatives as short programs of the same kind, found by running the row's own partials on
symbols. No derivative is written in JavaScript.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from microgrid import ops
from microgrid.engine import Value, topological_order
from microgrid.ops import Operation, Operators

Json = dict[str, Any]


class Symbol(Operators):
    """A number that is not known yet: an operation on it is written down on its tape, not computed."""

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
    """What the page needs to know of one row of the table.

    Attributes:
        tape: the slots of the local derivatives' program: y, the arguments, then what it computes.
        is_users: whether it is the user's, so that the page checks its JavaScript against Python's numbers.
        results: for each argument the slot of its local derivative; ``None`` if nothing ever flows back.
        problem: why the page cannot compute the row, in words; empty if it can.
    """

    def __init__(self, op: Operation) -> None:
        self.op = op
        self.tape: list[Entry] = ["{y}", *[f"{{{i}}}" for i in range(op.arity)]]
        self.results: list[int | None] = []
        self.is_users = not ops.in_table(op)
        self.problem = "" if op.javascript or not op.arity else f"the operation {op.name} has no JavaScript expression"
        y, *xs = [Symbol(self.tape, slot) for slot in range(op.arity + 1)]
        constants: dict[float, int] = {}
        for partial in op.partials:
            if callable(partial):
                try:
                    self.results.append(_slot(self.tape, partial(y, *xs)))
                except Exception as error:  # the function is the user's: whatever it raises, the page says so
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
            if isinstance(entry, tuple) and not entry[0].javascript:
                self.problem = self.problem or (
                    f"the local derivative of {op.name} uses {entry[0].name}, which has no JavaScript expression"
                )


def _function(op: Operation) -> str:
    """Return an operation's JavaScript function, ``(a0, a1) => (a0 + a1)``."""
    names = [f"a{i}" for i in range(op.arity)]
    spelled = ops.spell(op, "javascript", *names)
    return f"({', '.join(names)}) => ({spelled})"


class Program:
    """The computation graph of one output, with everything needed to run both passes again.

    Attributes:
        order: every Value, parents before children, in the order of ``backward()``.
        index: the position of each in ``order``.
        rows: the operations of the graph.
    """

    def __init__(self, output: Value) -> None:
        self.order = topological_order(output)
        self.index = {value: i for i, value in enumerate(self.order)}
        self.rows = {op: Row(op) for op in dict.fromkeys(value.op for value in self.order)}
        used = [entry[0] for row in self.rows.values() for entry in row.tape if isinstance(entry, tuple)]
        self._numbers = {op: i for i, op in enumerate(dict.fromkeys([*self.rows, *used]))}

    def functions(self) -> list[str]:
        """Return one JavaScript statement per operation that has an expression."""
        return [f"operations[{i}] = {_function(op)};" for op, i in self._numbers.items() if op.javascript]

    def json(self) -> Json:
        """Return rows and values as JSON has them; the numbers it lacks as text, ``"NaN"``."""
        known = [row.problem or row.is_users for row in map(self.rows.__getitem__, (value.op for value in self.order))]
        frozen = [(i, value) for i, value in enumerate(self.order) if known[i] and value.parents]
        given = [(i, value) for i, value in enumerate(self.order) if value.first is None]
        return {
            "rows": [self._row(self.rows[op]) if op in self.rows else {"name": op.name} for op in self._numbers],
            "op": [self._numbers[value.op] for value in self.order],
            "parents": [[self.index[parent] for parent in value.parents] for value in self.order],
            "labels": {i: value.label for i, value in enumerate(self.order) if value.label},
            "data": {i: number(value.data) for i, value in [*given, *frozen]},
            "derivatives": {i: [number(d) for d in value.local_derivatives()] for i, value in frozen},
        }

    def _row(self, row: Row) -> Json:
        texts = _texts(row.tape)
        operation = _expression(row.op, texts[1 : row.op.arity + 1]) if row.op.arity else ("", ATOM)
        return {
            "name": row.op.name,
            "symbol": row.op.symbol,
            "doc": row.op.doc,
            "problem": row.problem,
            "formula": operation[0],
            "tape": [
                [self._numbers[entry[0]], *entry[1]] if isinstance(entry, tuple) else number(entry)
                for entry in row.tape
                if not isinstance(entry, str)
            ],
            "results": row.results,
            "derivatives": ["0" if slot is None else texts[slot][0] for slot in row.results],
        }


def number(x: float) -> float | str:
    """Return a float as JSON has it, and those that it lacks as the text that JavaScript reads."""
    return x if math.isfinite(x) else "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"


# ---------------------------------------------------------------------------------------------------
# Formulas for people. A text goes with the strength that holds it together, to know where parentheses go.

Text = tuple[str, int]
COMPARISON, SUM, PRODUCT, PREFIX, POWER, ATOM = range(6)
INFIX = {"+": SUM, "−": SUM} | dict.fromkeys(("×", "÷", "//", "mod"), PRODUCT) | dict.fromkeys("<≤=≠≥>", COMPARISON)
FORMULA_LENGTH = 160


def _texts(tape: Sequence[Entry]) -> list[Text]:
    texts: list[Text] = []
    for entry in tape:
        if isinstance(entry, str):
            texts.append((entry, ATOM))
        elif isinstance(entry, tuple):
            texts.append(_expression(entry[0], [texts[slot] for slot in entry[1]]))
        else:
            texts.append((f"{entry:.4g}".replace("-", "−"), PREFIX if entry < 0 else ATOM))
    return texts


def _expression(op: Operation, operands: Sequence[Text]) -> Text:
    """Write an operation as its symbol says: between the operands, before them, around x, or as a function."""
    name, symbol = (text.replace("{", "{{").replace("}", "}}") for text in (op.name, op.symbol))  # a template's braces
    first = operands[0]
    if len(operands) == 2 and symbol in INFIX:
        strength = INFIX[symbol]
        return f"{_hold(first, strength)} {symbol} {_hold(operands[1], strength + 1)}", strength
    if symbol == "Σ":
        return _shorten(" + ".join(_hold(operand, PRODUCT) for operand in operands)), SUM
    if len(operands) == 1 and symbol == "−":
        return f"−{_hold(first, PREFIX)}", PREFIX
    if len(operands) == 1 and symbol == "x¹":
        return first
    if len(operands) == 1 and re.fullmatch("x[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺·]+", symbol):
        return f"{_hold(first, ATOM)}{symbol[1:]}", POWER
    if len(operands) == 1 and re.search(r"(?<![a-z])x(?![a-z])", symbol):
        return re.sub(r"(?<![a-z])x(?![a-z])", lambda _: first[0], symbol), ATOM
    if len(operands) == 2 and symbol == "xⁿ":
        return f"{_hold(first, ATOM)}^{_hold(operands[1], ATOM)}", POWER
    if len(operands) == 1 and re.fullmatch(r"[\d.e+-]+ˣ", symbol):
        return f"{symbol[:-1]}^{_hold(first, ATOM)}", POWER
    return _shorten(f"{name if 'ˣ' in symbol else symbol}({', '.join(text for text, _ in operands)})"), ATOM


def _hold(text: Text, strength: int) -> str:
    return text[0] if text[1] >= strength else f"({text[0]})"


def _shorten(text: str) -> str:
    """Cut what nobody would read, between two operands: the panel lists them all."""
    if len(text) <= FORMULA_LENGTH:
        return text
    cut = text.rfind(" ", 0, FORMULA_LENGTH)
    return f"{text[:cut]} …{')' if text.endswith(')') else ''}"
