"""A step of learning on a mesh of devices and processes, through JAX: each device has its share of the batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgrid.compiler.kernel import Kernel
from microgrid.environment import require
from microgrid.ops import short_repr
from microgrid.steps import Accuracy, Bound, Bucket, CompiledStep, Loss


class Mesh:
    """All devices of a mesh in one row, and the placement of arrays on them.

    Raises:
        ModuleNotFoundError: without JAX, naming the extra that brings it.
        TypeError: if it is no mesh of JAX.
    """

    def __init__(self, mesh: Any) -> None:
        jax = require("jax", "mg.fit(mesh=…)", "jax")
        from jax.sharding import NamedSharding, PartitionSpec

        if not isinstance(mesh, jax.sharding.Mesh):
            raise TypeError(
                "mesh must be a mesh of JAX's devices, such as jax.sharding.Mesh(jax.devices(), ('batch',)); got "
                f"{short_repr(mesh)}"
            )
        devices = jax.sharding.Mesh(mesh.devices.reshape(-1), ("batch",))
        self.size: int = devices.size
        self._weights: dict[int, Any] = {}
        self.spread, self.everywhere = (NamedSharding(devices, PartitionSpec(*axes)) for axes in (["batch"], []))

    @property
    def is_mine_to_report(self) -> bool:
        """Whether this process is the first one."""
        import jax

        return bool(jax.process_index() == 0)

    def put(self, array: Any, where: Any) -> Any:
        """Put an array, of which every process has the whole, on the devices; return it."""
        import jax

        if where.is_fully_addressable:
            return jax.device_put(array, where)
        return jax.make_array_from_callback(array.shape, where, lambda index: array[index])

    def divided(self, batch: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Return the weight of each sample in their mean, and the batch, on the devices.

        All devices get equally many samples: the batch is filled up with its first one, at weight 0.
        """
        count = len(batch[0])
        lacking = -count % self.size
        whole = [np.concatenate([part, np.repeat(part[:1], lacking, axis=0)]) if lacking else part for part in batch]
        if count not in self._weights:
            self._weights[count] = self.put(np.repeat([1.0 / count, 0.0], [count, lacking]), self.spread)
        return self._weights[count], [self.put(part, self.spread) for part in whole]


class MeshStep(CompiledStep):
    """A step of a model and its loss, compiled, on a mesh; parameters, gradients and the optimiser's memory stay there.

    Raises:
        RuntimeError: if JAX is set to float32.
        TraceError: if the model or the loss cannot be compiled.
    """

    def __init__(
        self,
        mesh: Mesh,
        model: Any,
        loss: Loss,
        optimizer: Any,
        accuracy: Accuracy | None,
        buckets: Sequence[Bucket],
    ) -> None:
        self.mesh = mesh
        super().__init__(model, loss, optimizer, accuracy, buckets)

    def finite(self) -> bool:
        """Return whether every gradient is a finite number."""
        return bool(self._is_finite)

    def publish(self) -> None:
        """Bring the Values and the optimiser up to date: as they are after the last whole step."""
        theta, changed = self._state
        self._state = theta, {name: _at_home(value) for name, value in changed.items()}
        super().publish()

    def _descend(self, bound: Bound, *batch: Any) -> Any:
        weights, parts = self.mesh.divided([np.asarray(part, float) for part in batch])
        fixed = None if isinstance(bound.in_kernel, slice) else bound.theta
        numbers, self._gradient, self._is_finite = bound.run(self._theta, fixed, weights, *parts)
        self._published = False
        return np.asarray(numbers)[: len(batch[0])]

    def _runs(self, kernel: Kernel, theta: Any, gradient: Any, in_kernel: Any, here: Any) -> Callable[..., Any]:
        """The function for the devices: a row of numbers for each sample, the gradient, and whether it is finite."""
        import jax
        import jax.numpy as jnp

        loss = kernel.of((0,)).to_jax()  # nothing flows back from the outputs themselves, not even 0·∞
        outputs = kernel.to_jax() if self.accuracy else loss

        def step(moved: Any, fixed: Any, weights: Any, *batch: Any) -> Any:
            def mean(moved: Any) -> Any:
                mine = moved[here] if fixed is None else jnp.asarray(fixed).at[in_kernel].set(moved[here])
                return weights @ loss(mine, *batch)[:, 0], outputs(jax.lax.stop_gradient(mine), *batch)

            gradient, numbers = jax.grad(mean, has_aux=True)(moved)
            return numbers, gradient, jnp.isfinite(gradient).all()

        return jax.jit(step, out_shardings=self.mesh.everywhere)

    @property
    def _all_move(self) -> bool:
        return isinstance(self._moved, slice)

    def _array(self, numbers: Sequence[float]) -> Any:
        return self.mesh.put(np.array(numbers), self.mesh.everywhere)

    def _of_moved(self, numbers: Any) -> Any:
        return numbers if self._all_move else numbers[self._moved]

    def _with(self, theta: Any, moved: Any) -> Any:
        return moved if self._all_move else theta.at[self._moved].set(moved)


def _at_home(value: Any) -> Any:
    """The optimiser's memory as arrays of NumPy."""
    if isinstance(value, list):
        return [_at_home(x) for x in value]
    return np.asarray(value) if hasattr(value, "sharding") else value
