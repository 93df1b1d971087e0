"""Data sets: five toys, the handwritten digits, MNIST-format files, names to spell; and minibatches.

Every set but the names is a pair of NumPy arrays ``X, y`` with one sample in each row of ``X``.
"""

import gzip
import math
import os
import sys
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from microgrid.environment import require
from microgrid.ops import as_float, short_repr

np = require("numpy", "microgrid.data", "data")


class Split(NamedTuple):
    """A data set in two parts: one to learn from, one that the network never sees until it is measured."""

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any


def moons(n: int = 100, noise: float = 0.1, seed: int = 0) -> tuple[Any, Any]:
    """Return two interleaved half circles: ``X`` of shape (n, 2), ``y`` of 0 and 1.

    The upper moon (0) is (cos t, sin t), the lower (1) is (1 − cos t, ½ − sin t), with t evenly in [0, π];
    samples are in random order. For the hinge loss take ``2 * y - 1``.

    Args:
        n: the number of samples, half of each moon.
        noise: the standard deviation of the normal noise added to both coordinates.
        seed: of the noise and the order.

    Raises:
        ValueError: if ``n`` is not a positive whole number, or ``noise`` is negative or not finite.
    """
    at_least("n", n, 1)
    label = np.arange(n) * 2 // n
    t = np.concatenate([np.linspace(0.0, math.pi, int(count)) for count in np.bincount(label, minlength=2)])
    upper = np.column_stack([np.cos(t), np.sin(t)])
    lower = np.column_stack([1.0 - np.cos(t), 0.5 - np.sin(t)])
    return _noisy(np.where(label[:, None] == 0, upper, lower), label, noise, seed)


def spirals(n: int = 300, classes: int = 3, noise: float = 0.02, seed: int = 0) -> tuple[Any, Any]:
    """Return spiral arms around the origin: ``X`` of shape (n, 2), ``y`` of 0 to classes − 1.

    Arm c runs through (r cos t, r sin t) with r evenly in [0, 1] and t = 4 r + 2π c / classes; samples are
    in random order.

    Args:
        n: the number of samples, about n / classes in each arm.
        classes: the number of arms.
        noise: the standard deviation of the normal noise added to both coordinates.
        seed: of the noise and the order.

    Raises:
        ValueError: if ``n`` or ``classes`` is not a positive whole number, ``n < classes``, or ``noise`` is
            negative or not finite.
    """
    at_least("classes", classes, 1)
    at_least("n", n, classes)
    label = np.arange(n) * classes // n
    r = np.concatenate([np.linspace(0.0, 1.0, int(count)) for count in np.bincount(label)])
    t = 4.0 * r + 2.0 * math.pi * label / classes
    return _noisy(np.column_stack([r * np.cos(t), r * np.sin(t)]), label, noise, seed)


def circles(n: int = 100, noise: float = 0.1, seed: int = 0) -> tuple[Any, Any]:
    """Return two circles, one within the other: ``X`` of shape (n, 2), ``y`` of 0 and 1.

    The outer circle (0) is (cos t, sin t), the inner one (1) half as large, with t evenly in [0, 2π); samples are in
    random order. Arguments and errors are those of ``moons``.
    """
    at_least("n", n, 1)
    label = np.arange(n) * 2 // n
    counts = map(int, np.bincount(label, minlength=2))
    t = np.concatenate([np.linspace(0.0, 2.0 * math.pi, count, endpoint=False) for count in counts])
    radius = 1.0 - 0.5 * label
    return _noisy(np.column_stack([radius * np.cos(t), radius * np.sin(t)]), label, noise, seed)


def xor(n: int = 100, noise: float = 0.3, seed: int = 0) -> tuple[Any, Any]:
    """Return four clouds, around the corners (±1, ±1) of a square: ``X`` of shape (n, 2), ``y`` of 0 and 1.

    The class is 1 where the signs of the corner's coordinates differ: no line parts the classes. Samples are in random
    order. Arguments and errors are those of ``moons``.
    """
    at_least("n", n, 1)
    corner = np.arange(n) * 4 // n
    signs = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    return _noisy(signs[corner], np.array([0, 1, 1, 0])[corner], noise, seed)


def sine(n: int = 100, noise: float = 0.1, seed: int = 0) -> tuple[Any, Any]:
    """Return a curve of one variable: ``X`` of shape (n, 1), evenly in [−1, 1], and numbers ``y`` = sin πx plus noise.

    Samples are in random order. Arguments and errors are those of ``moons``; the noise is that of ``y`` alone.
    """
    at_least("n", n, 1)
    x = np.linspace(-1.0, 1.0, n)
    y, x = _noisy(np.sin(math.pi * x), x, noise, seed)
    return x[:, None], y


def _noisy(points: Any, label: Any, noise: float, seed: int) -> tuple[Any, Any]:
    if not 0.0 <= as_float(noise) < math.inf:
        raise ValueError(f"noise must be a finite standard deviation, 0 or more; got {noise!r}")
    generator = generator_of(seed)
    order = generator.permutation(len(points))
    return points[order] + generator.normal(0.0, noise, points.shape), label[order]


def digits(test: float = 0.2, seed: int = 0) -> Split:
    """Return scikit-learn's 1,797 images of handwritten digits, split into training and test.

    An image is 8 × 8 pixels in a row of 64 numbers, scaled from 0…16 to 0…1; its target is the digit.
    The split is stratified: each digit has the same share in both parts.

    Args:
        test: the share of images kept for the test, between 0 and 1.
        seed: of the split.

    Raises:
        ImportError: without scikit-learn, naming the extra that brings it.
        ValueError: if ``test`` is not between 0.01 and 0.99.
    """
    datasets = require("sklearn.datasets", "digits()", "data")
    selection = require("sklearn.model_selection", "digits()", "data")
    images, targets = datasets.load_digits(return_X_y=True)
    if not 0.01 <= as_float(test) <= 0.99:
        raise ValueError(f"test must be a share between 0.01 and 0.99, to leave images in both parts; got {test!r}")
    X_train, X_test, y_train, y_test = selection.train_test_split(
        images / 16.0, targets, test_size=float(test), stratify=targets, random_state=seed
    )
    return Split(X_train, y_train, X_test, y_test)


def module_names() -> list[str]:
    """Return the names of Python's standard modules that are spelled with a to z alone, sorted.

    Some 200 names of 2 to 15 letters, for models that learn to spell; each version of Python has its own.
    """
    return sorted(name for name in sys.stdlib_module_names if name.isalpha() and name.isascii() and name.islower())


_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


BELIEVED, PACKED = 2**26, 100
"""A compressed file is unpacked up to so many bytes, or up to so many times its own size."""


def load_idx(path: str | PathLike[str]) -> Any:
    """Return the array in a file of MNIST's format, IDX, compressed with gzip or not.

    IDX is: two zero bytes, one byte for the type, one for the number of dimensions, each dimension as
    32 bits, then the numbers, all big-endian (http://yann.lecun.com/exdb/mnist/). No more is read, nor
    unpacked, than the header asks for, and no more memory is taken than there are numbers.

    For a network: ``images = load_idx("train-images-idx3-ubyte.gz").reshape(-1, 784) / 255.0``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not an IDX file, is cut short, or asks to be unpacked to more than 64 MiB and 100
            times its size; it names the file, what was found and expected.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] != b"\x1f\x8b":
                return _read_idx(file, math.inf)
            size = os.fstat(file.fileno()).st_size
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read_idx(unpacked, max(BELIEVED, PACKED * size))
            except (EOFError, OSError, zlib.error) as error:
                raise ValueError(f"broken gzip file ({error}); download it again") from None
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: there is no such file; load_idx() reads files like train-images-idx3-ubyte.gz"
        ) from None
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder; expected an IDX file in it, like train-images-idx3-ubyte.gz") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_idx(file: BinaryIO | gzip.GzipFile, most: float) -> Any:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(
            "not an IDX file: expected it to begin with 00 00, a type and a number of dimensions, "
            f"found {magic.hex(' ') or 'an empty file'}"
        )
    _, _, type_code, dimensions = magic
    if type_code not in _IDX_TYPES:
        known = ", ".join(f"{code:02x}" for code in _IDX_TYPES)
        raise ValueError(f"unknown IDX type code {type_code:02x} in byte 3; expected one of {known}")
    sizes = file.read(4 * dimensions)
    if dimensions == 0 or len(sizes) < 4 * dimensions:
        raise ValueError(
            f"expected at least 1 dimension of 4 bytes each, found {dimensions} in byte 4 "
            f"and {len(sizes)} bytes after it"
        )
    if dimensions > 32:
        raise ValueError(f"expected at most 32 dimensions, found {dimensions} in byte 4")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    dtype = np.dtype(_IDX_TYPES[type_code])
    count, start = math.prod(shape), 4 + len(sizes)
    expected = start + count * dtype.itemsize
    if not count:
        raise ValueError(f"expected at least 1 number, found {' × '.join(map(str, shape))} in the header")
    if expected > most:
        raise ValueError(
            f"its header asks for {expected:,} bytes, and the file has not even a hundredth of them, compressed. "
            "If you trust it, unpack it with gunzip, and load what comes of it"
        )
    content = bytearray()
    while piece := file.read(min(expected - start - len(content), 2**20)):
        content += piece
    found = start + len(content)
    if found != expected or file.read(1):
        raise ValueError(
            f"expected {expected} bytes for {' × '.join(map(str, shape))} numbers of {dtype.itemsize} byte(s), "
            f"found {found if found != expected else 'more'}; the file is cut short or has more than its header says"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def minibatches(X: Any, y: Any, size: int, seed: Any = 0) -> Iterator[tuple[Any, Any]]:
    """Yield the samples once, in random order, as pairs of arrays ``(X_batch, y_batch)`` of ``size`` samples.

    The last batch holds what is left.

    Args:
        X: the samples, one in each row.
        y: the targets, one per sample.
        size: the number of samples in a batch.
        seed: a whole number, for the same batches each time; or a ``numpy.random.Generator``, which goes
            on, for other batches in each epoch.

    Raises:
        ValueError: if there are no samples, not one target per sample, or ``size`` is not a positive whole number.
    """
    X, y = np.asarray(X), np.asarray(y)
    at_least("the batch size", size, 1)
    same_length(X, y)
    order = generator_of(seed).permutation(len(X))
    return ((X[order[i : i + size]], y[order[i : i + size]]) for i in range(0, len(order), size))


def generator_of(seed: Any) -> Any:
    """Return a ``numpy.random.Generator``: the given one, or a new one from a seed.

    Raises:
        TypeError: if it is neither.
        ValueError: if it is negative.
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"seed must be a whole number, 0 or more, or a numpy.random.Generator; got {short_repr(seed)}"
        ) from None


def same_length(X: Any, y: Any) -> None:
    """Raise ``ValueError`` unless there is one target per sample, and a sample."""
    for name, array in (("X", X), ("y", y)):
        if array.ndim == 0:
            raise ValueError(f"{name} must have one row per sample; got {array.item()!r:.60}")
    if len(X) != len(y):
        raise ValueError(f"X and y must have one row per sample; got arrays of shape {X.shape} and {y.shape}")
    if not len(X):
        raise ValueError("X and y are empty: there is no sample to learn from")


def at_least(name: str, number: Any, least: int) -> None:
    """Raise ``ValueError`` unless ``number`` is a whole number and not below ``least``."""
    if isinstance(number, bool) or not hasattr(number, "__index__") or number < least:
        raise ValueError(f"{name} must be a whole number, {least} or more; got {number!r}")
