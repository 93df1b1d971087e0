"""Jacobians and Hessians of kernels: of what is not 0 by structure, by few products with vectors.

The pattern comes from the scalars. Columns that share no row, or rows that share no column, get one colour, and the
product with a vector for each colour, forward or reverse, tells all entries.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, reduce
from itertools import accumulate
from operator import and_
from typing import Any, Literal

import numpy as np

from microgrid import ops
from microgrid.calculus import gradient_graph
from microgrid.compiler.ir import ArrayProgram, Contract, Indices
from microgrid.compiler.passes.lift import argument_number
from microgrid.compiler.program import PARAMETER, Program, values_of
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.sparsity import colours, entries, hessian_pattern, jacobian_pattern, transposed
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets import Choice
from microgrid.compiler.targets.tape import Tape
from microgrid.compiler.targets.target import Executable
from microgrid.compiler.task import Product, Task
from microgrid.engine import Value
from microgrid.environment import require
from microgrid.ops import Op
from microgrid.recording import enable_grad

LONGEST = 2_000
"""Programs of more statements that do not repeat are not written out on arrays: they run back, colour by colour."""

_BACK = 2.0
"""An operation on the way back, which adds to what stands there, takes so many times what one forward does."""

Kind = Literal["forward", "reverse", "second"]
Pull = Callable[[Task, Floats | None], Any]
"""Returns the gradient of the outputs, weighted by a seed, of one output by none, as the kernel itself computes it."""


class Derivative:
    """The Jacobian of a kernel, or the Hessian of a sum of its outputs, by some of its numbers: how it is computed.

    Without a batch axis, all numbers that the kernel takes are parameters of the programs here and the vectors are a
    batch, so what they share is computed once. With one, a vector is the same for all samples, and runs on its own.

    Args:
        stages: the function.
        leaves: what to differentiate by: 0 for the parameters, k + 1 for argument k; none between them is left out.
        second: whether it is the Hessian.
        weighted: whether that is of a sum of outputs with weights.
        target: the target that the kernel insists on.

    Attributes:
        shape: how many rows and columns the matrix has, of one sample.
        at: the row and the column of each entry that is not 0 by structure, row by row.
    """

    def __init__(
        self, stages: Stages, leaves: tuple[int, ...], *, second: bool, weighted: bool, target: str | None
    ) -> None:
        program, signature = stages.program, stages.signature
        sizes = [program.parameters, *program.sizes]
        ends = [*accumulate(sizes, initial=0)]
        self.stages, self.leaves, self.second, self.wide = stages, leaves, second, not signature.batched
        self.sizes = [sizes[k] for k in leaves]
        self.by = tuple([(k, (0, sizes[k])) for k in leaves])
        if self.wide and leaves:
            self.by = ((0, (ends[leaves[0]], ends[leaves[-1] + 1])),)
        self.program = _of_parameters(program, ends) if self.wide else program
        self.weights = (ends[-1], ends[-1] + len(program.outputs)) if weighted else None
        self.target = target if target in ("native", "numpy") else None
        columns = sum(self.sizes)
        self.shape = (columns if second else len(program.outputs)), columns
        found = hessian_pattern(self.program, self._column, columns) if second else None
        self.pattern = jacobian_pattern(self.program, self._column) if found is None else found
        self.at: tuple[Indices, Indices] = entries(self.pattern)
        self._kind: Kind | None = "second" if second else None
        self._products: dict[Kind, tuple[Stages, Product]] = {}
        self._executables: dict[Kind, Executable] = {}

    def _column(self, row: Op, position: int) -> int:
        """The column of a leaf; −1 if it has none."""
        leaf, column = 0 if row is PARAMETER else argument_number(row) + 1, 0
        for k, (start, stop) in self.by:
            if (row is PARAMETER or leaf) and leaf == k and start <= position < stop:
                return column + position - start
            column += stop - start
        return -1

    # -- which products ---------------------------------------------------------------------------------

    @cached_property
    def of_columns(self) -> Indices:
        """The colour of each column."""
        if self.shape[1] in map(int.bit_count, self.pattern):
            return np.arange(self.shape[1])
        return np.array(colours(transposed(self.pattern, self.shape[1])), np.intp)

    @cached_property
    def of_rows(self) -> Indices:
        """The colour of each row."""
        if reduce(and_, self.pattern):
            return np.arange(self.shape[0])
        return np.array(colours(self.pattern), np.intp)

    @cached_property
    def full(self) -> bool:
        """Whether no entry is 0 by structure: then every row and every column has a colour of its own, in order."""
        return 0 < len(self.at[0]) == math.prod(self.shape)

    def kind(self, samples: int) -> Kind:
        """Return by which products it is computed: by those that take fewer operations, at the first batch."""
        if self._kind is None and self._pulls_only:
            self._kind = "reverse"
        elif self._kind is None:
            forward, reverse = _count(self.of_columns), _count(self.of_rows)
            if self.wide and not 0.25 < forward / max(reverse, 1) < 4.0:
                self._kind = "forward" if forward < reverse else "reverse"
            elif self.wide:
                works = [_work(self._arrays("forward"), forward), _work(self._arrays("reverse"), reverse)]
                self._kind = "forward" if works[0] <= works[1] else "reverse"
            else:
                backward = self.stages.array_program(self._pulled)
                works = [forward * _work(self._arrays("forward"), samples), reverse * _work(backward, samples)]
                self._kind = "forward" if works[0] < _BACK * works[1] else "reverse"
        return self._kind

    @property
    def _pulls_only(self) -> bool:
        """Whether the kernel's own gradient is all there is: of graphs without structure."""
        return self.wide and self.stages.unrolled and len(self.program) > LONGEST

    @property
    def _pulled(self) -> Task:
        return Task(by_parameters=0 in self.leaves, by_arguments=any(self.leaves))

    # -- products ---------------------------------------------------------------------------------------

    def product(self, kind: Kind) -> tuple[Stages, Product]:
        """Return the function and the task of a product."""
        if kind not in self._products:
            self._products[kind] = self._made(kind)
        return self._products[kind]

    def _made(self, kind: Kind) -> tuple[Stages, Product]:
        program, rows = self.program, self.shape[0] if kind == "reverse" else self.shape[1]
        first = program.parameters + (len(program.outputs) if self.weights else 0)
        parameters, sizes = (first, [rows]) if self.wide else (first + rows, program.sizes)
        made = Program(*program.columns, program.outputs, sizes, parameters)
        signature = replace(self.stages.signature, outputs=len(program.outputs), threads=1)
        if self.wide:
            signature = Signature(("vector",), ((rows,),), True, None, len(program.outputs), signature.dtype)
        vector = (1, (0, rows)) if self.wide else (0, (first, first + rows))
        return Stages(made, signature), Product(kind=kind, by=self.by, vector=vector, weights=self.weights)

    def _arrays(self, kind: Kind) -> ArrayProgram:
        stages, task = self.product(kind)
        return stages.array_program(task)

    def _executable(self, kind: Kind) -> Executable:
        if kind not in self._executables:
            stages, task = self.product(kind)
            choice = Choice(stages, self.target)
            if isinstance(choice.target, Tape):  # which knows no products
                choice = Choice(stages, "numpy")
            self._executables[kind] = choice.build(task)
        return self._executables[kind]

    def products(
        self, theta: Floats, arrays: Sequence[Floats], size: int, weights: Floats | None, pull: Pull
    ) -> Floats:
        """Return the products with a vector for each colour: their numbers, the colours, then the samples."""
        kind, dtype, apart = self.kind(size), self.stages.signature.dtype, self.stages.signature.per_sample
        colour = self.of_rows if kind == "reverse" else self.of_columns
        vectors: Floats = np.zeros((_count(colour), len(colour)), dtype)
        vectors[colour, np.arange(len(colour))] = 1.0
        count = self.shape[1] if kind == "reverse" else self.shape[0]
        if kind == "reverse" and (self._pulls_only or not self.wide):
            rows = [self._in_columns(pull(self._pulled, self._seed(vector)), size) for vector in vectors]
            return np.array(rows).reshape(len(vectors), -1, count).transpose(2, 0, 1)
        run, none = self._executable(kind).run, np.empty(0, dtype)
        if self.wide:
            given = [theta, *[array.reshape(-1) for array in arrays], none if weights is None else weights]
            out: Floats = np.empty((count, len(vectors)), dtype)
            run(np.concatenate(given), none, [vectors], [out])
            return out[..., None]
        out = np.empty((len(vectors), count, size if apart else 1), dtype)
        both: Floats = np.concatenate([theta, vectors[0]])
        for vector, mine in zip(vectors, out, strict=True):
            both[len(theta) :] = vector
            run(both, none, arrays, [mine if apart else mine[:, 0]])
        return out.transpose(1, 0, 2)

    def _seed(self, vector: Floats) -> Floats | None:
        return vector if self.stages.signature.outputs is not None else None

    def _in_columns(self, gradient: Any, size: int) -> Floats:
        """A gradient by parameters and arguments as rows, one for each sample that is kept apart."""
        by_parameters, by_arguments = gradient if isinstance(gradient, tuple) else (gradient, gradient)
        parts = [by_arguments[k - 1] if k else by_parameters for k in self.leaves]
        rows = size if self.stages.signature.per_sample else 1
        return np.concatenate([part.reshape(rows, -1) for part in parts], axis=1)

    # -- entries ----------------------------------------------------------------------------------------

    def entries(self, theta: Floats, arrays: Sequence[Floats], size: int, weights: Floats | None, pull: Pull) -> Floats:
        """Return the entries in the order of ``at``, those of each sample in a row."""
        rows, columns = self.at
        if not len(rows):
            return np.zeros((size if self.stages.signature.per_sample else 1, 0))
        found = self.products(theta, arrays, size, weights, pull)
        reverse = self.kind(size) == "reverse"
        if self.full:
            chosen = (found.transpose(1, 0, 2) if reverse else found).reshape(len(rows), -1).T
        else:
            chosen = (found[columns, self.of_rows[rows]] if reverse else found[rows, self.of_columns[columns]]).T
        if np.isnan(chosen).any():
            # It may be 0 · ∞ on the way of what has nothing to do with an entry.
            for k, sample in enumerate(chosen):
                wanted = np.unique(rows[np.isnan(sample)]).tolist()
                apart = self.stages.signature.per_sample
                batch = [array[k : k + 1] if apart else array for array in arrays]
                for row, derivatives in self._on_values(wanted, theta, batch, weights):
                    sample[rows == row] = derivatives[columns[rows == row]]
        return chosen

    def _on_values(self, wanted: Sequence[int], theta: Floats, arrays: Sequence[Floats], weights: Floats | None) -> Any:
        """Yield rows of the matrix, each with its number, by the engine: nothing flows but from the row's output."""
        if not wanted:
            return
        program, signature = self.stages.program, self.stages.signature
        parameters = list(map(Value, theta.tolist()))
        given = [list(map(Value, array.ravel().tolist())) for array in arrays]
        samples = len(arrays[0]) if signature.batched else 1
        with enable_grad():
            runs = []
            for k in range(samples):
                sample = [xs[k * size : (k + 1) * size] for xs, size in zip(given, program.sizes, strict=True)]
                runs.append(values_of(program, parameters, sample))
            share = 1.0 / samples if signature.reduce == "mean" else 1.0
            outputs = [ops.total([run[output] for run in runs]) * share for output in program.outputs]
            inputs = [x for k in self.leaves for x in (given[k - 1] if k else parameters)]
            if self.second:
                terms = outputs if weights is None else [w * y for w, y in zip(weights.tolist(), outputs, strict=True)]
                outputs = list(gradient_graph(ops.identity(ops.total(terms)), inputs))
            for row in wanted:
                for x in inputs:
                    x.grad = 0.0
                outputs[row].backward()
                yield row, np.array([x.grad for x in inputs])

    # -- matrices ---------------------------------------------------------------------------------------

    def dense(self, found: Floats) -> Floats:
        """Return the matrix of each sample."""
        if self.full:
            return found.reshape(len(found), *self.shape)
        matrix: Floats = np.zeros((len(found), *self.shape), found.dtype)
        matrix[:, self.at[0], self.at[1]] = found
        return matrix

    def sparse(self, found: Floats) -> Any:
        """Return one matrix in SciPy's compressed rows: those of all samples one below the other.

        Numbers of arguments that each sample has of its own are columns of their own.
        """
        csr_array = require("scipy.sparse", "a sparse derivative", "compile").csr_array
        (rows, columns), samples = self.at, len(found)
        shared = self.sizes[0] if self.leaves[:1] == (0,) else 0
        own = self.shape[1] - shared
        shift = np.where(columns < shared, 0, own) * np.arange(samples)[:, None]
        counts = np.tile(np.bincount(rows, minlength=self.shape[0]), samples)
        starts = np.concatenate([[0], np.cumsum(counts)])
        shape = samples * self.shape[0], shared + own * samples
        return csr_array((found.ravel(), (columns + shift).ravel(), starts), shape=shape)


def _of_parameters(program: Program, ends: Sequence[int]) -> Program:
    """The program with every number of its arguments behind its parameters."""
    rows, starts, arguments, data = program.columns
    moved = [argument_number(row) if row.recipe is not None else -1 for row in rows]
    return Program(
        [row if k < 0 else PARAMETER for row, k in zip(rows, moved, strict=True)],
        starts,
        arguments,
        [position if k < 0 else position + ends[k + 1] for position, k in zip(data, moved, strict=True)],
        program.outputs,
        [],
        ends[-1],
    )


def _count(colour: Indices) -> int:
    return int(colour.max(initial=-1)) + 1


def _work(program: ArrayProgram, samples: int) -> float:
    """About how many operations a program takes."""
    total = 0.0
    for x in program.statements:
        size = x.size
        if isinstance(x, Contract):
            factors = zip((x.left, x.right), x.subscripts, strict=False)
            size = math.prod({c: n for y, letters in factors for c, n in zip(letters, y.shape, strict=False)}.values())
        total += size * (samples if any(y.batched for y in (x, *x.arrays())) else 1)
    return total
