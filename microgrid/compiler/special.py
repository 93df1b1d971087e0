"""Functions on arrays that NumPy lacks, with the conventions of the table.

Programs call them as ``special.sigmoid(x, out=y)``. ``numpy_namespace`` and ``jax_namespace`` hold what a
program of each dialect finds under its names.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def _polynomial(coefficients: NDArray[np.float64], t: Array) -> Array:
    """Σ cₖ tᵏ; as a product of matrices for powers below w, then by Horner's rule in tʷ, in half the time."""
    groups, width = coefficients.shape
    powers = np.empty((width, t.size), t.dtype)
    powers[0] = 1.0
    for k in range(1, width):
        np.multiply(powers[k - 1], t, out=powers[k])
    parts = coefficients.astype(t.dtype) @ powers
    step = powers[-1] * t
    result = parts[-1]
    for k in range(groups - 2, -1, -1):
        result *= step
        result += parts[k]
    return result


def _grouped(coefficients: Sequence[float], width: int) -> NDArray[np.float64]:
    padded = [*coefficients, *[0.0] * (-len(coefficients) % width)]
    return np.array(padded).reshape(-1, width)


# (1 + 2x)·exp(x²)·erfc(x) for x >= 0 as a polynomial in t = (x − 3.75) / (x + 3.75), after Shepherd and
# Laframboise, Mathematics of Computation 36 (1981); and erf(x) / x for |x| <= 1 as a polynomial in x².
# Chebyshev interpolation in 60 digits; both are exact to 3e-16.
_TAIL = _grouped(
    (
        1.2375126308378275,
        -0.14024059858554522,
        0.003585415485466307,
        0.08227673848999159,
        -0.10880393014193915,
        0.09230432116435619,
        -0.058693398584491824,
        0.028362277371369756,
        -0.009746579620815399,
        0.0017556261692294765,
        0.00029371408777419193,
        -0.00029015536564612357,
        5.1647371231658466e-05,
        2.238759274056903e-05,
        -1.1439615243921874e-05,
        -9.792975508939216e-07,
        1.743857718006322e-06,
        -5.0816892839617925e-08,
        -2.499653602394019e-07,
        1.877849198527279e-08,
        3.2564981104796906e-08,
        -1.9527882767302858e-09,
        -2.7293921314235865e-09,
    ),
    5,
)
_HEAD = _grouped(
    (
        1.1283791670955126,
        -0.3761263890318375,
        0.11283791670954879,
        -0.026866170645076792,
        0.0052239776248180145,
        -0.000854832698083379,
        0.0001205533111164271,
        -1.4925595266831182e-05,
        1.6461000484121368e-06,
        -1.6350312701054695e-07,
        1.4659775274047436e-08,
        -1.1372848856791674e-09,
        5.957176147748911e-11,
    ),
    4,
)
_BLOCK = 8192
"""So many numbers at a time stay in the processor's cache while a polynomial is computed."""


def _erfc_positive(a: Array) -> Array:
    """erfc(a) for 0 <= a < inf."""
    t = (a - 3.75) / (a + 3.75)
    return np.exp(-a * a) * _polynomial(_TAIL, t) / (1.0 + 2.0 * a)


def _erfc_block(x: Array) -> Array:
    y = _erfc_positive(np.minimum(np.abs(x), 30.0))  # where erfc is 0 in floats
    return np.where(np.less(x, 0.0), 2.0 - y, y)


def _erf_block(x: Array) -> Array:
    a = np.minimum(np.abs(x), 6.5)  # where erf is 1 in floats
    near = a * _polynomial(_HEAD, a * a)
    return np.copysign(np.where(np.less(a, 0.75), near, 1.0 - _erfc_positive(a)), x)


def _in_blocks(function: Any) -> Any:
    def blocked(x: Array, out: Array = None) -> Array:
        x = np.asarray(x)
        flat = np.ascontiguousarray(x).reshape(-1)
        result = np.empty_like(flat)
        for start in range(0, flat.size, _BLOCK):
            result[start : start + _BLOCK] = function(flat[start : start + _BLOCK])
        return _into(out, result.reshape(x.shape))

    return blocked


class NumPySpecial:
    """The namespace ``special`` of programs on NumPy arrays."""

    erf = staticmethod(_in_blocks(_erf_block))
    erfc = staticmethod(_in_blocks(_erfc_block))
    lgamma = staticmethod(_elementwise(ops.lgamma.forward, 1))
    digamma = staticmethod(_elementwise(ops.digamma.forward, 1))

    @staticmethod
    def polygamma(n: int, x: Array, out: Array = None) -> Array:
        """ψ⁽ⁿ⁾(x)."""
        return _elementwise(ops.polygamma_of(n).forward, 1)(x, out=out)

    @staticmethod
    def gelu(x: Array, out: Array = None) -> Array:
        """x·Φ(x) with Φ(x) = erfc(−x·√½) / 2; −0 at −inf."""
        result = x * (0.5 * NumPySpecial.erfc(x * -math.sqrt(0.5)))
        return _into(out, np.where(np.equal(x, -np.inf), -0.0, result))

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
        """A where the condition is not 0, else b."""
        if out is None:
            return np.where(condition, a, b)
        np.copyto(out, b)
        np.copyto(out, a, where=condition if condition.dtype == bool else np.not_equal(condition, 0.0))
        return out


def _view(
    source: Array, base: int, shape: tuple[int, ...], strides: tuple[int, ...], batch: int | None = None
) -> Array:
    """Return the members ``base + Σ index · stride`` of a contiguous array, without copying."""
    step = source.itemsize * (batch if batch is not None else 1)
    tail = (batch,) if batch is not None else ()
    last = (source.itemsize,) if batch is not None else ()
    return np.ndarray((*shape, *tail), source.dtype, source, base * step, (*[s * step for s in strides], *last))


def numpy_namespace(dtype: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Return what programs on NumPy arrays find under their names."""
    functions = {name: getattr(np, name) for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    used = {
        name: _elementwise(value.forward, value.arity) if isinstance(value, Op) else value
        for name, value in names.items()
    }
    typed = {
        name: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value
        for name, value in used.items()
    }
    others = {
        name: getattr(np, name) for name in ("copyto", "empty", "zeros", "ones", "take", "einsum", "ndarray", "matmul")
    }
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


# ---------------------------------------------------------------------------------------------------
# JAX


def jax_namespace(names: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return what pure programs on JAX arrays find under their names."""
    import jax
    import jax.numpy as jnp
    from jax.scipy import special as jsp

    def mapped(op: Op) -> Any:
        def function(*xs: Array) -> Array:
            same = jnp.broadcast_arrays(*xs)
            shape: Any = jax.eval_shape(lambda: jnp.empty(same[0].shape, dtype))
            call = _elementwise(op.forward, op.arity)

            def on_host(*ys: Array) -> Array:
                with np.errstate(all="ignore"):
                    return np.asarray(call(*map(np.asarray, ys)), dtype)

            return jax.pure_callback(on_host, shape, *same, vmap_method="broadcast_all")

        return function

    def logistic(x: Array) -> Array:
        e = jnp.exp(-jnp.abs(x))
        return jnp.where(x < 0, e, 1.0) / (1.0 + e)

    class JaxSpecial:
        """The namespace ``special`` of programs on JAX arrays."""

        erf = staticmethod(jsp.erf)
        erfc = staticmethod(jsp.erfc)
        lgamma = staticmethod(mapped(ops.lgamma))
        digamma = staticmethod(mapped(ops.digamma))
        gelu = staticmethod(mapped(ops.gelu))
        sigmoid = staticmethod(logistic)

        @staticmethod
        def polygamma(n: int, x: Array) -> Array:
            """ψ⁽ⁿ⁾(x)."""
            return mapped(ops.polygamma_of(n))(x)

        @staticmethod
        def silu(x: Array) -> Array:
            """x·σ(x); −0 at −inf."""
            return jnp.where(x == -jnp.inf, -0.0, x * logistic(x))

        @staticmethod
        def softplus(x: Array) -> Array:
            """log(1 + eˣ)."""
            return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))

        @staticmethod
        def power(x: Array, n: Array) -> Array:
            """xⁿ."""
            return jnp.power(x, n)

    def view(source: Array, base: Any, shape: Any, strides: Any, batch: Any = None) -> Array:
        flat = source.reshape(-1, *([] if batch is None else [batch]))
        if strides is None:
            return flat[base]
        sliced = _sliced(flat, base, shape, strides)
        return flat[_points(base, shape, strides)] if sliced is None else sliced

    def scatter(shape: Any, pieces: Any, batch: Any = None) -> Array:
        """The transpose of ``view``: XLA gets pads and sums, not a scatter of single numbers."""
        tail = () if batch is None else (batch,)
        like: Any = jax.eval_shape(lambda: jnp.empty((*shape, *tail), dtype))
        total = jnp.zeros(like.shape, dtype)
        for *where, value in pieces:
            read = jax.linear_transpose(partial(_read, view, where, batch), like)
            value = jnp.asarray(value, dtype)
            if batch is not None and value.ndim < len(where[1]) + 1:
                value = value[..., None]
            total = total + read(jnp.broadcast_to(value, (*where[1], *tail)))[0]
        return total

    def segment_sum(x: Array, starts: Any) -> Array:
        segments = np.repeat(np.arange(len(starts)), np.diff([*starts, x.shape[0]]))
        return jax.ops.segment_sum(x, segments, num_segments=len(starts))

    used = {name: mapped(value) if isinstance(value, Op) else value for name, value in names.items()}
    return {
        "xp": jnp,
        "special": JaxSpecial,
        "view": view,
        "scatter": scatter,
        "segment_sum": segment_sum,
        "inf": math.inf,
        "nan": math.nan,
        **used,
    }


def _read(view: Any, where: Any, batch: Any, x: Array) -> Array:
    return view(x, *where, batch)


def _points(base: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    points = np.full(shape, base)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        points = points + (stride * np.arange(size)).reshape((-1,) + (1,) * (len(shape) - axis - 1))
    return points


def _sliced(flat: Array, base: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array | None:
    """Return a strided view of axis 0 by slices and reshapes; ``None`` if it takes a table of indices.

    JAX has no strides: an axis of stride s becomes a reshape to rows of s, of which a part is read.
    """
    import jax.numpy as jnp

    rank = len(shape)
    axes = [k for k in range(rank) if strides[k]]
    start = base + sum(strides[k] * (shape[k] - 1) for k in axes if strides[k] < 0)
    order = sorted(axes, key=lambda k: -abs(strides[k]))
    found = _rows(flat, start, [(shape[k], abs(strides[k])) for k in order])
    if found is None:
        return None
    found = jnp.flip(found, [place for place, k in enumerate(order) if strides[k] < 0])
    tail = list(range(len(order), found.ndim))
    found = jnp.transpose(found, [order.index(k) for k in axes] + tail)
    found = jnp.expand_dims(found, [k for k in range(rank) if not strides[k]])
    return jnp.broadcast_to(found, (*shape, *found.shape[rank:]))


def _rows(flat: Array, start: int, axes: list[tuple[int, int]]) -> Array | None:
    if not axes:
        return flat[start]
    (size, stride), inner = axes[0], axes[1:]
    if not inner:
        return flat[start : start + (size - 1) * stride + 1 : stride]
    span = 1 + sum((n - 1) * s for n, s in inner)
    first = min(start, flat.shape[0] - size * stride)
    if first < 0 or start - first + span > stride:
        return None
    rows = flat[first : first + size * stride].reshape(size, stride, *flat.shape[1:])
    found = _rows(rows.swapaxes(0, 1), start - first, inner)
    return None if found is None else _moved(found, len(inner))


def _moved(array: Array, axis: int) -> Array:
    """Return the array with an axis brought to the front."""
    order = [axis, *[k for k in range(array.ndim) if k != axis]]
    return array.transpose(order)
