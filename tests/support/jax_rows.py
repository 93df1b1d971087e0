"""Every row of the table of operations as a function of JAX's numbers, in double precision."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, nn
from jax.scipy import special

from microgrid.ops import Op, expand

jax.config.update("jax_enable_x64", True)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "neg": jnp.negative,
    "less": lambda a, b: jnp.where(a < b, 1.0, 0.0),
    "less_equal": lambda a, b: jnp.where(a <= b, 1.0, 0.0),
    "greater": lambda a, b: jnp.where(a > b, 1.0, 0.0),
    "greater_equal": lambda a, b: jnp.where(a >= b, 1.0, 0.0),
    "equal": lambda a, b: jnp.where(a == b, 1.0, 0.0),
    "not_equal": lambda a, b: jnp.where(a != b, 1.0, 0.0),
    "identity": lambda x: x,
    "stop_gradient": lax.stop_gradient,
    "remainder": lambda a, b: a - lax.stop_gradient(jnp.rint(a / b)) * b,
    "gamma": special.gamma,
    "where": lambda condition, a, b: jnp.where(condition != 0, a, b),
    "erf": special.erf,
    "erfc": special.erfc,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "relu": nn.relu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "softplus": nn.softplus,
}
FACTORIES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "sum_of": lambda n: lambda *xs: sum(xs),
    "hypot_of": lambda n: lambda *xs: jnp.linalg.norm(jnp.stack(xs)),
    "maximum_of": lambda n: lambda *xs: jnp.max(jnp.stack(xs)),
    "round_of": lambda digits: lambda x: jnp.round(x, digits),
    "power_of": lambda n: lambda x: x ** (int(n) if n.is_integer() else n),  # by x**0.0 JAX's slope at 0 is nan
    "base_of": lambda base: lambda x: base**x,
    "polygamma_of": lambda n: lambda x: special.polygamma(n, x),
    "leaky_relu_of": lambda slope: lambda x: nn.leaky_relu(x, slope),
    "elu_of": lambda alpha: lambda x: nn.elu(x, alpha),
}


def jax_function(op: Op) -> Callable[..., Any] | None:
    """Return the operation: JAX's of the same name, unless it is above, else its expansion."""
    if op.recipe is not None:
        factory, constants = op.recipe
        if factory.__name__ in FACTORIES:
            return FACTORIES[factory.__name__](*constants)
    elif op.name in FUNCTIONS or hasattr(jnp, op.name):
        return FUNCTIONS.get(op.name) or getattr(jnp, op.name)  # type: ignore[no-any-return]
    return None if op.expansion is None else lambda *xs: expand(op, call, xs)


def call(op: Op, xs: Sequence[Any]) -> Any:
    """Return the operation of arrays and plain numbers."""
    function = jax_function(op)
    assert function is not None, f"JAX has no {op.name}"
    return function(*xs)
