"""What a kernel is asked for, and the array program that computes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from microgrid import ops
from microgrid.compiler.ir import ArrayProgram, Form, Map, Node, Operand, Shape
from microgrid.compiler.passes import rules
from microgrid.compiler.passes.builder import Builder
from microgrid.compiler.passes.differentiate import gradients
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


def array_program(lifted: Lifted, signature: Signature, task: Task) -> ArrayProgram:
    """Return the array program of a task; its outputs are the function's, then the gradients, parameters first."""
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
