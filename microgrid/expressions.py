"""Formulas typed by a user, such as ``tanh(x1*w1 + b)``: read against a whitelist, never run as code.

Python's ``ast`` module reads the text into a tree. Only numbers, names, ``+ - * / // % **``, parentheses and
calls of this package's scalar functions are accepted, and they are computed with the table of operations.
"""

import ast
import difflib
import keyword
import math
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from microgrid import ops

CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}
"""Names that stand for a number, unless the user gives them another."""

ALLOWED = "numbers, names, + - * / // % **, parentheses and functions such as tanh(x)"


_AT_LEAST_ONE = range(1, sys.maxsize)
FUNCTIONS: dict[str, tuple[Callable[..., Any], range]] = {
    **{name: (op, range(op.arity, op.arity + 1)) for name, op in ops.TABLE.items()},
    "power": (ops.pow, range(2, 3)),
    "pow": (ops.pow, range(2, 3)),
    "log": (ops.log, range(1, 3)),
    "degrees": (ops.degrees, range(1, 2)),
    "radians": (ops.radians, range(1, 2)),
    "fabs": (ops.fabs, range(1, 2)),
    "max": (ops.maximum, _AT_LEAST_ONE),
    "min": (ops.minimum, range(2, 3)),
    "leaky_relu": (ops.leaky_relu, range(1, 2)),
    "elu": (ops.elu, range(1, 2)),
    "hypot": (ops.hypot, _AT_LEAST_ONE),
    "prod": (lambda *xs: ops.prod(xs), _AT_LEAST_ONE),
    "logsumexp": (lambda *xs: ops.logsumexp(xs), _AT_LEAST_ONE),
    "mean": (lambda *xs: ops.mean(xs), _AT_LEAST_ONE),
    "total": (lambda *xs: ops.total(xs), _AT_LEAST_ONE),
}
"""The functions that a formula may call, with the numbers of arguments that they take."""

_SIGNS: dict[type[ast.unaryop], Callable[..., Any]] = {ast.UAdd: lambda x: x, ast.USub: ops.neg}
_OPERATORS: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: ops.add,
    ast.Sub: ops.sub,
    ast.Mult: ops.mul,
    ast.Div: ops.div,
    ast.FloorDiv: ops.floor_divide,
    ast.Mod: ops.mod,
    ast.Pow: ops.pow,
}


class ExpressionError(ValueError):
    """A formula cannot be read or computed; the message shows the place.

    Attributes:
        column: the place, counted in characters from 1; 0 if the error is about the whole.
    """

    def __init__(self, message: str, text: str = "", column: int = 0) -> None:
        self.column = column
        if column:
            start = max(0, column - 50)
            shown = "".join(c if c.isprintable() else "�" for c in text[start : column + 25])
            wide = sum(unicodedata.east_asian_width(c) in "WF" for c in shown[: column - 1 - start])
            message = f"{message}\n  {shown}\n  {' ' * (column - 1 - start + wide)}^ column {column}"
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Expression:
    """A formula that was read.

    Attributes:
        text: the formula.
        names: its names in the order of first appearance, each with its column.
        program: the instructions, operands first: push a number, push the number of a name, or replace the last
            ``count`` numbers by a function of them.
    """

    text: str
    names: dict[str, int]
    program: list[tuple[float | str | Callable[..., Any], int]]

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the formula's result: a Value if one of ``values`` is, else a float.

        Raises:
            ExpressionError: if a name of the formula has no value, or a value's name is not in the formula.
        """
        unknown = [name for name in values if name not in self.names]
        missing = [name for name in self.names if name not in values and name not in CONSTANTS]
        if missing:
            raise ExpressionError(
                f"no number is given for {missing[0]!r}{_near(missing[0], unknown)}; "
                f"add {' '.join(f'{name}=…' for name in missing[:8])}"
                + (f" and {len(missing) - 8:,} more" if len(missing) > 8 else ""),
                self.text,
                self.names[missing[0]],
            )
        if unknown:
            raise ExpressionError(
                f"{unknown[0]!r} has a number but is not in the formula{_near(unknown[0], self.names)}"
            )
        results: list[Any] = []
        for step, count in self.program:
            if callable(step):
                operands = results[-count:]
                del results[-count:]
                results.append(step(*operands))
            elif isinstance(step, str):
                results.append(values[step] if step in values else CONSTANTS[step])
            else:
                results.append(step)
        return results.pop()


def parse(text: str) -> Expression:
    """Read a formula.

    Raises:
        ExpressionError: if it is not one; the message points at the column and says what is accepted.
    """
    text = re.sub(r"\s", " ", text).strip()
    tree = _tree(text)
    places: dict[str, int] = {}  # counted in bytes, as ast does
    program: list[tuple[float | str | Callable[..., Any], int]] = []
    # A stack of our own: a sum of a thousand terms is a tree a thousand deep.
    stack: list[tuple[ast.expr, bool]] = [(tree, False)]
    while stack:
        node, operands_are_done = stack.pop()
        step, operands = _step(node, text)
        if operands and not operands_are_done:
            stack.append((node, True))
            stack.extend((operand, False) for operand in reversed(operands))
            continue
        if isinstance(step, str):
            places.setdefault(step, node.col_offset)
        program.append((step, len(operands)))
    names, encoded, start, column = {}, text.encode(), 0, 1
    for name, place in places.items():  # which come in order: one pass counts the characters before all of them
        column += len(encoded[start:place].decode())
        start, names[name] = place, column
    return Expression(text, names, program)


def normal_name(name: str) -> str:
    """Return a name as Python's parser reads it, which identifies letters that look alike (NFKC)."""
    return unicodedata.normalize("NFKC", name)


def _tree(text: str) -> ast.expr:
    if not text:
        raise ExpressionError(f"the formula is empty; it takes {ALLOWED}")
    for word in re.finditer(r"[^\W\d]\w*", text):
        if keyword.iskeyword(word.group()):
            raise ExpressionError(
                f"{word.group()!r} is a word of Python's own; choose another name, such as {word.group() + '_'!r}",
                text,
                word.start() + 1,
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tokenizer, about code that is refused below
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        if "integer string conversion" in error.msg:
            raise ExpressionError(
                "a whole number has too many digits; write it with an exponent, such as 1e5000", text, error.offset or 0
            ) from None
        column = min(error.offset or len(text) + 1, len(text) + 1)
        raise ExpressionError(f"cannot read the formula: {error.msg}; it takes {ALLOWED}", text, column) from None
    except (RecursionError, MemoryError):
        raise ExpressionError(
            f"the formula of {len(text):,} characters is nested too deep for Python to read; "
            "write it in Python with Values, where depth has no limit"
        ) from None
    except ValueError as error:  # a null byte or half a surrogate pair
        raise ExpressionError(f"the formula is not text: {error}") from None


def _step(node: ast.expr, text: str) -> tuple[float | str | Callable[..., Any], list[ast.expr]]:
    """Return the instruction of a node of the tree, and its operands."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return ops.as_float(number), []
        case ast.Name(id=name):
            return name, []
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            return _SIGNS[type(sign)], [operand]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)], [left, right]
        case ast.BinOp(left=left, op=ast.BitXor()):
            raise ExpressionError("a power is written **, not ^", text, text.index("^", _end(left, text)) + 1)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                near = _near(name, FUNCTIONS) or f"; there are {', '.join(sorted(FUNCTIONS))}"
                raise ExpressionError(f"unknown function {name[:40]!r}{near}", text, _column(node, text))
            function, counts = FUNCTIONS[name]
            if len(arguments) not in counts:
                takes = (
                    "at least 1 argument" if counts is _AT_LEAST_ONE else f"{' or '.join(map(str, counts))} argument(s)"
                )
                raise ExpressionError(f"{name}() takes {takes}, not {len(arguments)}", text, _column(node, text))
            return function, arguments
    found = text.encode()[node.col_offset : node.end_col_offset].decode()
    raise ExpressionError(f"{found[:40]!r} is not part of a formula; it takes {ALLOWED}", text, _column(node, text))


def _column(node: ast.expr, text: str) -> int:
    """The column of a node, from 1, in characters: ast counts bytes."""
    return len(text.encode()[: node.col_offset].decode()) + 1


def _end(node: ast.expr, text: str) -> int:
    return len(text.encode()[: node.end_col_offset].decode())


def _near(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word[:40], list(words)[:1000], 3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
