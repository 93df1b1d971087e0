"""Classes: the nodes of a program by structure, each of which becomes one array."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from microgrid import ops
from microgrid.compiler.chains import SHORTEST, Chain, chains
from microgrid.compiler.program import LARGEST, SCAN, SMALLEST, SUM, Program
from microgrid.compiler.simplify import without_gradient
from microgrid.ops import Op

OF_ONE = (ops.sum_of(1), ops.maximum_of(1))
VARIADIC = {SUM: ops.add, LARGEST: ops.maximum, SMALLEST: ops.minimum}


@dataclass(slots=True)
class Classes:
    """A program's nodes by structure.

    Attributes:
        rows: the operation of each class; classes stand after those of their arguments.
        of: the class of each node.
        chains: for classes that are states of chains, those of which they are: all of one form and length.
        inside: the class, of no structure, of products that are part of a step of a chain; −1 if there are none.
    """

    rows: list[Op]
    of: list[int]
    chains: dict[int, list[Chain]] = field(default_factory=dict)
    inside: int = -1
    _members: list[NDArray[np.intp]] = field(default_factory=list)

    @property
    def members(self) -> list[NDArray[np.intp]]:
        """The nodes of each class, in the order in which they were recorded."""
        if not self._members:
            of = np.array(self.of, dtype=np.intp)
            ends = np.cumsum(np.bincount(of, minlength=len(self.rows)))
            self._members = np.split(np.argsort(of, kind="stable"), ends[:-1])
        return self._members

    def of_arguments(self, program: Program, node: int) -> list[int]:
        """Return the class of each argument of a node."""
        return [self.of[a] for a in program.arguments[program.starts[node] : program.starts[node + 1]]]

    def dump(self, program: Program) -> str:
        """Return the classes as text, one a line."""
        lines = []
        for number, (row, members) in enumerate(zip(self.rows, self.members, strict=True)):
            counts = [Counter(self.of_arguments(program, node)) for node in members.tolist()]
            inside = ", ".join(f"class {c}{_times([mine[c] for mine in counts])}" for c in counts[0])
            lines.append(f"class {number}: {len(members)} × {row.name}" + (f" of {inside}" if inside else ""))
        return "\n".join(lines)


def _times(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f" × {low} to {high}" if low < high else f" × {low}" * (low > 1)


def classify(program: Program, of_any_length: bool | None = None, batched: bool = False) -> Classes:
    """Partition the nodes of a program by structure, and by whether a gradient flows back to them.

    Members to which none does would be given 0 by an array's gradient, and 0 times an infinite derivative is nan.
    Sums have one structure if they have as many terms of each class, and the nodes of a chain if what each step takes
    beside the state has.

    Args:
        program: the scalars, simplified.
        of_any_length: whether sums have one structure if they have any number of terms of each of the same classes.
            Unless given, those have of which there are many lengths, where that makes far fewer classes: the positions
            of a sequence, of which each sees all before it.
        batched: whether the arguments have an axis over samples: then what is joined is kept for every sample, and must
            save a class for every few terms.
    """
    frozen = without_gradient(program)
    classes = _with_chains(program, frozen)
    if of_any_length is False:
        return classes
    return _of_any_length(program, classes, frozen, of_any_length is True, batched) or classes


def _with_chains(program: Program, frozen: list[bool]) -> Classes:
    """Partition the nodes by structure, those of sums of one length and those of chains."""
    kept = chains(program)
    for attempt in count():
        classes, broken = _Partition(program, frozen, kept).classes()
        if not broken:
            break
        if attempt < _ATTEMPTS:
            kept = [part for k, chain in enumerate(kept) for part in _parts(chain, broken.get(k, []))]
        else:
            kept = [chain for k, chain in enumerate(kept) if k not in broken]
    return classes


_ATTEMPTS = 3
"""So often chains are cut where their structure changes; those that still do not fit are written out."""


def _parts(chain: Chain, cuts: Sequence[int]) -> list[Chain]:
    """The parts of a chain between cuts, of which one before node k makes it the first one of a part."""
    ends = [0, *cuts, len(chain.nodes)]
    return [Chain(chain.step, chain.nodes[a:b]) for a, b in pairwise(ends) if b - a >= SHORTEST]


class _Partition:
    """Nodes on their way to classes.

    Args:
        program: the nodes.
        frozen: whether no gradient flows back to each.
        kept: the chains that may become classes.
    """

    def __init__(self, program: Program, frozen: list[bool], kept: list[Chain]) -> None:
        self.program, self.frozen, self.kept = program, frozen, kept
        self.result = Classes([], [0] * len(program))
        self.at = {node: (k, j) for k, chain in enumerate(kept) for j, node in enumerate(chain.nodes)}
        self.products = {
            product for chain in kept for node in chain.nodes if (product := chain.product(program, node)) is not None
        }
        self.heads: dict[object, int] = {}
        self.first: list[object] = [None] * len(kept)
        self.broken: dict[int, list[int]] = {}

    def classes(self) -> tuple[Classes, dict[int, list[int]]]:
        """Return the classes, and where chains have steps of another structure than the one before: then they fail."""
        (rows, starts, arguments, _), frozen = self.program.columns, self.frozen
        of, rows_of, mul = self.result.of, self.result.rows, ops.mul
        at, products = self.at, self.products
        commuting = {*VARIADIC, ops.add}
        known: tuple[dict[Op, dict[object, int]], ...] = {}, {}
        end = 0
        for i, row in enumerate(rows):
            start, end = end, starts[i + 1]
            key: object
            if at and i in at:
                of[i] = self._of_chain(i)
                continue
            if products and i in products:
                if self.result.inside < 0:
                    self.result.inside = len(rows_of)
                    rows_of.append(row)
                of[i] = self.result.inside
                continue
            if start == end:
                key = None
            elif row is SCAN:
                key = "alone", i
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
        return self.result, self.broken

    def _of_chain(self, node: int) -> int:
        """The class of a node of a chain."""
        k, j = self.at[node]
        chain, of = self.kept[k], self.result.of
        structure = (self.frozen[node], *[of[a] for a in chain.inputs(self.program, node)])
        if j and structure == self.first[k]:
            return of[chain.nodes[j - 1]]
        if j:
            self.broken.setdefault(k, []).append(j)
        self.first[k] = structure
        head = (chain.step, len(chain.nodes), of[chain.state(self.program, node)], structure)
        number = self.heads.setdefault(head, len(self.result.rows)) if not j else len(self.result.rows)
        if number == len(self.result.rows):
            self.result.rows.append(chain.step.row)
        self.result.chains.setdefault(number, []).append(chain)
        return number


_TERMS = 16
"""The terms of sums of many lengths, of which each is an array over the samples, for each class that is saved."""


def _of_any_length(
    program: Program, classes: Classes, frozen: list[bool], insists: bool, batched: bool
) -> Classes | None:
    """Join sums of the same classes, of any lengths, and what differs by them alone; None if not much becomes one."""
    first: list[int] = np.unique(np.array(classes.of, dtype=np.intp), return_index=True)[1].tolist()
    alone = {*classes.chains, classes.inside}
    chains = [
        None if c in alone else _chain(row, frozen[node])
        for c, (row, node) in enumerate(zip(classes.rows, first, strict=True))
    ]
    sums = [
        (chain, frozen[node], frozenset(classes.of_arguments(program, node)))
        for chain, node in zip(chains, first, strict=True)
        if chain is not None
    ]
    if not insists and len({*sums}) == len(sums):
        return None  # for none is joined to another, and so nothing behind them
    inside = [classes.of_arguments(program, node) for node in first]
    apart: set[int] = set()
    while True:
        known: dict[object, int] = {}
        new: list[int] = []
        lengths: dict[int, Counter[object]] = {}
        for c, (row, chain) in enumerate(zip(classes.rows, chains, strict=True)):
            kinds = [new[a] for a in inside[c]]
            key: object = tuple(sorted(kinds) if row is ops.mul else kinds)
            if c in alone or row is SCAN:
                key = c
            elif chain is not None:
                counts = frozenset(Counter(kinds).items())
                key = counts if c in apart else frozenset(kinds)
            number = known.setdefault((chain or row, frozen[first[c]] and len(kinds) > 0, key), len(known))
            new.append(number)
            if chain is not None and c not in apart:
                lengths.setdefault(number, Counter())[counts] += len(classes.members[c])
        few = {number for number, found in lengths.items() if len(found) > 1 and not (insists or _vary(found))}
        if not few:
            break
        apart |= {c for c, number in enumerate(new) if number in few}
    if not insists and 4 * len(known) > 3 * len(new):
        return None
    joined = Counter(new)
    if batched and not insists:
        terms = sum(
            len(inside[c]) * len(classes.members[c])
            for c, number in enumerate(new)
            if chains[c] and c not in apart and len(lengths[number]) > 1
        )
        if terms > _TERMS * (len(new) - len(known)):
            return None
    rows = [ops.identity] * len(known)
    for c, number in enumerate(new):
        rows[number] = chains[c] or classes.rows[c] if joined[number] > 1 else classes.rows[c]
        if rows[number] is ops.mul and c not in alone and new[inside[c][0]] > new[inside[c][1]]:
            for node in classes.members[c].tolist():
                k = program.starts[node]
                program.arguments[k : k + 2] = program.arguments[k : k + 2][::-1]
    of_states = {new[c]: states for c, states in classes.chains.items()}
    return Classes(rows, [new[c] for c in classes.of], of_states, new[classes.inside] if classes.inside >= 0 else -1)


def of_one_alone(program: Program, classes: Classes) -> list[int]:
    """Return the sums and maxima of one term that are in no class with some of several: they are that term."""
    counts = np.diff(program.starts)
    found: list[int] = []
    for row, members in zip(classes.rows, classes.members, strict=True):
        if (row in VARIADIC or row in OF_ONE) and (counts[members] == 1).all():
            found += members.tolist()
    return found


def _chain(row: Op, frozen: bool) -> Op | None:
    """The row of many arguments that a class of chains may have; a chain of maxima has one where no gradient passes."""
    for chain, pair in VARIADIC.items():
        if row is chain or (row is pair and (frozen or chain is SUM)):
            return chain
    return None


def _vary(lengths: Counter[object]) -> bool:
    """Whether sums have many lengths, none of them that of most: else they are a loop and its boundary."""
    return len(lengths) > 2 and 2 * max(lengths.values()) <= lengths.total()
