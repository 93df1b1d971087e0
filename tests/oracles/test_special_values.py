"""PyTorch's own answers at special values: they must be those in ``tests/support/special_values.txt``.

``python tests/oracles/test_special_values.py`` writes that file anew.
"""

import math
import re
from itertools import product
from pathlib import Path

import torch
from torch_rows import FACTORIES, FUNCTIONS, OTHERS, leaf, torch_function

from microgrid import ops
from microgrid.ops import Op

TABLE = Path(__file__).parents[1] / "support" / "special_values.txt"
inf, nan = float("inf"), float("nan")
POINTS = {
    1: [(x,) for x in (0.0, -0.0, 5e-324, -5e-324, 0.5, 1.0, -1.0, -2.0, 1e300, -1e300, inf, -inf, nan)],
    2: [
        *product((0.0, -0.0, 1.0, -2.0, inf, -inf, nan), repeat=2),
        *product((5e-324, 1e300), repeat=2),
        (-1e300, 1e300),
        (1e300, 3.0),
        (-5e-324, 1.0),
    ],
    3: list(product((0.0, 1.0, nan), (0.0, inf), (1.0, 0.0, nan))),
    5: [(1.0, 2.0, 3.0, 4.0, 5.0), (inf, 1.0, 1.0, 1.0, -inf), (nan, 0.0, 0.0, 0.0, 0.0), (-0.0,) * 5],
}


def is_theirs(op: Op) -> bool:
    """Whether PyTorch has the operation itself."""
    if op.recipe is not None:
        return op.recipe[0].__name__ in FACTORIES
    return op.name in FUNCTIONS or (op.name not in OTHERS and hasattr(torch, op.name))


def lines(op: Op) -> list[str]:
    """One line for each point: operation, arguments, value, derivatives."""
    answers, function = [], torch_function(op)
    assert function is not None
    for point in POINTS[op.arity]:
        xs = [leaf(x) for x in point]
        y = function(*xs)
        if y.requires_grad:
            y.backward()
        gradients = [0.0 if x.grad is None else x.grad.item() for x in xs]
        answers.append(f"{op.name}({', '.join(map(repr, point))}) = {y.item()!r}; {', '.join(map(repr, gradients))}")
    return answers


def table() -> str:
    return "\n".join(line for op in ops.rows() if is_theirs(op) for line in lines(op)) + "\n"


def numbers(text: str) -> dict[str, list[float]]:
    """The value and the derivatives of each point."""
    pairs = [line.split(" = ") for line in text.splitlines()]
    return {point: [float(x) for x in re.split("[;,]", answers)] for point, answers in pairs}


def same(a: float, b: float) -> bool:
    """Equal with the sign of a zero, or next to each other: PyTorch's last digit differs with the processor."""
    return repr(a) == repr(b) or math.nextafter(a, b) == b != 0.0


def test_the_table_of_special_values_is_what_pytorch_says() -> None:
    assert torch.__version__.split("+")[0] == "2.13.0"
    ours, theirs = numbers(TABLE.read_text()), numbers(table())
    assert set(ours) <= set(theirs)  # a new row may not be in the file yet
    assert [point for point in ours if not all(map(same, ours[point], theirs[point]))] == []


if __name__ == "__main__":
    TABLE.write_text(table())
