"""What a kernel is asked for, and the array program that computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from microgrid import ops
from microgrid.compiler.ir import ArrayProgram, Form, Map, Node, Operand, Shape
from microgrid.compiler.passes import rules
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.differentiate import Part, gradients, tangents
from microgrid.compiler.passes.fuse import fuse
from microgrid.compiler.passes.lift import Lifted, grouped
from microgrid.compiler.signature import Signature

By = Literal["parameters", "arguments", "both"]


@dataclass(frozen=True, slots=True)
class Task:
    """What to compute of a function.

    Attributes:
        value: whether its outputs.
        by_parameters: whether the gradient by the parameters.
        by_arguments: whether the gradients by the arguments.
        of: of what: ``"outputs"``: of the one output, or of all weighted by a seed, sample by sample where the
            samples are kept apart; ``"total"``: of all outputs of all samples, weighted by a seed and added up;
            ``"first"``: of the mean of the first output over the samples.
        differentiable: whether JAX may differentiate the program again, so that ``stop_gradient`` must stay.
    """

    value: bool = True
    by_parameters: bool = False
    by_arguments: bool = False
    of: Literal["outputs", "total", "first"] = "outputs"
    differentiable: bool = False

    @staticmethod
    def gradient(by: By) -> "Task":
        """Return the task of a value and its gradient."""
        if by not in ("parameters", "arguments", "both"):
            raise ValueError(f"by must be 'parameters', 'arguments' or 'both'; got {by!r}")
        return _GRADIENTS[by]

    def takes_seed(self, signature: Signature) -> bool:
        """Whether the program reads the weight of each output."""
        differentiates = self.by_parameters or self.by_arguments
        return differentiates and (self.of == "total" or (self.of == "outputs" and signature.outputs is not None))

    def forms(self, signature: Signature, sizes: Sequence[int]) -> list[Form]:
        """Return the shape of each output and whether it is batched; ``sizes``: of the parameters, of each argument."""
        apart = signature.per_sample and self.of == "outputs"
        forms: list[Form] = [(() if signature.outputs is None else (signature.outputs,), signature.per_sample)]
        wanted = [self.by_parameters, *[self.by_arguments] * len(signature.shapes)]
        leaves = zip(sizes, [apart, *[signature.batched] * len(signature.shapes)], wanted, strict=True)
        return forms * self.value + [((size,), batched) for size, batched, is_wanted in leaves if is_wanted]


_GRADIENTS: dict[By, Task] = {
    "parameters": Task(by_parameters=True),
    "arguments": Task(by_arguments=True),
    "both": Task(by_parameters=True, by_arguments=True),
}
VALUE = Task()
STEP = Task(by_parameters=True, of="first")
"""What a step of learning needs of several outputs, of which the first is the loss."""
PULLBACK = Task(value=False, by_parameters=True, of="total")
"""What comes back to the parameters from the Values of a call that keeps its samples apart."""
VJP = Task(value=False, by_parameters=True, by_arguments=True, of="total", differentiable=True)
"""The product of a vector with the Jacobian, as JAX asks for it."""


@dataclass(frozen=True, slots=True)
class Product(Task):
    """A product of the Jacobian, or of the Hessian of a sum of the outputs, with a vector.

    Attributes:
        kind: ``"forward"``: J·v; ``"reverse"``: vᵀ·J; ``"second"``: H·v, forward over reverse.
        by: the leaves that are differentiated by, and which of their members; one after the other they are the columns.
        vector: where v stands: the leaf, and which of its members.
        weights: for ``"second"``, where the weights of the outputs stand among the parameters; without, all are 1.
    """

    value: bool = False
    kind: Literal["forward", "reverse", "second"] = "forward"
    by: tuple[tuple[int, Part], ...] = ()
    vector: tuple[int, Part] = (0, (0, 0))
    weights: Part | None = None

    @property
    def columns(self) -> int:
        """How many numbers are differentiated by."""
        return sum(stop - start for _, (start, stop) in self.by)

    def takes_seed(self, signature: Signature) -> bool:
        """Return that no weights are read but those among the parameters."""
        return False

    def forms(self, signature: Signature, sizes: Sequence[int]) -> list[Form]:
        """Return the shape of the product and whether it is batched."""
        size = (signature.outputs or 1) if self.kind == "forward" else self.columns
        return [((size,), signature.per_sample)]


def product_program(lifted: Lifted, signature: Signature, task: Product) -> ArrayProgram:
    """Return the array program of a product."""
    build = lifted.build.copy()

    def members(leaf: int, part: Part) -> Operand:
        return build.view(lifted.leaves[leaf], Map.stretch(*part))

    nodes: list[Node] = []
    parts: list[Part] = []
    for leaf, (start, stop) in task.by:
        reads = lifted.reads[leaf][start:stop] if lifted.unrolled else lifted.reads[leaf]
        nodes += reads
        parts += [(0, 1)] * len(reads) if lifted.unrolled else [(start, stop)]
    vector = members(*task.vector)
    ends = [*accumulate([stop - start for start, stop in parts], initial=0)]
    places = [Map.stretch(*part) for part in pairwise(ends)]
    if lifted.unrolled:
        places = [Map((), place) for place in ends[:-1]]
    directions = [(x, part, build.view(vector, index)) for x, part, index in zip(nodes, parts, places, strict=True)]
    outputs = _each(lifted.outputs) if lifted.unrolled else grouped(build, lifted.outputs)
    if task.kind == "forward":
        moved = tangents(build, [output for output, _ in outputs], directions)
        moved = [_over_samples(build, signature, x, 0.0)[0] if isinstance(x, Node) else x for x in moved]
        wanted = build.scatter((signature.outputs or 1,), [(at, x) for (_, at), x in zip(outputs, moved, strict=True)])
    else:
        weights = vector if task.kind == "reverse" else 1.0 if task.weights is None else members(0, task.weights)
        pairs = [(output, build.view(weights, at)) for output, at in outputs]
        if task.kind == "second":
            pairs = [(output, _over_samples(build, signature, output, weight)[1]) for output, weight in pairs]
        of_leaf = None if lifted.unrolled else {x.number: part for x, part in zip(nodes, parts, strict=True)}
        found = gradients(build, pairs, nodes, task.kind == "reverse", of_leaf)
        if task.kind == "second":
            found = tangents(build, found, directions)
        wanted = build.scatter((task.columns,), [*zip(places, found, strict=True)])
    return ArrayProgram.of(fuse([wanted], lifted.outputs, rules.LAST), task.forms(signature, ()))


def array_program(lifted: Lifted, signature: Signature, task: Task) -> ArrayProgram:
    """Return the array program of a task; its outputs are the function's, then the gradients, parameters first."""
    if isinstance(task, Product):
        return product_program(lifted, signature, task)
    build = lifted.build.copy()
    apart = signature.per_sample and task.of == "outputs"
    seeds = build.seed(signature.outputs or 1, signature.per_sample) if task.takes_seed(signature) else 1.0
    parts: list[tuple[Map, Operand]] = []
    pairs: list[tuple[Operand, Operand]] = []
    several = signature.outputs is not None and not lifted.unrolled
    for output, places in grouped(build, lifted.outputs) if several else _each(lifted.outputs):
        result, seed = _over_samples(build, signature, output, build.view(seeds, places))
        parts.append((places, result))
        pairs.append((output, seed))
    shape: Shape = () if signature.outputs is None else (signature.outputs,)
    results = [] if not task.value else [build.scatter(shape, parts)] if shape else [parts[0][1]]
    forward = [*lifted.outputs, *results]
    if task.of == "first":
        first = lifted.outputs[0]
        pairs = [(first, build.batch_weight() if isinstance(first, Node) and first.batched else 1.0)]
    chosen = [k for k in range(len(lifted.leaves)) if (task.by_arguments if k else task.by_parameters)]
    found = iter(gradients(build, pairs, [x for k in chosen for x in lifted.reads[k]], apart))
    for k in chosen:
        leaf, gradient = lifted.leaves[k], [next(found) for _ in lifted.reads[k]]
        if lifted.unrolled:
            members = [(Map((), place), x) for place, x in enumerate(gradient)]
            gradient = [build.scatter(leaf.shape, members) if members else 0.0]
        results += gradient
    last = rules.FOR_JAX if task.differentiable else rules.LAST
    return ArrayProgram.of(fuse(results, forward, last), task.forms(signature, [leaf.size for leaf in lifted.leaves]))


def _over_samples(build: Builder, signature: Signature, output: Operand, seed: Operand) -> tuple[Operand, Operand]:
    """An output of all samples together, and what comes back to each sample's."""
    alone = not (isinstance(output, Node) and output.batched)
    if not signature.batched or signature.reduce is None or (alone and signature.reduce == "mean"):
        return output, seed
    result = build.sum_samples(output)
    if signature.reduce == "sum":
        return result, build.sum_samples(seed) if alone else seed
    everywhere = Map.constant(output.shape if isinstance(output, Node) else ())
    return (
        build.apply(ops.div, result, build.view(build.batch_size(), everywhere)),
        build.apply(ops.mul, seed, build.view(build.batch_weight(), everywhere)),
    )


def _each(numbers: Sequence[Operand]) -> list[tuple[Operand, Map]]:
    """Single numbers, each with its place among them."""
    return [(x, Map((), k)) for k, x in enumerate(numbers)]
