"""Every row of the table of operations as a function of PyTorch tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional

from microgrid.ops import Op, expand

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "less": lambda a, b: (a < b).double(),
    "less_equal": lambda a, b: (a <= b).double(),
    "greater": lambda a, b: (a > b).double(),
    "greater_equal": lambda a, b: (a >= b).double(),
    "equal": lambda a, b: (a == b).double(),
    "not_equal": lambda a, b: (a != b).double(),
    "identity": lambda x: x.clone(),
    "stop_gradient": lambda x: x.detach(),
    "power": torch.pow,
    "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "mod": torch.remainder,
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "clip": torch.clamp,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "relu": functional.relu,
    "softplus": lambda x: functional.softplus(x, threshold=1000.0),  # not linear from 20 on, as by default
}
FACTORIES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "sum_of": lambda n: lambda *xs: torch.stack(xs).sum(),
    "hypot_of": lambda n: lambda *xs: torch.linalg.vector_norm(torch.stack(xs)),
    "maximum_of": lambda n: lambda *xs: torch.amax(torch.stack(xs), 0),
    "round_of": lambda digits: lambda x: torch.round(x, decimals=digits),
    "power_of": lambda n: lambda x: x**n,
    "base_of": lambda base: lambda x: base**x,
    "polygamma_of": lambda n: lambda x: torch.special.polygamma(n, x),
    "leaky_relu_of": lambda slope: lambda x: functional.leaky_relu(x, slope),
    "elu_of": lambda alpha: lambda x: functional.elu(x, alpha),
}

OTHERS = ("cbrt", "gamma", "remainder")
"""Rows whose names PyTorch does not have, or only for another function."""


def torch_function(op: Op) -> Callable[..., Any] | None:
    """Return the operation on float64 tensors: PyTorch's of the same name, unless it is above, else its expansion."""
    if op.recipe is not None:
        factory, constants = op.recipe
        if factory.__name__ in FACTORIES:
            return FACTORIES[factory.__name__](*constants)
    elif op.name in FUNCTIONS or (op.name not in OTHERS and hasattr(torch, op.name)):
        return FUNCTIONS.get(op.name) or getattr(torch, op.name)  # type: ignore[no-any-return]
    return None if op.expansion is None else lambda *xs: expand(op, call, xs)


def call(op: Op, xs: Sequence[Any]) -> Any:
    """Return the operation of tensors and plain numbers."""
    function = torch_function(op)
    assert function is not None, f"PyTorch has no {op.name}"
    return function(*[x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64) for x in xs])


def leaf(x: float) -> Any:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)
