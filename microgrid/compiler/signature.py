"""What a kernel takes and gives, and the checks of what comes in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Reduce = Literal["mean", "sum"] | None
Shape = tuple[int, ...]


_TYPES = {name: np.dtype(name) for name in ("float64", "float32")}


@dataclass(slots=True)
class Signature:
    """What a kernel takes and gives.

    Attributes:
        names: the name of each argument, for messages.
        shapes: the shape of each argument for one sample.
        batched: whether the arguments have a leading axis over samples.
        reduce: how the samples' outputs become one.
        outputs: how many numbers the function returns; ``None`` if it returns one that is not in a list.
        dtype: the floating-point type of arrays.
        threads: over how many threads the samples of a batch may be divided.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    batched: bool
    reduce: Reduce
    outputs: int | None
    dtype: str
    threads: int = 1

    @property
    def per_sample(self) -> bool:
        """Whether each sample keeps its own outputs."""
        return self.batched and self.reduce is None

    @property
    def reduced(self) -> bool:
        """Whether the outputs of all samples become one."""
        return self.batched and self.reduce is not None

    def described(self) -> str:
        """Return in words what it takes and gives."""
        pairs = zip(self.names, self.shapes, strict=True)
        taken = ", ".join(f"{name} of shape {('batch', *shape) if self.batched else shape}" for name, shape in pairs)
        return (
            f"{taken or 'no argument'} and gives {'one result' if self.outputs is None else f'{self.outputs} results'}"
        )

    def name(self, k: int) -> str:
        """Return the name of argument ``k``, of one too many its number."""
        return self.names[k] if k < len(self.names) else f"number {k + 1}"

    def check_shape(self, k: int, given: Shape) -> None:
        """Raise ``ValueError`` unless argument ``k`` has its shape, with the axis over samples in front."""
        shape = self.shapes[k]
        if given[self.batched :] != shape or len(given) != len(shape) + self.batched:
            axes = ", ".join([*["batch"] * self.batched, *map(str, shape)])
            expected = f"({axes},)" if len(shape) + self.batched == 1 else f"({axes})"
            raise ValueError(f"argument {self.names[k]} must have the shape {expected}; got {given}")

    def arguments(self, batch: Sequence[Any]) -> tuple[list[Floats], int]:
        """Check a batch; return contiguous arrays, one row a sample, and the number of samples."""
        return self.rows(self.arrays(batch))

    def arrays(self, batch: Sequence[Any]) -> list[Floats]:
        """Return arguments as arrays of the kernel's type that have their shapes."""
        if len(batch) != len(self.shapes):
            raise TypeError(
                f"this kernel takes {len(self.shapes)} argument(s) ({', '.join(self.names)}); got {len(batch)}"
            )
        arrays = [real_array(given, name, self.dtype) for given, name in zip(batch, self.names, strict=True)]
        for k, array in enumerate(arrays):
            self.check_shape(k, array.shape)
        return arrays

    def rows(self, arrays: Sequence[Floats]) -> tuple[list[Floats], int]:
        """Return arrays that have their shapes as contiguous ones, one row a sample, and the number of samples."""
        if not self.batched:
            return [np.ascontiguousarray(array).reshape(-1) for array in arrays], 1
        size = len(arrays[0])
        for array, name in zip(arrays, self.names, strict=True):
            if len(array) != size:
                raise ValueError(
                    f"argument {name} has {len(array)} samples but {self.names[0]} has {size}; give as many"
                )
            if not size:
                raise ValueError(f"argument {name} has no samples; give at least one")
        return [np.ascontiguousarray(array).reshape(size, -1) for array in arrays], size

    def parameters(self, theta: ArrayLike, count: int) -> Floats:
        """Check the numbers of ``count`` parameters, and return them as a flat array."""
        array = real_array(theta, "theta", self.dtype)
        _check_length("theta", array, count)
        return array

    def check_bound(self, theta: Any, gradient: Any, count: int) -> None:
        """Raise ``TypeError`` or ``ValueError`` unless arrays can be read, and the second written, where they are."""
        for name, array in (("theta", theta), ("gradient", gradient)):
            if not (isinstance(array, np.ndarray) and array.dtype == self.dtype and array.flags.c_contiguous):
                raise TypeError(f"bind() needs {name} as a contiguous NumPy array of {self.dtype}")
            _check_length(name, array, count)
        if not gradient.flags.writeable:
            raise ValueError("bind() writes to gradient, which is read-only; give an array of your own, or a copy")
        if np.may_share_memory(theta, gradient):
            raise ValueError("theta and gradient share memory, and one is read while the other is written; give a copy")

    def seed(self, seed: Any, shape: Shape) -> Floats:
        """Check the weights of the outputs: in a shape, samples first, or the same for all samples."""
        array = real_array(seed, "seed", self.dtype)
        if array.shape not in (shape, shape[-1:]):
            raise ValueError(f"seed must have the shape {shape}, a weight per output; got {array.shape}")
        return array


def _check_length(name: str, array: Floats, count: int) -> None:
    """Raise ``ValueError`` unless an array has a number for each of ``count`` parameters."""
    if array.shape != (count,):
        raise ValueError(f"{name} must be a flat array of {count} numbers, one per parameter; got shape {array.shape}")


def real_array(given: Any, name: str, dtype: str) -> Floats:
    """Return real numbers as an array of a type.

    Raises:
        TypeError: for text, complex numbers, objects and ragged lists, naming the argument.
    """
    if type(given) is np.ndarray and given.dtype is _TYPES[dtype]:
        return given
    if type(given) is float:
        return np.array(given, _TYPES[dtype])
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise TypeError(f"argument {name} must be an array of numbers; its rows differ in length") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"argument {name} must be an array of real numbers; got {array.dtype} ({type(given).__name__})")
    return array.astype(dtype)
