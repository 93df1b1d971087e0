"""Pure functions of JAX arrays: the same statements as for NumPy, without side effects."""

import builtins
import math
from collections.abc import Callable, Container, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from microgrid import ops
from microgrid.compiler import special
from microgrid.compiler.ir import (
    NUMBER,
    Accumulate,
    Argument,
    ArrayProgram,
    Contract,
    Elementwise,
    Form,
    Gather,
    Map,
    Node,
    Operand,
    Reduce,
    Scan,
    Scatter,
    ScatterAdd,
    Seed,
    SegmentReduce,
    Slot,
    View,
)
from microgrid.compiler.passes.expand import expanded
from microgrid.compiler.passes.memory import is_computed
from microgrid.compiler.passes.rules import FOR_JAX
from microgrid.compiler.signature import Signature
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.python import Names, call, defined, infix, number
from microgrid.compiler.task import VALUE, VJP
from microgrid.environment import require
from microgrid.ops import Op

Array = Any
_NAMES = {"sum": "sum", "largest": "max", "smallest": "min"}


def pure_function(stages: Stages) -> Callable[..., Any]:
    """Return a function ``f(theta, *batch)`` of JAX arrays; see ``Kernel.to_jax``."""
    require("jax", "Kernel.to_jax()", "jax")
    import jax
    import jax.numpy as jnp
    from jax.custom_derivatives import SymbolicZero

    signature = stages.signature
    if signature.dtype == "float64" and not jnp.zeros(0).dtype == np.float64:
        raise RuntimeError(
            "this kernel computes in float64 but JAX is set to float32: call "
            "jax.config.update('jax_enable_x64', True) before, or compile with dtype='float32'"
        )
    value, pullback = _on_jax(stages.shown(VALUE), signature), _on_jax(stages.array_program(VJP), signature)

    @jax.custom_jvp
    def core(theta: Any, *batch: Any) -> Any:
        values = value(None, theta, batch)
        return jnp.stack(values) if stages.scalar and signature.outputs is not None else values[0].T

    def push(primals: Any, tangents: Any) -> Any:
        """The outputs and their tangents: the transpose of the reverse sweep, which is linear in its seed.

        What does not move has no part in it: its tangent of 0, times an infinite derivative, would be nan.
        """
        theta, *batch = primals
        outputs = core(*primals)
        moving = [k for k, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]

        def sweep(cotangent: Any) -> Any:
            seed = jnp.expand_dims(cotangent, 0) if signature.outputs is None else cotangent.T
            by_theta, *by_arguments = pullback(seed, theta, batch)
            found = [by_theta, *[g.T.reshape(x.shape) for g, x in zip(by_arguments, batch, strict=True)]]
            return [found[k] for k in moving]

        (pushed,) = jax.linear_transpose(sweep, outputs)([tangents[k] for k in moving])
        return outputs, pushed

    core.defjvp(push, symbolic_zeros=True)

    def function(theta: Any, *batch: Any) -> Any:
        """The compiled function of parameters and a batch, on JAX arrays."""
        if len(batch) != len(signature.shapes):
            raise TypeError(f"this function takes theta and {len(signature.shapes)} argument(s); got {len(batch)}")
        arrays = [jnp.asarray(x, signature.dtype) for x in batch]
        for k, array in enumerate(arrays):
            signature.check_shape(k, array.shape)
        return core(jnp.asarray(theta, signature.dtype), *arrays)

    return function


def _on_jax(program: ArrayProgram, signature: Signature) -> Callable[..., list[Any]]:
    """Return a function ``f(seed, theta, batch)`` that gives the outputs of a program in their forms."""
    import jax.numpy as jnp

    text, objects = _text(program)
    run = defined(builtins.compile(text, "<kernel>", "exec"), _namespace(objects, signature.dtype))

    def shaped(x: Any, form: Form, size: int) -> Any:
        shape, batched = form
        x = jnp.asarray(x, signature.dtype)
        x = x[..., None] if batched and x.ndim == len(shape) else x
        return jnp.broadcast_to(x, (*shape, size) if batched else shape)

    def outputs(seed: Any, theta: Any, batch: Sequence[Any]) -> list[Any]:
        size = batch[0].shape[0] if signature.batched else 1
        columns = [x.reshape(size, -1).T if signature.batched else x.reshape(-1) for x in batch]
        count = jnp.asarray(size, signature.dtype)
        results = run(theta, 1 / count, count, seed, size, *columns)
        return [shaped(x, form, size) for x, form in zip(results, program.forms, strict=True)]

    return outputs


# ---------------------------------------------------------------------------------------------------
# Text


def _text(program: ArrayProgram) -> tuple[str, dict[str, Any]]:
    """Return a program ``run(theta, weight, count, seed, B, *arguments)``, and the objects that it names."""
    writer = _Writer(expanded(program, _knows, FOR_JAX))
    return writer.text(), writer.names.objects


def _knows(op: Op) -> bool:
    return bool(op in (NUMBER, ops.stop_gradient) or op.array or op.operator or _name(op.ufunc))


class _Writer:
    """The text of a program.

    Args:
        program: what it computes.
        linear: the slots of a step that are linear in the seed.
    """

    def __init__(self, program: ArrayProgram, linear: Container[int] = ()) -> None:
        self.program = program
        self.names = Names(program.nodes)
        self.lines: list[str] = []
        self.views: dict[tuple[int, Map], str] = {}
        self.linear: set[int] = set()
        for x in program.nodes:
            given = isinstance(x, Seed) or (isinstance(x, Slot) and x.position in linear)
            if given or any(operand.number in self.linear for operand in x.arrays()):
                self.linear.add(x.number)
            if isinstance(x, Scan):
                self._scan(x)
            elif is_computed(x):
                self.lines.append(f"{self.names.of[x.number]} = {self._expression(x)}")

    def text(self) -> str:
        results = ", ".join(self._operand(x, False) for x in self.program.outputs)
        found = sorted(f"x{x.position}" for x in self.program.nodes if isinstance(x, Argument))
        head = ["def run(theta, weight, count, seed, B, *X):", *[f"    {x} = X[{x[1:]}]" for x in found]]
        return "\n".join([*head, *["    " + line for line in self.lines], f"    return ({results},)"]) + "\n"

    def _operand(self, x: Operand, batched: bool) -> str:
        if not isinstance(x, Node):
            return number(x)
        name = self._view(x) if isinstance(x, View) else self.names.of[x.number]
        return f"{name}[..., None]" if batched and not x.batched and x.shape else name

    def _view(self, x: View) -> str:
        key = (x.source.number, x.map)
        if key not in self.views:
            base = self.names.of[x.source.number]
            self.views[key] = f"{base}_{sum(k[0] == x.source.number for k in self.views) + 1}"
            batch = ", B" if x.batched else ""
            self.lines.append(f"{self.views[key]} = view({base}, {self._where(x.map)}{batch})")
        return self.views[key]

    def _where(self, index: Map) -> str:
        if index.regular:
            return f"{index.base}, {index.shape}, {index.strides}"
        return f"{self.names.keep('table', index.table)}, {index.shape}, None"

    def _expression(self, x: Node) -> str:
        match x:
            case Elementwise():
                return self._elementwise(x.op, [self._operand(operand, x.batched) for operand in x.inputs])
            case Contract():
                left, right, result = x.subscripts
                a, b = self._operand(x.left, False), self._operand(x.right, False)
                return f"xp.einsum('{left},{right}->{result}', {a}, {b})"
            case Scatter():
                pieces = ", ".join(
                    f"({self._where(piece.map)}, {self._operand(value, x.batched)})"
                    for piece, value in zip(x.pieces, x.values, strict=True)
                )
                return f"scatter({x.shape}, [{pieces}]{', B' if x.batched else ''})"
            case SegmentReduce():
                segments = self.names.keep("segments", x.segments())
                return f"segment_{_NAMES[x.kind]}({self._operand(x.source, False)}, {segments}, {x.size})"
            case Gather():
                return f"gather({self._operand(x.source, False)}, {self._choice(x, x.source)})"
            case ScatterAdd():
                values = self._operand(x.source, x.index.batched or x.batched)
                sizes = ", ".join([*map(str, x.shape), *["B"] * x.batched])
                return f"scatter_add({values}, {self._choice(x, x)}).reshape({sizes})"
            case Accumulate():
                letters = [f"x{k}" for k in range(x.op.arity)]
                step = f"lambda {', '.join(letters)}: {self._elementwise(x.op, letters)}"
                operands = ", ".join(self._operand(operand, x.batched) for operand in x.operands)
                state = f"{(*x.shape[1:], *['B'] * x.batched)}".replace("'", "")
                return f"accumulate({step}, {x.place}, {x.backward}, {x.shape[0] - 1}, {state}, {operands})"
            case Reduce():
                axes = (*x.axes, len(x.source.shape)) if x.batch else x.axes
                return f"xp.{_NAMES[x.kind]}({self._operand(x.source, False)}, axis={axes})"
        raise TypeError(f"no text for {x.name}")

    def _scan(self, x: Scan) -> None:
        """A scan: its body is a function. Inputs that are linear in the seed come first, or JAX cannot transpose it."""
        out, linear = self.names.of[x.number], {*[0] * (x.number in self.linear)}
        linear |= {k for k, operand in enumerate(x.arrays()) if operand.number in self.linear}
        inner = _Writer(x.body, linear)
        result = inner._operand(x.body.outputs[0], x.batched)
        order = sorted(range(len(x.inputs)), key=lambda k: x.inputs[k].number not in self.linear)
        constants = range(len(x.inputs), len(x.inputs) + len(x.constants))
        kept = [f"{name}={self.names.keep(name.rstrip('0123456789'), y)}" for name, y in inner.names.objects.items()]
        slots = ", ".join(["s0", *[f"s{k + 1}" for k in [*order, *constants]], *kept])
        operands = [self._operand(x.start, x.batched), *[self._operand(x.inputs[k], False) for k in order]]
        operands += [self._operand(y, False) for y in x.constants]
        state = f"{(*x.shape[1:], *['B'] * x.batched)}".replace("'", "")
        idle = x.idle
        if idle is not None and idle[0]:
            idle = 1 + order.index(idle[0] - 1), idle[1]
        self.lines += [
            f"def step_{out}({slots}):",
            *["    " + line for line in inner.lines],
            f"    return {result}",
            f"{out} = scan(step_{out}, {x.backward}, {x.steps}, {state}, {idle}, {len(order)}, {', '.join(operands)})",
        ]

    def _choice(self, x: Gather | ScatterAdd, array: Node) -> str:
        """The numbers that choose, at each point the members to choose among, and the sizes of the array."""
        index = self._operand(x.index, x.index.batched or array.batched)
        return f"{index}, {self.names.keep('table', x.map.points())}, {array.size}{', B' * array.batched}"

    def _elementwise(self, op: Op, texts: Sequence[str]) -> str:
        if op is ops.stop_gradient:
            return f"stop_gradient({texts[0]})"
        if op is NUMBER:
            return f"{texts[0]} * 1.0"
        if op.array:
            return ops.spell(op, "array", *texts)
        if op.operator:
            return infix(op, texts)
        name = _name(op.ufunc)
        return call(name, op, texts) if name else f"{self.names.function(op)}({', '.join(texts)})"


# ---------------------------------------------------------------------------------------------------
# What programs find under their names


@cache
def _jax_special() -> Any:
    import jax.numpy as jnp
    from jax.scipy import special as jsp

    class JaxSpecial:
        """The namespace ``special`` of programs on JAX arrays."""

        erf = staticmethod(jsp.erf)
        erfc = staticmethod(jsp.erfc)
        lgamma = staticmethod(lambda x: special.lgamma_beside_zeros(jnp, x, jsp.gammaln(x)))
        where = staticmethod(jnp.where)
        c_power = staticmethod(jnp.power)
        ieee_remainder = staticmethod(partial(special.remainder_of, jnp))
        power_log = staticmethod(partial(special.power_log_of, jnp))

        @staticmethod
        def copysign_or_nan(a: Array, b: Array) -> Array:
            """|a| with the sign of b; nan where b is nan."""
            return jnp.where(jnp.isnan(b), jnp.nan, jnp.copysign(a, b))

        @staticmethod
        def digamma(x: Array) -> Array:
            """ψ(x); JAX's is nan at 0, and there it is ∓∞."""
            return jnp.where(x == 0.0, -1.0 / x, jsp.digamma(x))

        @staticmethod
        def sigmoid(x: Array) -> Array:
            """1 / (1 + e⁻ˣ) without overflow on either side."""
            e = jnp.exp(-jnp.abs(x))
            return jnp.where(x < 0, e, 1.0) / (1.0 + e)

        @staticmethod
        def sigmoid_slope(x: Array) -> Array:
            """σ(x)·σ(−x)."""
            e = jnp.exp(x)
            return 1.0 / (e + 1.0 / e + 2.0)

        @staticmethod
        def sech2(x: Array) -> Array:
            """1 / cosh² x."""
            e = jnp.exp(x)
            e = 2.0 / (e + 1.0 / e)
            return e * e

        @staticmethod
        def log_weight(x: Array) -> Array:
            """The logarithm, whose derivative at 0 is 0 when JAX differentiates, too."""
            return jnp.where(x == 0.0, -jnp.inf, jnp.log(jnp.where(x == 0.0, 1.0, x)))

        @staticmethod
        def direction(a: Array, b: Array) -> Array:
            """The cosine a / √(a² + b²); ±1 where only a is infinite."""
            return jnp.where(jnp.isinf(a) & jnp.isfinite(b), jnp.sign(a), a / jnp.hypot(a, b))

    return JaxSpecial


def _name(ufunc: str) -> str:
    """Return by which name programs on JAX arrays call a function; empty if there is none."""
    import jax.numpy as jnp

    if ufunc in vars(_jax_special()):
        return f"special.{ufunc}"
    return f"xp.{ufunc}" if special.is_ufunc(ufunc) and hasattr(jnp, ufunc) else ""


def _namespace(names: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return what pure programs on JAX arrays find under their names."""
    import jax
    import jax.numpy as jnp

    def mapped(op: Op) -> Any:
        def function(*xs: Array) -> Array:
            same = jnp.broadcast_arrays(*xs)
            shape: Any = jax.eval_shape(lambda: jnp.empty(same[0].shape, dtype))
            call = special.mapped(op.forward, op.arity)

            def on_host(*ys: Array) -> Array:
                with np.errstate(all="ignore"):
                    return np.asarray(call(*map(np.asarray, ys)), dtype)

            return jax.pure_callback(on_host, shape, *same, vmap_method="broadcast_all")

        return function

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

    def chosen(index: Array, table: Any, *batch: Any) -> tuple[Any, Array]:
        """Where the numbers that numbers choose stand in an array, and which choose one."""
        n = table.shape[-1]
        some = (index == jnp.floor(index)) & (index >= -n) & (index < n)
        place = jnp.where(some, index, 0).astype(int) % n
        if table.ndim > place.ndim:
            members = jnp.take_along_axis(table, place[..., None], -1)[..., 0]
        else:
            members = jnp.take_along_axis(table, place, -1)
        return (members, *map(jnp.arange, batch)), some

    def gather(source: Array, index: Array, table: Any, size: int, *batch: Any) -> Array:
        places, some = chosen(index, table, *batch)
        return jnp.where(some, source.reshape(size, *batch)[places], jnp.nan)

    def scatter_add(values: Array, index: Array, table: Any, size: int, *batch: Any) -> Array:
        places, some = chosen(index, table, *batch)
        return jnp.zeros((size, *batch), dtype).at[places].add(jnp.where(some, values, 0.0))

    def accumulate(
        step: Any, place: int, backward: bool, count: int, shape: Any, start: Array, *inputs: Array
    ) -> Array:
        def following(state: Array, xs: Any) -> Any:
            new = jnp.asarray(step(*xs[:place], state, *xs[place:]), dtype)
            return new, new

        first = jnp.broadcast_to(jnp.asarray(start, dtype), shape)
        steps = [jnp.broadcast_to(jnp.asarray(x, dtype), (count, *shape)) for x in inputs]
        _, states = jax.lax.scan(following, first, tuple(steps), reverse=backward)
        return jnp.concatenate([states, first[None]] if backward else [first[None], states])

    def scan(
        step: Any,
        backward: bool,
        count: int,
        shape: Any,
        idle: tuple[int, int] | None,
        inputs: int,
        start: Array,
        *operands: Array,
    ) -> Array:
        def made(state: Array, xs: Any) -> Array:
            return jnp.broadcast_to(jnp.asarray(step(state, *xs, *operands[inputs:]), dtype), shape)

        def following(state: Array, xs: Any) -> Any:
            if idle is None:
                new = made(state, xs)
            else:
                ended = jnp.all((state, *xs)[idle[0]][idle[1]] != 0.0)
                new = jax.lax.cond(ended, lambda state, xs: state, made, state, xs)
            return new, new

        first = jnp.broadcast_to(jnp.asarray(start, dtype), shape)
        _, states = jax.lax.scan(following, first, operands[:inputs], count, reverse=backward)
        return jnp.concatenate([states, first[None]] if backward else [first[None], states])

    used = {name: mapped(value) if isinstance(value, Op) else value for name, value in names.items()}
    return {
        "xp": jnp,
        "special": _jax_special(),
        "view": view,
        "scatter": scatter,
        **{f"segment_{name}": getattr(jax.ops, f"segment_{name}") for name in _NAMES.values()},
        "gather": gather,
        "scatter_add": scatter_add,
        "accumulate": accumulate,
        "scan": scan,
        "stop_gradient": jax.lax.stop_gradient,
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
