"""Random programs on engines that we did not write: values, gradients and Hessian-vector products."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax_rows
import micrograd.engine
import pytest
import torch
import torch_rows
from hypothesis import given
from hypothesis import strategies as st
from jax_rows import jax_function
from torch_rows import leaf, torch_function

import microgrid as mg
from microgrid import ops
from microgrid.ops import Op
from microgrid.strategies import Expression, expressions

GAMMA = {ops.lgamma, ops.digamma, *(op for op in ops.rows() if op.recipe and op.recipe[0] is ops.polygamma_of)}
TORCH_ROWS = [op for op in ops.rows() if torch_function(op) and op not in GAMMA]  # its trigamma has 9 digits, see there
JAX_ROWS = [
    op for op in ops.rows() if jax_function(op) and op is not ops.hypot
]  # its is made of max, with a kink at |a| = |b|
MICROGRAD_ROWS = [ops.add, ops.mul, ops.sub, ops.neg, ops.div, *map(ops.power_of, (2.0, 3.0, -1.0)), ops.relu]


def evaluate(expression: Expression, leaves: list[Any], function_of: Callable[[Op], Callable[..., Any]]) -> Any:
    results = list(leaves)
    for step in expression.steps:
        operands = [results[x] if isinstance(x, int) else x for x in step.operands]
        results.append(function_of(step.op)(*operands))
    return results[-1]


def is_away_from_kinks(expression: Expression) -> bool:
    """Rounding differs between engines; where it decides the branch, so do gradients. Ties are another test's."""
    results = expression.results(*expression.at)
    for step in expression.steps:
        xs = [results[x] if isinstance(x, int) else x for x in step.operands]
        for i, x in enumerate(xs):
            for beside in (x - 1e-6, x + 1e-6):
                if step.op.kink is not None and step.op.kink(*xs) != step.op.kink(*xs[:i], beside, *xs[i + 1 :]):
                    return False
    return True


def programs(rows: list[Op]) -> st.SearchStrategy[Expression]:
    """Programs of moderate numbers, in which no error of rounding grows more than tenfold at a step."""
    data = st.integers(-3000, 3000).map(lambda n: n / 1000)
    return expressions(rows, max_steps=6, largest=10.0, data=data).filter(is_away_from_kinks)


def directions(expression: Expression) -> list[float]:
    return [(-0.75) ** i for i in range(len(expression.at))]


def ours(expression: Expression) -> tuple[float, list[float], list[float]]:
    output, leaves = expression.graph()
    output.backward()
    product = mg.hvp(expression, expression.at, tuple(directions(expression)))
    return output.data, [v.grad for v in leaves], list(product)


def close(numbers: Any) -> Any:
    return pytest.approx(numbers, rel=1e-10, abs=1e-10)


@given(programs(TORCH_ROWS))
def test_pytorch_agrees(expression: Expression) -> None:
    leaves = [leaf(x) for x in expression.at]
    y = evaluate(expression, leaves, lambda op: lambda *xs: torch_rows.call(op, xs))
    gradients = torch.autograd.grad(y, leaves, create_graph=True, allow_unused=True) if y.requires_grad else ()
    gradients = [torch.zeros(()) if g is None else g for g in gradients] or [torch.zeros(())] * len(leaves)
    directed = sum(g * d for g, d in zip(gradients, directions(expression), strict=True))
    product = (
        torch.autograd.grad(directed, leaves, allow_unused=True) if directed.requires_grad else [None] * len(leaves)
    )
    value, gradient, hessian_product = ours(expression)
    assert value == close(y.item())
    assert gradient == close([g.item() for g in gradients])
    assert hessian_product == close([0.0 if p is None else p.item() for p in product])


@given(programs(JAX_ROWS))
def test_jax_agrees(expression: Expression) -> None:
    def function(xs: Any) -> Any:
        return evaluate(expression, list(xs), lambda op: lambda *xs: jax_rows.call(op, xs))

    at, direction = (jnp.array(numbers, dtype=float) for numbers in (expression.at, directions(expression)))
    y, gradients = jax.value_and_grad(function)(at)
    product = jax.jvp(jax.grad(function), (at,), (direction,))[1]
    value, gradient, hessian_product = ours(expression)
    assert value == close(float(y))
    assert gradient == close(gradients.tolist())
    assert hessian_product == close(product.tolist())


@given(programs(MICROGRAD_ROWS))
def test_micrograd_agrees(expression: Expression) -> None:
    leaves = [micrograd.engine.Value(x) for x in expression.at]
    y = evaluate(expression, leaves, _micrograd_function)
    y.backward()
    value, gradient, _ = ours(expression)
    assert value == close(y.data)
    assert gradient == close([v.grad for v in leaves])


def _micrograd_function(op: Op) -> Callable[..., Any]:
    if op.recipe is not None:
        return lambda x: x ** op.recipe[1][0]  # type: ignore[index]
    return {
        "add": lambda a, b: a + b,
        "mul": lambda a, b: a * b,
        "sub": lambda a, b: a - b,
        "div": lambda a, b: a / b,
        "neg": lambda x: -x,
        "relu": lambda x: x.relu(),
    }[op.name]
