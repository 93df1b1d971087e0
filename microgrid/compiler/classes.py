"""Classes: the nodes of a program by structure, each of which becomes one array."""

from collections import Counter
from dataclasses import dataclass, field

from microgrid import ops
from microgrid.compiler.program import LARGEST, SMALLEST, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import Op

VARIADIC = {SUM: ops.add, LARGEST: ops.maximum, SMALLEST: ops.minimum}


@dataclass(slots=True)
class Classes:
    """A program's nodes by structure.

    Attributes:
        rows: the operation of each class; classes stand after those of their arguments.
        of: the class of each node.
    """

    rows: list[Op]
    of: list[int]
    _members: list[list[int]] = field(default_factory=list)

    @property
    def members(self) -> list[list[int]]:
        """The nodes of each class, in the order in which they were recorded."""
        if not self._members:
            found: list[list[int]] = [[] for _ in self.rows]
            for i, number in enumerate(self.of):
                found[number].append(i)
            self._members = found
        return self._members

    def dump(self, program: Program) -> str:
        """Return the classes as text, one a line."""
        lines = []
        for number, (row, members) in enumerate(zip(self.rows, self.members, strict=True)):
            node = members[0]
            mine = program.arguments[program.starts[node] : program.starts[node + 1]]
            counts = Counter(self.of[a] for a in mine)
            inside = ", ".join(f"class {c}" + (f" × {n}" if n > 1 else "") for c, n in counts.items())
            lines.append(f"class {number}: {len(members)} × {row.name}" + (f" of {inside}" if inside else ""))
        return "\n".join(lines)


def classify(program: Program) -> Classes:
    """Partition the nodes of a program by structure, and by whether a gradient flows back to them.

    Members to which none does would be given 0 by an array's gradient, and 0 times an infinite derivative is nan.
    """
    rows, starts, arguments, _ = program.columns
    frozen = without_gradient(program)
    classes = Classes([], [0] * len(rows))
    of, rows_of, mul = classes.of, classes.rows, ops.mul
    commuting = {*VARIADIC, ops.add}
    known: tuple[dict[Op, dict[object, int]], ...] = {}, {}
    end = 0
    for i, row in enumerate(rows):
        start, end = end, starts[i + 1]
        key: object
        if start == end:
            key = None
        elif row in commuting:
            kinds = [of[a] for a in arguments[start:end]]
            key = tuple(sorted(kinds)) if end - start < 9 else tuple(sorted(Counter(kinds).items()))
        elif end - start == 2:
            first, second = of[arguments[start]], of[arguments[start + 1]]
            if row is mul and first > second:
                arguments[start], arguments[start + 1] = arguments[start + 1], arguments[start]
                first, second = second, first
            key = first * len(rows) + second
        elif end - start == 1:
            key = of[arguments[start]]
        else:
            key = tuple([of[a] for a in arguments[start:end]])
        numbers = known[frozen[i] and start < end].get(row)
        if numbers is None:
            numbers = known[frozen[i] and start < end][row] = {}
        of[i] = numbers.setdefault(key, len(rows_of))
        if of[i] == len(rows_of):
            rows_of.append(row)
    return classes
