"""The functions and operators that the explorer's page needs to read formulas itself.

Nothing is written twice: each of ``expressions.FUNCTIONS`` is run on symbols once, and the page runs its tape of rows.
A row with a constant, as in ``x ** 2``, is exported for the usual constants.
"""

import math
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from microgrid import ops
from microgrid.drawing.program import Entry, Json, Program, Symbol, number
from microgrid.engine import Value
from microgrid.expressions import CONSTANTS, FUNCTIONS, ExpressionError, parse
from microgrid.ops import CONSTANT, LEAF, Operation

MOST_ARGUMENTS = 8
"""Of a function that takes any number of arguments, on the page."""

EXPONENTS = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, *map(float, range(2, 11)))
BASES = (2.0, 10.0, math.e)
"""The constants whose powers are rows of their own on the page; of others the page takes ``power`` of two numbers."""

NUMBERS = (2.0, -0.5, 1.0, 0.5, -1.0, 1.5)
"""The initial numbers of the names of a formula, in order; all positive if the result would otherwise be nan."""

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": ops.add,
    "-": ops.sub,
    "*": ops.mul,
    "/": ops.div,
    "//": ops.floor_divide,
    "%": ops.mod,
    "**": ops.power,
}


class Recipe(NamedTuple):
    """A function of some numbers as rows: the tape after its arguments, and the slot of the result."""

    tape: list[Entry]
    result: int

    @property
    def operations(self) -> list[Operation]:
        """The rows that it takes."""
        return [entry[0] for entry in self.tape if isinstance(entry, tuple)]


def _recipe(function: Callable[..., Any], count: int) -> Recipe:
    tape: list[Entry] = [f"{{{i}}}" for i in range(count)]
    result = function(*[Symbol(tape, slot) for slot in range(count)])
    return Recipe(tape[count:], result.slot)


class _Recipes(NamedTuple):
    functions: dict[str, dict[int, Recipe]]
    operators: dict[str, Recipe]
    powers: dict[float, Recipe]
    bases: dict[float, Recipe]


@cache
def _recipes() -> _Recipes:
    return _Recipes(
        {
            name: {n: _recipe(function, n) for n in counts[:MOST_ARGUMENTS]}
            for name, (function, counts) in FUNCTIONS.items()
        },
        {
            **{sign: _recipe(function, 2) for sign, function in OPERATORS.items()},
            "negative": _recipe(operator.neg, 1),
        },
        {n: _recipe(lambda x, n=n: x**n, 1) for n in EXPONENTS},
        {b: _recipe(lambda x, b=b: b**x, 1) for b in BASES},
    )


@cache
def operations() -> tuple[Operation, ...]:
    """Return every row that a formula can take."""
    functions, operators, powers, bases = _recipes()
    groups: list[Mapping[Any, Recipe]] = [*functions.values(), operators, powers, bases]
    recipes = [recipe for group in groups for recipe in group.values()]
    return tuple(dict.fromkeys([LEAF, CONSTANT, *(op for recipe in recipes for op in recipe.operations)]))


def table(program: Program) -> Json:
    """Return the functions and operators, with the program's numbers for the rows.

    The program was made with ``operations()`` among its rows.
    """
    numbers = program.numbers

    def as_json(recipe: Recipe) -> Json:
        tape = [
            [numbers[entry[0]], *entry[1]] if isinstance(entry, tuple) else number(float(entry))
            for entry in recipe.tape
        ]
        return {"tape": tape, "result": recipe.result}

    functions, operators, powers, bases = _recipes()
    return {
        "leaf": numbers[LEAF],
        "constant": numbers[CONSTANT],
        "functions": {
            name: {
                "least": FUNCTIONS[name][1].start,
                "most": FUNCTIONS[name][1].stop - 1 if len(recipes) < MOST_ARGUMENTS else None,
                "recipes": {n: as_json(recipe) for n, recipe in recipes.items()},
            }
            for name, recipes in functions.items()
        },
        "operators": {sign: as_json(recipe) for sign, recipe in operators.items()},
        "powers": [[n, as_json(recipe)] for n, recipe in powers.items()],
        "bases": [[b, as_json(recipe)] for b, recipe in bases.items()],
        "constants": {name: number(x) for name, x in CONSTANTS.items()},
        "numbers": NUMBERS,
    }


def value_of(text: str) -> Value:
    """Return the result of a formula, with initial numbers for its names.

    Raises:
        ExpressionError: if it cannot be read, or has no name.
    """
    expression = parse(text)
    names = [name for name in expression.names if name not in CONSTANTS]
    if not names:
        raise ExpressionError("a formula without a name has nothing to differentiate; write one, such as x * 2")
    results: list[Value] = []
    for numbers in (NUMBERS, tuple(map(abs, NUMBERS))):
        values = {name: Value(numbers[i % len(numbers)], label=name) for i, name in enumerate(names)}
        results.append(expression.evaluate(values))
        if math.isfinite(results[-1].data):
            return results[-1]
    return results[0]
