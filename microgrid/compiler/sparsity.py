"""Which derivatives of a program are 0 by its structure, and which of the others one product of a matrix can tell.

Sets of numbers are bits of an integer here: bit j of the set of a node stands for input j.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from microgrid.compiler.ir import Indices
from microgrid.compiler.passes.differentiate import derivative
from microgrid.compiler.program import LARGEST, PARAMETER, PICK, SMALLEST, SUM, Program, recurrence_of
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import Op

Leaf = Callable[[Op, int], int]
"""Gives the number of the input that a leaf is, −1 if it is none."""


def jacobian_pattern(program: Program, leaf: Leaf) -> list[int]:
    """Return for each output the inputs on which it depends by a path of local derivatives that are not a plain 0."""
    return _dependencies(program, leaf, set())


def hessian_pattern(program: Program, leaf: Leaf, size: int) -> list[int]:
    """Return for each of so many inputs those with which it has a second derivative, of some output.

    Two inputs have one where an operation is not linear in two operands, of which one depends on the first input, and
    the other on the second: Walther, Computing sparse Hessians with automatic differentiation, 2008.
    """
    pairs: set[tuple[int, int]] = set()
    _dependencies(program, leaf, pairs, of_second_order=True)
    rows = [0] * size
    for first, second in pairs:
        for i in _bits(first):
            rows[i] |= second
        for i in _bits(second):
            rows[i] |= first
    return rows


def _dependencies(
    program: Program, leaf: Leaf, pairs: set[tuple[int, int]], of_second_order: bool = False
) -> list[int]:
    """Return the inputs on which each output depends; if that is asked for, add the pairs of sets that meet."""
    rows, starts, arguments, data = program.columns
    frozen = without_gradient(program)
    last = [0] * len(rows)  # the last node that reads each: behind it its set is not needed any more
    for i in range(len(rows)):
        for a in arguments[starts[i] : starts[i + 1]]:
            last[a] = i
    for output in program.outputs:
        last[output] = len(rows)
    of = [0] * len(rows)
    for i, row in enumerate(rows):
        mine = arguments[starts[i] : starts[i + 1]]
        if frozen[i]:
            continue
        if not mine:
            place = leaf(row, int(data[i])) if row is PARAMETER or row.recipe is not None else -1
            of[i] = 1 << place if place >= 0 else 0
            continue
        found = 0
        connected = row.connected if row.cuts else None
        for j, a in enumerate(mine):
            if connected is None or connected[j]:
                found |= of[a]
        of[i] = found
        if of_second_order and found and recurrence_of(row) is not None:
            pairs.add((found, found))
        elif of_second_order and found and row not in _LINEAR:
            for j, k in _curved(row):
                if of[mine[j]] and of[mine[k]]:
                    pairs.add((of[mine[j]], of[mine[k]]))
        for a in mine:
            if last[a] == i:
                of[a] = 0
    return [of[output] for output in program.outputs]


_LINEAR = {SUM, LARGEST, SMALLEST, PICK}


@lru_cache(maxsize=4096)
def _curved(row: Op) -> list[tuple[int, int]]:
    """The pairs of operands by which a row has a second derivative that is not 0 by its structure."""
    found = []
    for j, connected in enumerate(row.connected):
        partial = derivative(row, j) if connected else 0.0
        if isinstance(partial, Program):
            (read,) = jacobian_pattern(partial, lambda _, position: position)
            through_result = read & 1
            found += [
                (j, k) for k, other in enumerate(row.connected) if other and (through_result or read >> (k + 1) & 1)
            ]
    return found


def _bits(number: int) -> list[int]:
    """The places of the bits of a number."""
    octets = np.frombuffer(number.to_bytes(-(-number.bit_length() // 8), "little"), np.uint8)
    places: list[int] = np.flatnonzero(np.unpackbits(octets, bitorder="little")).tolist()
    return places


def entries(pattern: Sequence[int]) -> tuple[Indices, Indices]:
    """Return the row and the column of each entry of a pattern, row by row."""
    columns = [_bits(row) for row in pattern]
    counts = [len(row) for row in columns]
    return np.repeat(np.arange(len(pattern)), counts), np.array([j for row in columns for j in row], dtype=np.intp)


def transposed(pattern: Sequence[int], size: int) -> list[int]:
    """Return the rows of each of so many columns."""
    found = [bytearray(-(-len(pattern) // 8)) for _ in range(size)]
    for i, j in zip(*[each.tolist() for each in entries(pattern)], strict=True):
        found[j][i >> 3] |= 1 << (i & 7)
    return [int.from_bytes(bits, "little") for bits in found]


def colours(lines: Sequence[int]) -> list[int]:
    """Return a colour for each line of a matrix, so that two of one colour share no entry of another line.

    Then one product with a vector that is 1 for the lines of a colour tells all their entries: Curtis, Powell and
    Reid, On the estimation of sparse Jacobian matrices, 1974. The fullest lines choose first.
    """
    taken: list[int] = []
    found = [0] * len(lines)
    for k in sorted(range(len(lines)), key=lambda k: -lines[k].bit_count()):
        line = lines[k]
        colour = next((c for c, covered in enumerate(taken) if not covered & line), len(taken))
        if colour == len(taken):
            taken.append(0)
        taken[colour] |= line
        found[k] = colour
    return found
