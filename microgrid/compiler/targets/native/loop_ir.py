"""Loop programs: an array program as nested loops over numbers in memory, before any target's words.

The tree says what is computed and in which loops; a target says with which instructions. A loop that is marked
``lanes`` may be run several iterations at a time, one that has ``unroll`` may be run in blocks: the iterations of
both depend on each other by what they carry alone, and that may be added up in any order.

Memory is made of buffers of members. A batched buffer has a number per sample for each member, of which a program
reads and writes those of one *tile* of samples at a time: its loops over ``SAMPLES`` run over the tile.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microgrid.ops import Op

SAMPLES = "samples"
"""The extent of a loop over the samples of a tile, and the name of its index."""

COUNT, WEIGHT = "count", "weight"
"""Two numbers that every program finds under these names: how many samples there are, and 1 / count."""

Name = str
Operand = Name | float


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Numbers in memory: ``members``, or ``members`` for each sample.

    Where member ``m`` of sample ``z`` of a tile that begins at sample ``first`` of ``B`` stands:

    ========  =======================  =====================================================================
    role      not batched              batched
    ========  =======================  =====================================================================
    theta     ``m``                    (never)
    argument  ``m``                    ``(first + z) · members + m``: as the user gives it, sample by sample
    seed      ``m``                    ``m · B + first + z``
    output    ``m``                    ``m · B + first + z``
    local     ``m``                    ``m · pitch + z``: the workspace, whose pitch the target chooses
    constant  ``m``                    (never)
    ========  =======================  =====================================================================

    Attributes:
        name: unique in its program, a letter and then letters, digits and ``_``.
        role: whose memory it is.
        members: how many numbers, for each sample if it is batched.
        batched: whether each sample has its own.
        position: which argument, or which output.
        values: the numbers of a constant.
    """

    name: Name
    role: Literal["theta", "argument", "seed", "output", "local", "constant"]
    members: int
    batched: bool = False
    position: int = 0
    values: NDArray[np.float64] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Affine:
    """``base + Σ stride · index``, over the indices of the loops around."""

    base: int = 0
    terms: tuple[tuple[Name, int], ...] = ()

    def stride(self, index: Name) -> int:
        """Return by how much it grows with an index."""
        return sum(stride for name, stride in self.terms if name == index)

    def __str__(self) -> str:
        parts = [f"{name}" if stride == 1 else f"{stride}·{name}" for name, stride in self.terms]
        return " + ".join([*parts, *[str(self.base)] * (self.base != 0 or not parts)]).replace("+ -", "- ")


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """One number of a buffer: its member, of the present sample if the buffer is batched.

    Attributes:
        buffer: where.
        member: which member; or which entry of the table, that says which member.
        table: the members that are read one after the other, where they follow no rule.
        chosen: the name of a whole number, and by how much the member, or the entry, grows with it.
    """

    buffer: Buffer
    member: Affine
    table: NDArray[np.int64] | None = field(default=None, repr=False)
    chosen: tuple[Name, int] | None = None

    def __str__(self) -> str:
        place = str(self.member) if self.chosen is None else f"{self.member} + {self.chosen[1]}·{self.chosen[0]}"
        member = place if self.table is None else f"table({self.table.size})[{place}]"
        return f"{self.buffer.name}[{member}{', ' + SAMPLES if self.buffer.batched else ''}]"


@dataclass(frozen=True, slots=True)
class Load:
    """``name = address``."""

    name: Name
    address: Address


@dataclass(frozen=True, slots=True)
class Let:
    """``name = op(operands)``: a row of the table on numbers.

    The name of a comparison, or of its negation, is a *mask*: true or false. An operand may be a mask or the number
    0 or 1 that was stored of it, wherever a row takes a number or a condition.
    """

    name: Name
    op: Op
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """``address = value``, or ``address += value`` if it ``adds``."""

    address: Address
    value: Operand
    adds: bool = False


@dataclass(frozen=True, slots=True)
class Pack:
    """Copy a tile of a batched argument, which is given sample by sample, to a local buffer, member by member.

    The buffer may have more members than the argument.
    """

    source: Buffer
    target: Buffer


@dataclass(frozen=True, slots=True)
class Carried:
    """What a loop carries from one iteration to the next; ``name`` is its last value, behind the loop.

    ``sum``, ``largest`` and ``smallest`` reduce ``values[0]``, ``dot`` adds up ``values[0] · values[1]``, each
    product not rounded if the target multiplies and adds in one: in any order, in several parts. An extreme of
    numbers of which one is nan is nan. Of a ``state`` the iteration sees the value of the one before under the
    name ``before``, and ``values[0]`` is the next; such a loop is run in order.
    """

    name: Name
    kind: Literal["sum", "dot", "largest", "smallest", "state"]
    values: tuple[Operand, ...]
    start: Operand = 0.0
    before: Name = ""


@dataclass(frozen=True, slots=True)
class For:
    """``for index in range(extent)``: over the samples of the tile if the extent is ``SAMPLES``.

    Attributes:
        index: the name of the counter; ``SAMPLES`` for a loop over samples.
        extent: how often.
        body: what is done.
        carried: what goes from one iteration to the next.
        lanes: whether iterations may be run several at a time, as the lanes of vectors.
        unroll: of how many iterations a block may be made, each with its own registers.
        backward: whether it counts down.
        when: the name of a mask, without which it is not run; such a loop carries nothing.
    """

    index: Name
    extent: int | Literal["samples"]
    body: "tuple[Statement, ...]"
    carried: tuple[Carried, ...] = ()
    lanes: bool = False
    unroll: int = 1
    backward: bool = False
    when: Name = ""


Statement = Load | Let | Store | Pack | For


@dataclass(slots=True)
class LoopProgram:
    """What a kernel does: ``before`` all tiles, for each ``tile`` of samples, and ``after`` them.

    A program that is not batched has all of it in ``before``.
    """

    buffers: tuple[Buffer, ...]
    before: tuple[Statement, ...]
    tile: tuple[Statement, ...]
    after: tuple[Statement, ...]
    dtype: str = "float64"

    def walk(self, statements: Sequence[Statement] | None = None) -> Iterator[Statement]:
        """Yield every statement, a loop before its body."""
        for statement in (*self.before, *self.tile, *self.after) if statements is None else statements:
            yield statement
            if isinstance(statement, For):
                yield from self.walk(statement.body)

    def dump(self) -> str:
        """Return the program as text."""
        lines = [f"{b.role} {b.name}[{b.members}{', ' + SAMPLES if b.batched else ''}]" for b in self.buffers]
        for title, part in (("before", self.before), ("for each tile", self.tile), ("after", self.after)):
            if part:
                lines += [f"{title}:", *_lines(part, "    ")]
        return "\n".join(lines)


def _lines(statements: Sequence[Statement], indent: str) -> list[str]:
    lines = []
    for statement in statements:
        match statement:
            case Load(name, address):
                lines.append(f"{indent}{name} = {address}")
            case Let(name, op, operands):
                lines.append(f"{indent}{name} = {op.name}({', '.join(map(_text, operands))})")
            case Store(address, value, adds):
                lines.append(f"{indent}{address} {'+=' if adds else '='} {_text(value)}")
            case Pack(source, target):
                lines.append(f"{indent}pack {source.name} into {target.name}")
            case For():
                marks = [" in lanes"] * statement.lanes + [f" by {statement.unroll}"] * (statement.unroll > 1)
                marks += [" backward"] * statement.backward + [f" when {statement.when}"] * bool(statement.when)
                lines.append(f"{indent}for {statement.index} of {statement.extent}{''.join(marks)}:")
                lines += _lines(statement.body, indent + "    ")
                for x in statement.carried:
                    start = "" if x.start == 0.0 and x.kind in ("sum", "dot") else f" from {_text(x.start)}"
                    seen = f" as {x.before}" if x.before else ""
                    lines.append(f"{indent}  carry {x.name} = {x.kind}({', '.join(map(_text, x.values))}){start}{seen}")
    return lines


def _text(x: Any) -> str:
    return x if isinstance(x, str) else repr(x)
