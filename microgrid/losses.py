"""Losses for one sample: how far the outputs of a network are from their targets, as one Value.

Outputs are Values or numbers, in a list, or bare if there is one. Targets are numbers or Values. Values become
part of the graph, as in a compiled loss, which takes targets as arguments, so their numbers cannot be checked.
For a minibatch take the mean of its samples:

>>> from microgrid.ops import mean
>>> mean(sum_of_squares(output, target) for output, target in [([0.5, 1.0], [0.0, 1.0]), (2.0, 1.0)])
0.3125
"""

import math
import operator
from collections.abc import Iterable
from typing import Any, overload

from microgrid import ops
from microgrid.nn import as_list
from microgrid.ops import T, as_float


@overload
def cross_entropy(logits: float | Iterable[float], target: float | Iterable[float]) -> float: ...
@overload
def cross_entropy(logits: T | Iterable[T], target: Any) -> T: ...
@overload
def cross_entropy(logits: Any, target: Any) -> Any: ...
def cross_entropy(logits: Any, target: Any) -> Any:
    """Return −Σ tᵢ log yᵢ with y = softmax(logits): the book's Softmax-with-Loss (chapter 5.6.3), in nats.

    The gradient at the logits is y − t. The loss is computed as Σ tᵢ (logsumexp(logits) − logitᵢ), so
    large logits do not overflow and small probabilities do not become log(0); the book adds 1e-7 instead.
    It equals PyTorch's ``cross_entropy`` of one sample. For a class given by a plain number it is
    softplus(logsumexp(other logits) − logit), which keeps all digits if that class is nearly certain.

    Args:
        logits: the scores of the n classes, before softmax.
        target: the index of the right class, from 0 to n − 1; or n probabilities that sum to 1 (one-hot
            or soft labels); a class of probability 0 adds nothing, even if its logit is −inf. An index may be a
            Value too; the loss is nan if it is not a whole number from 0 to n − 1.

    Raises:
        ValueError: if there are no logits, if an index is out of range, if the target has another length,
            or if probabilities are below 0 or do not sum to 1 (within 1e-6).
        TypeError: if something is not a real number.
    """
    logits = _numbers("cross_entropy", "logits", logits)
    n = len(logits)
    if hasattr(type(target), "__iter__"):
        target = _numbers("cross_entropy", "targets", target, n)
        _check_probabilities(target)
        if not any(map(_is_variable, target)) and 1.0 in target and target.count(0.0) == n - 1:
            return cross_entropy(logits, target.index(1.0))
        normalizer = ops.logsumexp(logits)
        return _weighted([(t, normalizer - x) for t, x in zip(target, logits, strict=True)])
    if _is_variable(target):
        return ops.logsumexp(logits) - ops.take(logits, ops.where(ops.less(target, 0.0), math.nan, target))
    index = _index(target, n)
    return _surprise(logits[index], logits[:index] + logits[index + 1 :])


@overload
def binary_cross_entropy(logits: float | Iterable[float], targets: float | Iterable[float]) -> float: ...
@overload
def binary_cross_entropy(logits: T | Iterable[T], targets: Any) -> T: ...
@overload
def binary_cross_entropy(logits: Any, targets: Any) -> Any: ...
def binary_cross_entropy(logits: Any, targets: Any) -> Any:
    """Return −t log y − (1 − t) log(1 − y) with y = sigmoid(logit), in nats; of several outputs their mean.

    The gradient at a logit is y − t, divided by the number of outputs. It takes logits, not probabilities,
    so that log y is exact even if y would round to 0 or 1. It equals PyTorch's
    ``binary_cross_entropy_with_logits``; the loss of a probability p is that of log(p / (1 − p)).

    Args:
        logits: one score, or a list, before sigmoid.
        targets: the probability of each, from 0 to 1; usually 0 or 1. At 0 and 1 the certain side adds 0, even for
            an infinite logit.

    Raises:
        ValueError: if there are no logits, if the lengths differ, or if a target is not between 0 and 1.
        TypeError: if something is not a real number.
    """
    losses = []
    for x, t in _pairs("binary_cross_entropy", "logits", logits, targets):
        if not _is_variable(t) and not 0.0 <= t <= 1.0:
            raise ValueError(f"binary_cross_entropy: a target is a probability, from 0 to 1; got {t!r}")
        losses.append(_weighted([(t, ops.softplus(-x)), (1.0 - t, ops.softplus(x))]))
    return ops.mean(losses)


@overload
def mean_squared_error(outputs: float | Iterable[float], targets: float | Iterable[float]) -> float: ...
@overload
def mean_squared_error(outputs: T | Iterable[T], targets: Any) -> T: ...
@overload
def mean_squared_error(outputs: Any, targets: Any) -> Any: ...
def mean_squared_error(outputs: Any, targets: Any) -> Any:
    """Return Σ (yᵢ − tᵢ)² / n over the n outputs of a sample, as PyTorch's ``mse_loss``.

    The gradient at yᵢ is 2 (yᵢ − tᵢ) / n.

    Raises:
        ValueError: if there are no outputs, or if the lengths differ.
        TypeError: if something is not a real number.
    """
    return ops.mean(_squares(_pairs("mean_squared_error", "outputs", outputs, targets)))


@overload
def sum_of_squares(outputs: float | Iterable[float], targets: float | Iterable[float]) -> float: ...
@overload
def sum_of_squares(outputs: T | Iterable[T], targets: Any) -> T: ...
@overload
def sum_of_squares(outputs: Any, targets: Any) -> Any: ...
def sum_of_squares(outputs: Any, targets: Any) -> Any:
    """Return ½ Σ (yᵢ − tᵢ)², the book's sum of squares (chapter 4.2.1).

    After an identity output layer its gradient at yᵢ is yᵢ − tᵢ (chapter 5.6.3).

    Raises:
        ValueError: if there are no outputs, or if the lengths differ.
        TypeError: if something is not a real number.
    """
    return 0.5 * ops.total(_squares(_pairs("sum_of_squares", "outputs", outputs, targets)))


@overload
def hinge(scores: float | Iterable[float], targets: float | Iterable[float]) -> float: ...
@overload
def hinge(scores: T | Iterable[T], targets: Any) -> T: ...
@overload
def hinge(scores: Any, targets: Any) -> Any: ...
def hinge(scores: Any, targets: Any) -> Any:
    """Return max(0, 1 − t·s) for a score s and a target t of −1 or 1; of several scores their mean.

    It is 0 where the score is on the target's side with a margin of 1; at the margin its gradient is 0.

    Raises:
        ValueError: if there are no scores, if the lengths differ, or if a target is neither −1 nor 1.
        TypeError: if something is not a real number.
    """
    losses = []
    for s, t in _pairs("hinge", "scores", scores, targets):
        if not _is_variable(t) and abs(t) != 1.0:
            raise ValueError(f"hinge: a target is -1 or 1; got {t!r}. Of labels 0 and 1 make 2 * label - 1")
        losses.append(ops.relu(1.0 - t * s))
    return ops.mean(losses)


def _surprise(logit: Any, others: list[Any]) -> Any:
    """Return −log of the share of a logit in a softmax with others, which may all be −inf; 0 without others."""
    if len(others) == 1:
        return ops.softplus(others[0] - logit)
    shift = ops.stop_gradient(ops.finite(ops.maximum(*others or [-math.inf])))
    weight = ops.total(ops.exp(x - shift) for x in others)
    return ops.softplus(ops.log_weight(weight) + shift - logit)


def _weighted(terms: list[tuple[Any, Any]]) -> Any:
    """Return Σ w·x over pairs (w, x) with x ≥ 0. A weight of 0 adds nothing, even if x is inf or nan."""
    products = []
    for w, x in terms:
        if _is_variable(w):  # a where() around the product would send back 0 · inf: x must be finite before the product
            products.append(w * ops.where(ops.equal(w, 0.0) * (1.0 - ops.less(x, math.inf)), 0.0, x))
        elif w:
            products.append(x if w == 1.0 else w * x)
    return ops.total(products)


def _squares(pairs: list[tuple[Any, Any]]) -> list[Any]:
    differences = [y - t for y, t in pairs]
    return list(map(operator.mul, differences, differences))


def _is_variable(x: Any) -> bool:
    """Whether x flows through the table: then no branch here may depend on its number."""
    return hasattr(type(x), "__apply__")


def _numbers(loss: str, what: str, xs: Any, length: int | None = None) -> list[Any]:
    """Return a sequence as a list of Values and floats, checked."""
    given = as_list(xs)
    if not given:
        raise ValueError(f"{loss}: there are no {what}; give at least one number")
    if length is not None and len(given) != length:
        raise ValueError(f"{loss}: got {len(given)} {what} for {length} outputs; give one for each")
    return [x if _is_variable(x) else as_float(x) for x in given]


def _pairs(loss: str, what: str, outputs: Any, targets: Any) -> list[tuple[Any, Any]]:
    numbers = _numbers(loss, what, outputs)
    return list(zip(numbers, _numbers(loss, "targets", targets, len(numbers)), strict=True))


def _check_probabilities(target: list[Any]) -> None:
    if any(map(_is_variable, target)):
        return
    if not all(t >= 0.0 for t in target) or not abs(math.fsum(target) - 1.0) <= 1e-6:
        raise ValueError(
            f"cross_entropy: the target of {len(target)} classes must be probabilities that sum to 1, as in "
            f"[0, 1, 0]; got {target!r:.100}, which sums to {math.fsum(target)!r}. For a class give its index"
        )


def _index(target: Any, n: int) -> int:
    index = as_float(target)
    if not index.is_integer() or not 0 <= index < n:
        raise ValueError(
            f"cross_entropy: the target {target!r} is not the index of one of {n} classes, 0 to {n - 1}; "
            "classes count from 0" + ("; for one output take binary_cross_entropy" if n == 1 else "")
        )
    return int(index)
