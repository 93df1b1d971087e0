"""The last pass: sums of products become contractions, and constants come to the front of products."""

import math
from collections import Counter
from collections.abc import Sequence

from microgrid import ops
from microgrid.compiler.ir import (
    BATCH,
    NUMBER,
    ArrayProgram,
    Constant,
    Contract,
    Elementwise,
    Gather,
    Map,
    Node,
    Operand,
    Reduce,
    Scan,
    ScatterAdd,
    SegmentReduce,
    View,
    is_mask,
    reachable,
)
from microgrid.compiler.passes.builder import Builder, Rules
from microgrid.compiler.passes.rules import BEFORE, either_way
from microgrid.compiler.passes.scan import relaid, rewritten


def fuse(outputs: Sequence[Operand], forward: Sequence[Operand], rules: Rules) -> list[Operand]:
    """Return outputs written anew, with contractions, so that a target can compute them.

    Args:
        outputs: what to compute.
        forward: the results of the forward pass; what these do not need may be multiplied in another order.
        rules: those that hold for what is written.
    """
    return _Fusion(outputs, forward, rules).outputs()


class _Fusion:
    def __init__(self, outputs: Sequence[Operand], forward: Sequence[Operand], rules: Rules) -> None:
        self.wanted = outputs
        self.build = Builder(rules)
        self.new: dict[int, Operand] = {}
        self.live = reachable(outputs)
        self.kept = {x.number for x in reachable(forward)}
        self.uses = Counter(operand.number for x in self.live for operand in x.arrays())
        products = [x for x in self.live if isinstance(x, Elementwise) and x.op is ops.mul]
        self.pairs = {frozenset(operand.number for operand in x.arrays()): x for x in products}
        self.inverses = {
            x.inputs[1].number: x.number  # type: ignore[union-attr]
            for x in self.live
            if isinstance(x, Elementwise) and x.op is ops.div and x.inputs[0] == 1.0
        }
        free = [x for x in products if x.number not in self.kept]
        self.factors = Counter(operand.number for x in free for operand in x.arrays())
        self.scaled = Counter(
            operand.number for x in free for c in x.inputs if isinstance(c, float) for operand in x.arrays()
        )

    def outputs(self) -> list[Operand]:
        for x in self.live:
            self.new[x.number] = self._written(x)
        return [self.build.apply(NUMBER, self._now(x)) if isinstance(x, Node) else x for x in self.wanted]

    def _now(self, x: Operand) -> Operand:
        return self.new[x.number] if isinstance(x, Node) else x

    def _written(self, x: Node) -> Operand:
        build, operands = self.build, [self._now(operand) for operand in x.operands]
        match x:
            case Elementwise(op=ops.mul) if x.number not in self.kept:
                return self._product(x)
            case Elementwise():
                return build.apply(x.op, *operands)
            case View() if x.map.regular:
                return build.view(operands[0], x.map)
        operands = [build.apply(NUMBER, operand) for operand in operands]
        match x:
            case View():
                return build.view(operands[0], x.map)
            case Constant():
                return build.constant(x.values)
            case Reduce(source=source) | SegmentReduce(source=source) if isinstance(operands[0], float):
                operands = [build.filled(source.shape, operands[0])]
            case Gather(source=source, index=index):
                pair = build.stored(operands[0], source.shape), build.stored(operands[1], index.shape)
                return build.gather(*pair, x.map)
            case ScatterAdd(source=source, index=index):
                pair = build.stored(operands[0], source.shape), build.stored(operands[1], index.shape)
                return build.scatter_add(x.shape, *pair, x.map, x.batch)
            case Scan():
                return self._scan(x, operands)
        if isinstance(x, Reduce) and x.kind == "sum":
            return self._sum(x, operands[0])
        # An operand may have lost its axis over the samples: a power that is 1 is the same number for each.
        batched = any(operand.batched for operand in operands if isinstance(operand, Node)) or not operands
        return build.remade(x, operands, x.batched and batched)

    def _scan(self, x: Scan, operands: Sequence[Operand]) -> Node:
        """A scan, whose operands may have lost their axis over the samples; its body is fused by itself."""
        given = [self.build.stored(now, old.shape) for now, old in zip(operands, x.arrays(), strict=True)]
        new = relaid(Builder(BEFORE), x, given)
        outputs = new.body.outputs
        body = ArrayProgram.of(fuse(outputs, outputs, self.build.rules), new.body.forms)
        return self.build.remade(rewritten(new, body), given, new.batched)

    # -- products -------------------------------------------------------------------------------------

    def _product(self, x: Elementwise) -> Operand:
        """Return a product with constants in front: c₁x · c₂y is (c₁c₂)·xy, and x · (1 / y) is x / y.

        What is used elsewhere, too, stands anyway and is better used as it is; unless the product without the
        constant is one of those that are multiplied anyway, or all but one of its uses have a constant of their own.
        """
        constant, divisor = 1.0, None
        product: Operand = 1.0
        for before, other in either_way(self._divided(x)):
            once = isinstance(before, Node) and self._is_passing(before)
            c, rest = self._constant_in_front(before, other, once)
            constant *= c
            match rest:
                case float():
                    constant *= rest
                case Elementwise(op=ops.div, inputs=(1.0, y)) if once and divisor is None:
                    divisor = y
                case _:
                    product = self.build.apply(ops.mul, product, rest)
        if divisor is not None:
            product = self.build.apply(ops.div, product, divisor)
        return self.build.apply(ops.mul, constant, product)

    def _divided(self, x: Elementwise) -> tuple[Operand, ...]:
        """Return the factors of a product; of x · (q / y), q and x / y if that is a product with 1 / y anyway.

        So the two derivatives of a quotient q divide once.
        """
        for quotient, other in either_way(x.inputs):
            match quotient, other:
                case Elementwise(op=ops.div, inputs=(Node() as q, Node() as y)), Node():
                    found = self.pairs.get(frozenset((other.number, self.inverses.get(y.number, -1))))
                    once = self.uses[quotient.number] == 1 and quotient.number not in self.kept
                    if once and found is not None and found.number in self.new and found.number not in self.kept:
                        return q, found
        return x.inputs

    def _is_passing(self, x: Node) -> bool:
        """Whether a product with a constant may as well be made where it is used."""
        uses = self.uses[x.number]
        return uses == 1 or (uses == self.factors[x.number] <= self.scaled[x.number] + 1 and x.number not in self.kept)

    def _constant_in_front(self, before: Operand, other: Operand, once: bool) -> tuple[float, Operand]:
        """Return a factor as a constant, 1 if there is none to take out, and the rest."""
        now = self._now(before)
        if once:
            match now:
                case Elementwise(op=ops.mul, inputs=(float() as c, rest)) if _is_moderate(c):
                    return c, rest
        elif isinstance(other, Node):
            match before:
                case Elementwise(op=ops.mul, inputs=(float() as c, Node() as x) | (Node() as x, float() as c)):
                    if _is_moderate(c) and frozenset((x.number, other.number)) in self.pairs:
                        return c, self.new[x.number]
        return 1.0, now

    # -- sums -----------------------------------------------------------------------------------------

    def _sum(self, x: Reduce, terms: Operand) -> Operand:
        axes, batch = x.axes, x.batch
        match terms:
            case Reduce(kind="sum") if self.uses[x.source.number] == 1 and not (axes and terms.axes):
                # A sum over members and one over samples are one sum.
                axes, batch, terms = axes or terms.axes, True, terms.source
        assert isinstance(terms, Node)
        if batch and not terms.batched:
            return self.build.sum_samples(self.build.sum(terms, axes))
        return self._contracted(terms, axes, batch)

    def _contracted(self, x: Node, axes: Sequence[int], batch: bool) -> Operand:
        """Return a sum; of a product, as a contraction, whose factors are not repeated before they meet."""
        match x:
            case Elementwise(op=ops.mul, inputs=(Node() as a, Node() as b)) if not (is_mask(a) or is_mask(b)):
                left, right = self._factor(a), self._factor(b)
            case _:
                return self.build.sum(x, axes, batch)
        letters = {*left[1], *right[1]}
        kept = [k for k in range(len(x.shape)) if k not in axes]
        spanned = [k for k in kept if _letter(k) in letters]
        result = "".join(map(_letter, spanned)) + BATCH * (x.batched and not batch)
        summed = letters - {*result}
        if not summed or not summed <= {*left[1]} & {*right[1]}:
            # Nothing is summed that the factors do not repeat; or one factor would come out of the sum of the other,
            # and an infinite one times a sum is not the sum of its products.
            return self.build.sum(x, axes, batch)
        times = math.prod(x.shape[k] for k in axes if _letter(k) not in letters)
        shape = tuple(x.shape[k] for k in spanned)
        subscripts = (left[1], right[1], result)
        product = self.build.make(Contract, shape, BATCH in result, left[0], right[0], subscripts)
        strides = dict(zip(spanned, Map.whole(shape).strides, strict=True))
        repeated = Map(tuple(x.shape[k] for k in kept), 0, tuple(strides.get(k, 0) for k in kept))
        return self.build.apply(ops.mul, float(times), self.build.view(product, repeated))

    def _factor(self, x: Node) -> tuple[Operand, str]:
        """A factor of a contraction without the axes along which it repeats, and its subscripts."""
        spanned = list(range(len(x.shape)))
        slim: Operand = x
        if isinstance(x, View):
            repeated = x.map.repeats()
            spanned = [k for k in spanned if k not in repeated]
            slim = self.build.view(x.source, x.map.without(repeated))
        return slim, "".join(map(_letter, spanned)) + BATCH * x.batched


def _letter(axis: int) -> str:
    return chr(ord("a") + axis)


def _is_moderate(x: float) -> bool:
    """Whether it is a number that hardly decides whether a product with it overflows."""
    return 2.0**-32 < abs(x) < 2.0**32
