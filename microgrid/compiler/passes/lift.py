"""Lift a program of scalars to a program of arrays.

Nodes of one structure, that is of one operation on arguments of one structure, form a class; a sum is
known by how many terms of each class it has. A class becomes one array, and each argument a map from its
members to members of another class. Loops in the user's code make these maps regular, ``base + i·s₀ +
j·s₁``, so they become views; a map that is not becomes a table of indices: slower, never wrong.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise

import numpy as np

from microgrid import ops
from microgrid.compiler.classes import VARIADIC, Classes, classify
from microgrid.compiler.ir import MULTIPLY_ADD, Indices, Leaf, Map, Node, Operand, Reduction, Shape, View
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.rules import BEFORE
from microgrid.compiler.passes.scan import scan
from microgrid.compiler.program import PARAMETER, SCAN, STATE, SUM, Program, argument_of
from microgrid.ops import CONSTANT, Op

_KINDS: dict[Op, Reduction] = {ops.add: "sum", ops.maximum: "largest", ops.minimum: "smallest"}
_AGAIN = 1.5
"""Products that are terms of so many sums on average are computed for each, so that they are read in order."""
_UNROLLED = 4  # sums of so few terms, read regularly, are written as additions, unless they are products of matrices


@dataclass(frozen=True, slots=True)
class Lifted:
    """A program of scalars on arrays, before anything is differentiated.

    Attributes:
        build: its nodes.
        outputs: its results, each of shape ().
        leaves: the parameters, then each argument.
        reads: the nodes by which each leaf is read if it is read number by number, member after member; else the leaf.
        unrolled: whether there is a node for each number.
    """

    build: Builder
    outputs: Sequence[Operand]
    leaves: Sequence[Leaf]
    reads: Sequence[Sequence[Node]]
    unrolled: bool


def lift(program: Program, classes: Classes, batched: bool) -> Lifted:
    """Write a simplified program as nodes on arrays.

    Args:
        program: the scalars.
        classes: its nodes by structure.
        batched: whether the arguments have an axis over samples.
    """
    build = Builder(BEFORE)
    outputs = _Lift(program, build, [batched] * len(program.sizes), classes).outputs()
    leaves = _leaves(build, program, batched)
    return Lifted(build, outputs, leaves, [[leaf] for leaf in leaves], unrolled=False)


def unroll(program: Program, batched: bool) -> Lifted:
    """Write a program as nodes on single numbers, for one that has no repetition to lift."""
    build = Builder(BEFORE)
    leaves = _leaves(build, program, batched)
    reads = [[build.make(View, (), leaf.batched, leaf, Map((), k)) for k in range(leaf.size)] for leaf in leaves]

    def leaf(row: Op, position: int) -> Operand:
        return reads[0 if row is PARAMETER else 1 + argument_number(row)][position]

    return Lifted(build, instantiate(build, program, leaf), leaves, reads, unrolled=True)


def _leaves(build: Builder, program: Program, batched: bool) -> list[Leaf]:
    arguments = [build.argument(k, size, batched) for k, size in enumerate(program.sizes)]
    return [build.parameters(program.parameters), *arguments]


def argument_number(row: Op) -> int:
    """Return the argument whose numbers a row marks; −1 if it marks none."""
    return int(row.recipe[1][0]) if row.recipe is not None and row.recipe[0] is argument_of else -1


def instantiate(build: Builder, program: Program, leaf: Callable[[Op, int], Operand]) -> list[Operand]:
    """Write a program out, node by node, on arrays of one shape; ``leaf(row, position)`` gives what a leaf is."""
    values: list[Operand] = []
    for row, arguments, data in program.nodes():
        if row is CONSTANT:
            values.append(data)
        elif not arguments:
            values.append(leaf(row, int(data)))
        elif row in VARIADIC:
            total = values[arguments[0]]
            for a in arguments[1:]:
                total = build.apply(VARIADIC[row], total, values[a])
            values.append(total)
        else:
            values.append(build.apply(row, *[values[a] for a in arguments]))
    return [values[output] for output in program.outputs]


def grouped(build: Builder, numbers: Sequence[Operand]) -> list[tuple[Operand, Map]]:
    """Arrays that hold all of these single numbers, each with the places of its members among them."""
    members: dict[Node, list[tuple[int, int]]] = {}
    known: dict[int, float] = {}
    for place, x in enumerate(numbers):
        match x:
            case View():
                members.setdefault(x.source, []).append((place, x.map.base))
            case Node():
                members.setdefault(x, []).append((place, 0))
            case _:
                known[place] = x
    groups: list[tuple[Operand, Map]] = []
    for source, pairs in members.items():
        places, points = np.array(pairs).T
        groups.append((build.view(source, Map.of(points)), Map.of(places)))
    if known:
        groups.append((build.numbers(np.array([*known.values()])), Map.of(np.array([*known]))))
    return groups


class _Lift:
    def __init__(self, program: Program, build: Builder, batched: Sequence[bool], classes: Classes) -> None:
        self.program, self.build, self.batched, self.classes = program, build, batched, classes
        self.starts = np.array(program.starts)
        self.arguments = np.array(program.arguments, dtype=np.intp)
        self.data = np.array(program.data)
        self.of = np.array(classes.of)
        self.position = np.zeros(len(program), dtype=np.intp)
        self.lifted: list[Node | None] = [None] * len(classes.rows)
        self.virtual = self._products_for_sums()
        for number, row in enumerate(classes.rows):
            self._lift(number, row)

    def outputs(self) -> list[Operand]:
        nodes = [(int(self.of[node]), np.array(node)) for node in self.program.outputs]
        return [self._read(source, self._indices(source, node), ()) for source, node in nodes]

    def _products_for_sums(self) -> set[int]:
        """The classes of products that are terms of sums alone, few of them of several: they need not be stored."""
        candidates = {
            n for n, row in enumerate(self.classes.rows) if row is ops.mul and len(self.classes.members[n]) > 1
        }
        candidates -= {*self.classes.chains, self.classes.inside}
        if not candidates:
            return set()
        is_sum = np.array([row in (SUM, ops.add) for row in self.classes.rows])
        user = np.repeat(self.of, np.diff(self.starts))
        used = self.of[self.arguments]
        total = np.bincount(used, minlength=len(self.classes.rows))
        in_sums = np.bincount(used[is_sum[user]], minlength=len(self.classes.rows))
        outputs = {int(self.of[node]) for node in self.program.outputs}
        return {n for n in candidates - outputs if total[n] == in_sums[n] <= _AGAIN * len(self.classes.members[n])}

    # -- one class ------------------------------------------------------------------------------------

    def _lift(self, number: int, row: Op) -> None:
        members = self.classes.members[number]
        if row is CONSTANT or number == self.classes.inside:
            return
        if row is PARAMETER:
            self.position[members] = self.data[members]
            self.lifted[number] = self.build.parameters(self.program.parameters)
        elif (k := argument_number(row)) >= 0:
            self.position[members] = self.data[members]
            self.lifted[number] = self.build.argument(k, self.program.sizes[k], self.batched[k])
        elif number in self.classes.chains:
            self._lift_states(number)
        elif number in self.virtual:
            self.position[members] = np.arange(len(members))
        elif row is SCAN:
            self.lifted[number] = self._lift_scan(int(members[0]))
        elif row is STATE:
            self.position[members] = self.data[members]
            self.lifted[number] = self.lifted[int(self.of[self._terms(members[:1], 1)[0, 0]])]
        elif row in VARIADIC or row is ops.add or self._is_extreme_of_many(row, members[0]):
            self._lift_chain(number, row, members)
        elif ops.is_take(row):
            self._lift_choice(number, row, members)
        else:
            self._lift_elementwise(number, row, members)

    def _is_extreme_of_many(self, row: Op, node: int) -> bool:
        """Whether it is the largest of many members of one class, which share the gradient."""
        kinds = self.of[self.arguments[self.starts[node] : self.starts[node + 1]]]
        return _is_largest(row) and len(kinds) > _UNROLLED and bool((kinds == kinds[0]).all())

    def _terms(self, members: Indices, count: int) -> Indices:
        """The arguments of each member, one row a member."""
        return self.arguments[self.starts[members][:, None] + np.arange(count)]

    def _ordered(self, members: Indices, columns: Sequence[Indices]) -> tuple[Indices, list[Indices]]:
        """The members in an order that makes the maps to their arguments regular, if there is one."""
        orders = [np.arange(len(members))]
        if len(members) > 2 and not all(_runs(column) is not None for column in columns):
            orders += [np.lexsort(keys) for keys in (columns[::-1], columns)]
        best = max(orders, key=lambda order: sum(_runs(column[order]) is not None for column in columns))
        self.position[members[best]] = np.arange(len(members))
        return members[best], [column[best] for column in columns]

    def _lift_elementwise(self, number: int, row: Op, members: Indices) -> None:
        nodes = self._terms(members, row.arity)
        sources = self.of[nodes[0]]
        columns = [self.position[nodes[:, k]] for k in range(row.arity)]
        members, varying = self._ordered(
            members, [c for c, s in zip(columns, sources, strict=True) if not self._constant(s)]
        )
        nodes = self._terms(members, row.arity)
        shape = _shape(len(members), [(column, 1) for column in varying])
        operands = [
            self._read(int(source), self._indices(int(source), nodes[:, k]), shape) for k, source in enumerate(sources)
        ]
        result = self.build.apply(row, *operands)
        self.lifted[number] = self.build.stored(result, shape)

    def _lift_choice(self, number: int, row: Op, members: Indices) -> None:
        """Numbers that indices choose: of one array, or of a table that is put together first."""
        columns = [self.position[self._terms(members, row.arity)[:, k]] for k in (0, 1)]
        members, columns = self._ordered(members, columns)
        index, entries = np.split(self._terms(members, row.arity), [1], axis=1)
        shape = _shape(len(members), [(column, 1) for column in columns])
        chosen = self.build.stored(self._read(int(self.of[index[0, 0]]), self.position[index], shape), shape)
        source, array = int(self.of[entries[0, 0]]), self.lifted[int(self.of[entries[0, 0]])]
        if array is not None and (self.of[entries[0]] == source).all():
            places = self.position[entries]
        else:
            tables, table_of = np.unique(entries, axis=0, return_inverse=True)
            places = table_of.reshape(-1, 1) * tables.shape[1] + np.arange(tables.shape[1])
            array = self._table(tables)
        self.lifted[number] = self.build.gather(array, chosen, Map.of(places.reshape(*shape, -1)))

    def _table(self, nodes: Indices) -> Node:
        """Nodes of any classes, put together to one array."""
        places = np.arange(nodes.size).reshape(nodes.shape)
        pieces = []
        for source in dict.fromkeys(self.of[nodes[0]].tolist()):
            mine = self.of[nodes[0]] == source
            index = Map.of(places[:, mine])
            pieces.append((index, self._term(source, nodes[:, mine].ravel(), index.shape)))
        return self.build.stored(self.build.scatter(nodes.shape, pieces), nodes.shape)

    def _lift_states(self, number: int) -> None:
        """The states of chains, with one more in front of them, the start: step after step, chain after chain."""
        chains, program = self.classes.chains[number], self.program
        step, count = chains[0].step, len(chains[0].nodes)
        nodes = np.array([chain.nodes for chain in chains])
        starts = np.array([chain.state(program, chain.nodes[0]) for chain in chains])
        inputs = np.array([[chain.inputs(program, node) for node in chain.nodes] for chain in chains])
        firsts = [starts, *np.moveaxis(inputs[:, 0], 1, 0)]
        columns = [self.position[x] for x in firsts if not self._constant(int(self.of[x[0]]))]
        _, columns = self._ordered(nodes[:, 0], columns)
        order = self.position[nodes[:, 0]].argsort()
        shape = _shape(len(chains), [(column, 1) for column in columns])
        self.position[nodes[order].T] = np.arange(len(chains), nodes.size + len(chains)).reshape(count, -1)
        operands = [
            self._term(int(self.of[x[0, 0]]), x[order].T.ravel(), (count, *shape)) for x in np.moveaxis(inputs, 2, 0)
        ]
        op, place, term = step.row, step.place, int(step.factor >= 0)
        if op is SUM:
            operands[term:] = [reduce(partial(self.build.apply, ops.add), operands[term:])]
            op = ops.add
        if step.factor >= 0:
            if op is ops.sub:  # s·a − b is s·a + (−b), and b − s·a is s·(−a) + b
                operands[1 - place] = self.build.apply(ops.neg, operands[1 - place])
            op, place = MULTIPLY_ADD, 0
        start = self._term(int(self.of[starts[0]]), starts[order], shape)
        states = self.build.accumulate(op, place, start, operands, (count + 1, *shape), backward=False)
        assert isinstance(states, Node)
        self.lifted[number] = states

    def _lift_scan(self, node: int) -> Node:
        """A recurrence: a step is lifted by itself, on what it is given, one operand for what is of one class."""
        recurrence = self.program.recurrences[int(self.data[node])]
        body, steps = recurrence.body, recurrence.steps
        states, inputs, constants = body.sizes
        given = self._terms(np.array([node]), int(self.starts[node + 1] - self.starts[node]))[0]
        start, rest = np.split(given, [states])
        sides = rest[: steps * inputs].reshape(steps, inputs), rest[steps * inputs :].reshape(1, constants)
        groups: list[list[tuple[int, list[int]]]] = []
        for nodes in sides:
            found: dict[bytes, list[int]] = {}
            for column, key in enumerate(self.of[nodes].T):
                found.setdefault(np.unique(key).tobytes(), []).append(column)
            groups.append([*enumerate(found.values())])
        operands = [self._side_by_side(side[:, columns]) for side, mine in zip(sides, groups, strict=True)
                    for _, columns in mine]  # fmt: skip
        count = len(groups[0])
        first, *operands[count:] = [
            self.build.stored(self.build.view(x, Map.whole((x.size,))), (x.size,))
            for x in [self._side_by_side(start[None]), *operands[count:]]
        ]
        batched = first.batched or any(x.batched for x in operands)
        place = {(1 + side, column): (1 + count * side + k, at) for side, mine in enumerate(groups)
                 for k, columns in mine for at, column in enumerate(columns)}  # fmt: skip
        inner = replace(body, rows=[*body.rows], data=[*body.data], arguments=[*body.arguments])
        inner.sizes = [states, *[x.shape[-1] for x in operands]]
        for i, row in enumerate(body.rows):
            if (k := argument_number(row)) > 0:
                argument, inner.data[i] = place[k, int(body.data[i])]
                inner.rows[i] = argument_of(argument)
        build = Builder(BEFORE)
        flags = [batched, *[x.batched for x in operands]]
        leaves = [build.argument(k, size, flag) for k, (size, flag) in enumerate(zip(inner.sizes, flags, strict=True))]
        outputs = _Lift(inner, build, flags, classify(inner)).outputs()
        step = build.scatter((states,), [(places, x) for x, places in grouped(build, outputs)])
        return self.build.stored(
            scan(
                self.build,
                step,
                leaves[0],
                {leaf.number: x for leaf, x in zip(leaves[1:], operands, strict=True)},
                [leaf.number for leaf in leaves[1 : 1 + count]],
                first,
                steps,
                backward=False,
                idle=(leaves[0], states - 1) if recurrence.stops else None,
            ),
            (steps + 1, states),
        )

    def _side_by_side(self, nodes: Indices) -> Node:
        """Nodes of any classes as an array of this shape."""
        if (self.of[nodes] == self.of[nodes[0]]).all():
            return self._table(nodes)
        mixed = self.build.view(self._table(nodes.reshape(1, -1)), Map.whole(nodes.shape))
        return self.build.stored(mixed, nodes.shape)

    def _lift_chain(self, number: int, row: Op, members: Indices) -> None:
        counts = self.starts[members + 1] - self.starts[members]
        if (counts != counts[0]).any():
            self._lift_ragged(number, row, members, counts)
            return
        nodes = self._terms(members, int(counts[0]))
        kinds = self.of[nodes]
        if (kinds != kinds[0]).any():
            nodes = np.take_along_axis(nodes, np.argsort(kinds, axis=1, kind="stable"), axis=1)
            if (self.of[nodes] != self.of[nodes[0]]).any():
                self._lift_ragged(number, row, members, counts)
                return
        kinds = self.of[nodes[0]]
        sources = list(dict.fromkeys(kinds.tolist()))
        first = [self.position[nodes[:, int(np.argmax(kinds == s))]] for s in sources if not self._constant(s)]
        ordered, _ = self._ordered(members, first)
        if not np.array_equal(ordered, members):
            rank = {int(node): k for k, node in enumerate(members)}
            nodes = nodes[[rank[int(node)] for node in ordered]]
        parts = [(int(s), self._sorted_terms(int(s), nodes[:, kinds == s])) for s in sources]
        columns = [(c, part.shape[1]) for s, part in parts for c in self._columns(s, part.ravel())]
        shape = _shape(len(ordered), columns)
        pair = ops.maximum if _is_largest(row) else VARIADIC.get(row, row)
        lengths = {s: part.shape[1] for s, part in parts}
        reduced = [self._reduced(s, part, shape, pair) for s, part in parts if not self._drop(s, part, lengths)]
        result: Operand = reduced[0]
        for term in reduced[1:]:
            result = self.build.apply(pair, result, term)
        self.lifted[number] = self.build.stored(result, shape)

    def _lift_ragged(self, number: int, row: Op, members: Indices, counts: Indices) -> None:
        """Sums of different lengths: all terms side by side, then the sum of each stretch of them."""
        self.position[members] = np.arange(len(members))
        ends = np.cumsum(counts)
        nodes = self.arguments[np.arange(ends[-1]) + np.repeat(self.starts[members] - ends + counts, counts)]
        owners, kinds = np.repeat(np.arange(len(members)), counts), self.of[nodes]
        pair = VARIADIC[row]
        parts = []
        for source in map(int, dict.fromkeys(kinds.tolist())):
            mine, owner = nodes[kinds == source], owners[kinds == source]
            order = np.lexsort((self._indices(source, mine), owner))
            parts.append((source, mine[order], np.searchsorted(owner, np.arange(len(members)))))
        shortest = {source: int(np.diff(starts, append=len(nodes)).min()) for source, nodes, starts in parts}
        shape = (len(members),)
        reduced = [self._reduced_stretches(*part, pair) for part in parts if not self._drop(*part[:2], shortest)]
        result: Operand = reduced[0]
        for term in reduced[1:]:
            result = self.build.apply(pair, result, term)
        self.lifted[number] = self.build.stored(result, shape)

    def _reduced_stretches(self, source: int, nodes: Indices, starts: Indices, pair: Op) -> Operand:
        """The sum, or the extreme, of each stretch of the terms of one class."""
        count, more = divmod(len(nodes), len(starts))
        if not more and np.array_equal(starts, count * np.arange(len(starts))):
            return self._reduced(source, nodes.reshape(-1, count), starts.shape, pair)
        if self._constant(source):
            fold = {ops.add: np.add, ops.maximum: np.maximum, ops.minimum: np.minimum}[pair]
            return self.build.constant(fold.reduceat(self.data[nodes], starts))
        terms = self.build.stored(self._term(source, nodes, nodes.shape), nodes.shape)
        return self.build.segments(_KINDS[pair], terms, starts)

    def _sorted_terms(self, source: int, nodes: Indices) -> Indices:
        """The terms of sums in an order in which they are read regularly, if there is one."""

        def regular(nodes: Indices) -> bool:
            return all(_runs(column) is not None for column in self._columns(source, nodes.ravel()))

        if nodes.shape[1] > 1 and not regular(nodes):
            for column in self._columns(source, nodes.ravel()):
                order = np.argsort(column.reshape(nodes.shape), axis=1, kind="stable")
                found = np.take_along_axis(nodes, order, axis=1)
                if regular(found):
                    return found
        return nodes

    def _drop(self, source: int, nodes: Indices, lengths: Mapping[int, int]) -> bool:
        """Whether these terms are the zero that Python's sum() starts from, and the rest is a long sum."""
        return (
            self._constant(source)
            and not self.data[nodes].any()
            and any(s != source and length > _UNROLLED for s, length in lengths.items())
        )

    def _reduced(self, source: int, nodes: Indices, shape: Shape, pair: Op) -> Operand:
        """The sum, or the extreme, of the terms of one class."""
        count = nodes.shape[1]
        if count == 1:
            return self._term(source, nodes[:, 0], shape)
        if self._constant(source):
            values = self.data[nodes]
            folded = values.sum(1) if pair is ops.add else values.max(1) if pair is ops.maximum else values.min(1)
            return self.build.constant(folded.reshape(shape))
        columns = self._columns(source, nodes.ravel())
        inner = _shape(count, [(column.reshape(nodes.shape)[0], 1) for column in columns])
        axes = range(len(shape), len(shape) + len(inner))
        alone = not shape or count > _UNROLLED or any(_runs(column) is None for column in columns)
        if alone or (pair is ops.add and self._is_matrix_product(source, nodes, shape + inner)):
            terms = self._term(source, nodes.ravel(), shape + inner)
            if not isinstance(terms, Node):
                return float(count) * terms if pair is ops.add else terms
            return self.build.sum(terms, axes) if pair is ops.add else self.build.extreme(_KINDS[pair], terms, axes)
        total = self._term(source, nodes[:, 0], shape)
        for k in range(1, count):
            total = self.build.apply(pair, total, self._term(source, nodes[:, k], shape))
        return total

    def _is_matrix_product(self, source: int, nodes: Indices, shape: Shape) -> bool:
        """Whether the terms are products of which one factor repeats where the other does not."""
        if source not in self.virtual:
            return False
        factors = [x for x in self._factors(source, nodes.ravel(), shape) if isinstance(x, Node)]
        spans = {(x.batched, x.map.repeats() if isinstance(x, View) else ()) for x in factors}
        return len(spans) == 2

    # -- reading --------------------------------------------------------------------------------------

    def _constant(self, source: int) -> bool:
        return self.classes.rows[source] is CONSTANT

    def _indices(self, source: int, nodes: Indices) -> Indices:
        """Where members stand in their class; for constants the nodes themselves, whose data is read."""
        return nodes if self._constant(source) else self.position[nodes]

    def _columns(self, source: int, nodes: Indices) -> list[Indices]:
        """The index maps by which these members are read: of both factors, for products that are not stored."""
        if self._constant(source):
            return []
        if source not in self.virtual:
            return [self.position[nodes]]
        factors = self._terms(nodes, 2)
        return [self.position[factors[:, k]] for k in (0, 1) if not self._constant(int(self.of[factors[0, k]]))]

    def _factors(self, source: int, nodes: Indices, shape: Shape) -> list[Operand]:
        factors = self._terms(nodes, 2)
        sources = self.of[factors[0]]
        return [self._read(int(s), self._indices(int(s), factors[:, k]), shape) for k, s in enumerate(sources)]

    def _term(self, source: int, nodes: Indices, shape: Shape) -> Operand:
        if source in self.virtual:
            return self.build.apply(ops.mul, *self._factors(source, nodes, shape))
        return self._read(source, self._indices(source, nodes), shape)

    def _read(self, source: int, indices: Indices, shape: Shape) -> Operand:
        """The members of a class at these indices, in a shape; for constants, their values."""
        if self._constant(source):
            return self.build.constant(self.data[indices].reshape(shape))
        array = self.lifted[source]
        assert array is not None
        return self.build.view(array, Map.of(indices.reshape(shape)))


def _is_largest(row: Op) -> bool:
    return row.recipe is not None and row.recipe[0] is ops.maximum_of


# ---------------------------------------------------------------------------------------------------
# Finding loops in index maps


def _runs(indices: Indices) -> list[tuple[int, int]] | None:
    """The loop nest that yields these indices, as (size, stride) from the outermost; None if there is none."""
    nest: list[tuple[int, int]] = []
    while len(indices) > 1:
        stride = int(indices[1] - indices[0])
        breaks = np.flatnonzero(np.diff(indices) != stride)
        run = int(breaks[0]) + 1 if len(breaks) else len(indices)
        if len(indices) % run:
            return None
        rows = indices.reshape(-1, run)
        if len(rows) > 1 and (np.diff(rows, axis=1) != stride).any():
            return None
        nest.insert(0, (run, stride))
        indices = rows[:, 0]
    return nest


def _shape(size: int, columns: Iterable[tuple[Indices, int]]) -> Shape:
    """The axes into which ``size`` members must be split so that every regular map is regular along each.

    Args:
        size: the number of members.
        columns: index maps, each with the number of its entries per member.
    """
    cuts = {1, size}
    for indices, count in columns:
        nest = _runs(indices)
        if nest is None:
            continue
        mine = {math.prod(s for s, _ in nest[k:]) for k in range(len(nest))}
        outer = {cut // count for cut in mine if cut > count and cut % count == 0}
        joint = sorted(cuts | outer)
        if all(b % a == 0 for a, b in pairwise(joint)):
            cuts |= outer
    chain = sorted(cuts)
    return tuple(b // a for a, b in pairwise(chain))[::-1]
