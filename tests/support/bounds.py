"""A model of the derivatives of a graph, with a bound on what rounding may do to each number.

A ``Ball`` is a number and how far from it the same computation may end with other, equally good, roundings: sums
in another order, products in another order, functions of another library. Balls flow through the table like any
number type, so the model has no derivative of its own: it runs the partials of the rows on balls, along the paths
that are not structurally cut, backward (``reverse``) and forward (``forward``).

Where the order of the same factors decides whether something overflows, or a rounding decides a branch, the radius
is infinite: nothing can be said there. What is certain must agree, inf and nan included.
"""

import itertools
import math

from microgrid import ops
from microgrid.engine import topological_order
from microgrid.ops import CONSTANT, Operators

U = 2.0**-53
LARGE, SMALL = 2.0**900, 2.0**-900
"""Beyond these a product of the same factors in another order may overflow or underflow."""

EXACT = {ops.less, ops.less_equal, ops.greater, ops.greater_equal, ops.equal, ops.not_equal, ops.neg, ops.identity,
         ops.stop_gradient, ops.where, ops.maximum, ops.minimum, ops.clip, ops.relu, ops.absolute, ops.sign, ops.floor,
         ops.ceil}  # fmt: skip
ROUNDED = {ops.add, ops.sub, ops.mul, ops.div, ops.sqrt}
UNSIGNED = {ops.maximum, ops.minimum, ops.clip, ops.relu}
"""Of zeros of both signs these return either, and a sum of negative zeros may start from a positive one."""


def _is(op, factory):
    return op.recipe is not None and op.recipe[0] is factory


class Ball(Operators):
    """A number ``x``, its radius ``e``; the size and the number of its terms if it is a sum."""

    __slots__ = ("e", "n", "size", "unsigned", "x")

    def __init__(self, x, e=0.0, size=None, n=1, unsigned=False):
        self.x, self.e, self.n = float(x), e, n
        self.size = abs(self.x) if size is None else size
        self.unsigned = unsigned and self.x == 0.0

    def __repr__(self):
        return f"{self.x!r} ± {self.e:.1g}"

    @classmethod
    def __apply__(cls, op, arguments):
        balls = [a if isinstance(a, Ball) else Ball(ops.as_float(a)) for a in arguments]
        if op in (ops.add, ops.sub) or _is(op, ops.sum_of):
            return total(balls, op)
        return _general(op, balls)

    def may_be(self, number):
        """Whether a computed number is this one, up to rounding."""
        if self.e == math.inf or (math.isnan(self.x) and math.isnan(number)):
            return True
        return number == self.x or abs(number - self.x) <= self.e


def total(balls, op=None):
    """The sum of numbers, in any order; of two with ``ops.sub`` the difference."""
    xs = [b.x for b in balls]
    x = op.forward(*xs) if op is not None else _plain_sum(xs)
    size, n = sum(b.size for b in balls), sum(b.n for b in balls)
    if any(math.isnan(b.x) and not b.e for b in balls):
        return Ball(math.nan)
    if not all(map(math.isfinite, xs)):
        certain = all(b.e < math.inf for b in balls) and not (size == math.inf and all(map(math.isfinite, xs)))
        return Ball(x, 0.0 if certain else math.inf)
    if not size < LARGE:
        return Ball(x, math.inf, size, n)
    exact = all(_is_short(b.x) and _is_short(b.size) for b in balls) and size < 2.0**30
    return Ball(x, sum(b.e for b in balls) + (0.0 if exact else U * n * size), size, n, unsigned=True)


def _plain_sum(xs):
    x = xs[0]
    for other in xs[1:]:
        x += other
    return x


def _is_short(x):
    """Whether sums and products of a few such numbers are exact."""
    return abs(x) < 2.0**20 and (x * 1024.0).is_integer()


def _general(op, balls):
    xs = [b.x for b in balls]
    y = op.forward(*xs)
    if any(b.e == math.inf for b in balls):
        return Ball(y, math.inf)
    if op in (ops.mul, ops.div) and any(map(math.isnan, xs)):
        return Ball(y)
    e = 0.0
    choices = [_around(b, balls) for b in balls]
    for point in itertools.product(*choices) if any(len(c) > 1 for c in choices) else ():
        other = op.forward(*point)
        if other == y or (math.isnan(other) and math.isnan(y)):
            continue
        e = max(e, abs(other - y)) if math.isfinite(other) and math.isfinite(y) else math.inf
    if not math.isfinite(y):
        overflowed = op in (ops.mul, ops.div) and all(map(math.isfinite, xs)) and not (op is ops.div and xs[1] == 0.0)
        return Ball(y, math.inf if overflowed else e)
    if op is ops.mul or op is ops.div:
        if abs(y) > LARGE or (op is ops.div and 0.0 < abs(xs[1]) < SMALL):
            return Ball(y, math.inf)
        if abs(y) < SMALL and xs[0] and (xs[1] if op is ops.mul else math.isfinite(xs[1])):
            e += SMALL
    elif 0.0 < abs(y) < SMALL:
        e += SMALL  # XLA makes it 0
    slopes = [abs(d) for d in op.local_derivatives(y, *xs)]
    e = max(e, sum(d * b.e for d, b in zip(slopes, balls, strict=True) if b.e and math.isfinite(d)))
    if op in EXACT or (op is ops.mul and all(map(_is_short, xs))):
        return Ball(y, e, unsigned=op in UNSIGNED or any(b.unsigned for b in balls))
    units = 1 if op in ROUNDED else 512 if _is(op, ops.polygamma_of) or op in (ops.lgamma, ops.digamma) else 16
    inner = sum(abs(x * d) for x, d in zip(xs, slopes, strict=True) if math.isfinite(x * d))
    scale = abs(y) if op in ROUNDED else abs(y) + inner + (1.0 if units == 512 else 0.0)
    return Ball(y, e + units * U * scale, unsigned=any(b.unsigned for b in balls))


def _around(ball, balls):
    """The numbers that a ball may be: its ends, and what decides a branch if it is inside."""
    if ball.unsigned and not ball.e:
        return [0.0, -0.0]
    if not ball.e:
        return [ball.x]
    inside = {b.x for b in balls if abs(b.x - ball.x) <= ball.e} | ({0.0} if abs(ball.x) <= ball.e else set())
    return sorted({ball.x - ball.e, ball.x, ball.x + ball.e} | inside)


class Graph:
    """The graph of some outputs, on balls; of a compiled function equal nodes are one, as its program has them."""

    def __init__(self, outputs, compiled=False):
        self.order, self.parents, self.balls, self.one = [], {}, {}, {}
        known = {}
        for node in topological_order(*outputs):
            parents = tuple([self.one[p] for p in node.parents])
            if compiled and (parents or node.op is CONSTANT):
                one = known.setdefault((node.op, parents or node.data.hex()), node)
            else:
                one = node
            self.one[node] = one
            if one is node:
                self.order.append(node)
                self.parents[node] = parents
                balls = [self.balls[p] for p in parents]
                self.balls[node] = node.op(*balls) if balls else Ball(node.data)
            else:
                self.balls[node] = self.balls[one]
        self.locals = {}

    def edges(self, node):
        """The parents that are not structurally cut off, each with the local derivative by it."""
        if node not in self.locals:
            self.locals[node] = []
            for parent, partial in zip(self.parents[node], node.op.partials, strict=True):
                if callable(partial):
                    found = partial(self.balls[node], *[self.balls[p] for p in self.parents[node]])
                    self.locals[node].append((parent, found if isinstance(found, Ball) else Ball(found)))
                elif partial:
                    self.locals[node].append((parent, Ball(partial)))
        return self.locals[node]

    def reverse(self, output):
        """The gradient of an output by every node to which one flows."""
        terms = {self.one[output]: [Ball(1.0)]}
        gradients = {}
        for node in reversed(self.order):
            if node in terms:
                gradients[node] = gradient = _folded(terms[node])
                for parent, local in self.edges(node):
                    if not _is_left_out(node, local):
                        terms.setdefault(parent, []).append(_sent(node, gradient, local))
        return gradients

    def forward(self, leaf, others=()):
        """The derivative by a leaf of every node that depends on it; the tangents of others are the number 0."""
        tangents = {**dict.fromkeys(others, Ball(0.0)), leaf: Ball(1.0)}
        for node in self.order:
            if node not in tangents and self.parents[node]:
                edges = [edge for edge in self.edges(node) if not _is_left_out(node, edge[1])]
                known = [(parent, local) for parent, local in edges if parent in tangents]
                terms = [_sent(node, tangents[parent], local) for parent, local in known]
                if terms:
                    tangents[node] = _folded(terms)
        return {node: tangents[one] for node, one in self.one.items() if one in tangents}

    def is_finite(self, leaf, output):
        """Whether all local derivatives, and their products, are finite on the paths between two nodes."""
        gradients, tangents = self.reverse(output), self.forward(leaf)
        between = [node for node in self.order if node in gradients and node in tangents]
        numbers = [ball.x for node in between for ball in (gradients[node], tangents[node])]
        numbers += [local.x for node in between for parent, local in self.edges(node) if parent in tangents]
        return all(abs(x) < LARGE for x in numbers)


def _folded(terms):
    return terms[0] if len(terms) == 1 else total(terms)


def _chooses(node):
    return isinstance(node.op, ops.Op) and node.op.chooses


def _is_left_out(node, local):
    """Whether a row that chooses did not choose an operand: nothing flows back to it, not 0 · ∞ either."""
    return _chooses(node) and not local.x and not local.e


def _sent(node, gradient, local):
    """What flows through a local derivative: no product through that of a row that chooses."""
    return gradient if _chooses(node) and not local.e else _times(gradient, local)


def _times(a, b):
    """A product; without a rounding or an underflow of its own where a factor is 1."""
    if a.x == 1.0 and not a.e:
        return b
    return a if b.x == 1.0 and not b.e else a * b
