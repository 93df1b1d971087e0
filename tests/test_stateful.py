"""The engine under any order of calls, against a model so naive that it is plainly right."""

import copy
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import microgrid as mg
from microgrid import ops
from microgrid.calculus import gradient_graph
from microgrid.engine import Value
from microgrid.ops import Op
from microgrid.strategies import Expression, expressions

OPERATIONS = [ops.add, ops.mul, ops.sub, ops.neg, ops.sin, ops.tanh, ops.maximum, ops.sum_of(3)]
NUMBERS = st.integers(-20, 20).map(lambda n: n / 8)


@dataclass(eq=False)
class Naive:
    """A node of the model: what the book's recursion does, one path at a time, on a graph of its own."""

    op: Op
    parents: "list[Naive]"
    data: float
    grad: float = 0.0
    size: float = 0.0  # of the terms that were added up in grad: its rounding is in proportion
    label: str = ""

    def paths(self) -> int:
        return 1 + sum(parent.paths() for parent in self.parents)

    def forward(self) -> float:
        if self.parents:
            self.data = self.op(*[parent.forward() for parent in self.parents])
        return self.data

    def derivatives(self, gradient: float = 1.0) -> "Iterator[tuple[Naive, float]]":
        """Yield each node below, once for every path to it, with the product of the local derivatives on it."""
        yield self, gradient
        partials = self.op.local_derivatives(self.data, *[parent.data for parent in self.parents])
        for parent, partial in zip(self.parents, partials, strict=True):
            yield from parent.derivatives(gradient * partial)

    def backward(self, gradient: float) -> None:
        terms = list(self.derivatives(gradient))
        for node, _ in terms:
            if node.parents:
                node.grad = node.size = 0.0
        for node, term in terms:
            node.grad += term
            node.size += abs(term)


@dataclass(eq=False)
class Pair:
    value: Value
    naive: Naive


class Engine(RuleBasedStateMachine):
    nodes: Bundle[Pair] = Bundle("nodes")

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[Pair] = []

    def keep(self, value: Value, naive: Naive) -> Pair:
        self.alive.append(Pair(value, naive))
        return self.alive[-1]

    @rule(target=nodes, number=NUMBERS, label=st.text(max_size=3))
    def leaf(self, number: float, label: str) -> Pair:
        return self.keep(Value(number, label), Naive(ops.LEAF, [], number, label=label))

    @rule(target=nodes, op=st.sampled_from(OPERATIONS), operands=st.lists(nodes, min_size=3, max_size=3))
    def operation(self, op: Op, operands: list[Pair]) -> Pair:
        if sum(pair.naive.paths() for pair in operands) > 300:
            return operands[0]
        operands = operands[: op.arity]
        naive = Naive(op, [pair.naive for pair in operands], op(*[pair.naive.data for pair in operands]))
        return self.keep(op(*[pair.value for pair in operands]), naive)

    @rule(target=nodes, number=NUMBERS, operand=nodes)
    def constant(self, number: float, operand: Pair) -> Pair:
        constant = Naive(ops.CONSTANT, [], number)
        return self.keep(number * operand.value, Naive(ops.mul, [constant, operand.naive], number * operand.naive.data))

    @rule(target=nodes, operand=nodes)
    def operation_without_recording(self, operand: Pair) -> Pair:
        with mg.no_grad():
            value = operand.value + 1.0
        return self.keep(value, Naive(ops.LEAF, [], operand.naive.data + 1.0))

    @rule(node=nodes, number=NUMBERS)
    def set_data(self, node: Pair, number: float) -> None:
        node.value.data = node.naive.data = number

    @rule(node=nodes)
    def forward(self, node: Pair) -> None:
        assert node.value.forward() is node.value
        node.naive.forward()

    @rule(node=nodes, gradient=st.sampled_from([1.0, 1.0, -0.5]))
    def backward(self, node: Pair, gradient: float) -> None:
        node.value.backward(gradient)
        node.naive.backward(gradient)

    @rule(node=nodes)
    def zero_grad(self, node: Pair) -> None:
        node.value.grad = node.naive.grad = 0.0

    @rule(node=nodes, other=nodes)
    def gradient_graph(self, node: Pair, other: Pair) -> None:
        terms = [term for below, term in node.naive.derivatives() if below is other.naive]
        (gradient,) = gradient_graph(node.value, [other.value])
        assert gradient.data == pytest.approx(sum(terms), rel=0, abs=1e-12 * sum(map(abs, terms)))

    @rule(node=nodes)
    def draw(self, node: Pair) -> None:
        assert "digraph" in mg.draw(node.value).dot

    @rule(target=nodes, node=nodes, how=st.sampled_from([copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]))
    def copy(self, node: Pair, how: Any) -> Pair:
        """The copy is a graph of its own: what happens to one must not be seen in the other."""
        return self.keep(how(node.value), copy.deepcopy(node.naive))

    @rule(node=consumes(nodes))
    def drop(self, node: Pair) -> None:
        self.alive = [pair for pair in self.alive if pair is not node]

    @invariant()
    def agrees_with_the_model(self) -> None:
        compared = set[Naive]()
        for pair in self.alive:
            agree(pair.value, pair.naive, compared)


def agree(value: Value, naive: Naive, compared: set[Naive]) -> None:
    if naive in compared:
        return
    compared.add(naive)
    assert value.data == naive.data
    assert value.grad == pytest.approx(naive.grad, rel=0, abs=1e-12 * naive.size)
    assert value.label == naive.label
    assert value.op is naive.op
    for parent, model in zip(value.parents, naive.parents, strict=True):
        agree(parent, model, compared)


TestEngine = Engine.TestCase
TestEngine.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=40)


@given(st.lists(expressions(max_steps=20), min_size=8, max_size=8))
@settings(max_examples=settings().max_examples // 4)
def test_programs_in_eight_threads_give_what_they_give_alone(programs: list[Expression]) -> None:
    together = threading.Barrier(8)

    def alone(program: Expression) -> tuple[float, list[float]]:
        output, leaves = program.graph()
        output.backward()
        return output.data, [leaf.grad for leaf in leaves]

    def repeated(program: Expression) -> list[tuple[float, list[float]]]:
        together.wait()
        return [alone(program) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeated, programs)) == [[alone(program)] * 5 for program in programs]
