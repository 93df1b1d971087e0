"""Functions on arrays that NumPy lacks, with the conventions of the table.

Programs call them as ``special.sigmoid(x, out=y)``. ``numpy_namespace`` and ``jax_namespace`` hold what a
program of each dialect finds under its names.
"""

import math
from typing import Any

import numpy as np

from microgrid import ops
from microgrid.ops import Op

Array = Any


def _elementwise(forward: Any, arguments: int) -> Any:
    """Return a function of floats as a function of arrays; slow, as it calls Python for each number."""
    mapped = np.frompyfunc(forward, arguments, 1)

    def function(*xs: Array, out: Array = None) -> Array:
        result = mapped(*xs)
        if out is None:
            return np.asarray(result, dtype=np.result_type(*xs, np.float32))
        out[...] = result
        return out

    return function


def _into(out: Array, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


class NumPySpecial:
    """The namespace ``special`` of programs on NumPy arrays."""

    erf = staticmethod(_elementwise(ops.erf.forward, 1))
    erfc = staticmethod(_elementwise(ops.erfc.forward, 1))
    lgamma = staticmethod(_elementwise(ops.lgamma.forward, 1))
    digamma = staticmethod(_elementwise(ops.digamma.forward, 1))

    @staticmethod
    def polygamma(n: int, x: Array, out: Array = None) -> Array:
        """ψ⁽ⁿ⁾(x)."""
        return _elementwise(ops.polygamma_of(n).forward, 1)(x, out=out)

    @staticmethod
    def gelu(x: Array, out: Array = None) -> Array:
        """x·Φ(x)."""
        return _elementwise(ops.gelu.forward, 1)(x, out=out)

    @staticmethod
    def sigmoid(x: Array, out: Array = None) -> Array:
        """1 / (1 + e⁻ˣ), by e⁻|x|, which cannot overflow."""
        e = np.exp(-np.abs(x))
        return np.divide(np.where(np.less(x, 0.0), e, 1.0), 1.0 + e, out=out)

    @staticmethod
    def silu(x: Array, out: Array = None) -> Array:
        """x·σ(x); −0 at −inf."""
        return _into(out, np.where(np.equal(x, -np.inf), -0.0, x * NumPySpecial.sigmoid(x)))

    @staticmethod
    def softplus(x: Array, out: Array = None) -> Array:
        """log(1 + eˣ) = max(x, 0) + log1p(e⁻|x|)."""
        return np.add(np.maximum(x, 0.0), np.log1p(np.exp(-np.abs(x))), out=out)

    @staticmethod
    def power(x: Array, n: Array, out: Array = None) -> Array:
        """xⁿ; NumPy takes a square root for n = ½, which is nan for −inf and −0 for −0."""
        result = np.power(x, n, out=out)
        if isinstance(n, float) and n == 0.5:
            result = np.add(result, 0.0, out=out)
            result = _into(out, np.where(np.equal(x, -np.inf), np.inf, result))
        return result

    @staticmethod
    def where(condition: Array, a: Array, b: Array, out: Array = None) -> Array:
        """a where the condition is not 0, else b."""
        if out is None:
            return np.where(condition, a, b)
        np.copyto(out, b)
        np.copyto(out, a, where=condition if condition.dtype == bool else np.not_equal(condition, 0.0))
        return out


def _view(source: Array, base: int, shape: tuple[int, ...], strides: tuple[int, ...], batch: int | None = None) -> Array:
    """Return the members ``base + Σ index · stride`` of a contiguous array, without copying."""
    step = source.itemsize * (batch if batch is not None else 1)
    tail = (batch,) if batch is not None else ()
    last = (source.itemsize,) if batch is not None else ()
    return np.ndarray((*shape, *tail), source.dtype, source, base * step, (*[s * step for s in strides], *last))


def numpy_namespace(dtype: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Return what programs on NumPy arrays find under their names."""
    functions = {name: getattr(np, name) for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    used = {name: _elementwise(value.forward, value.arity) if isinstance(value, Op) else value for name, value in names.items()}
    typed = {
        name: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value
        for name, value in used.items()
    }
    others = {name: getattr(np, name) for name in ("copyto", "empty", "zeros", "ones", "take", "einsum", "ndarray", "matmul")}
    return {
        **functions,
        **others,
        "xp": np,
        "special": NumPySpecial,
        "view": _view,
        "inf": math.inf,
        "nan": math.nan,
        "dtype": np.dtype(dtype),
        "I": np.dtype(dtype).itemsize,
        **typed,
    }
