"""Checks before learning begins, and the diagnosis when it fails."""

import math
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from microgrid.data import same_length
from microgrid.engine import Value
from microgrid.losses import binary_cross_entropy
from microgrid.nn import as_list, mode
from microgrid.ops import short_repr
from microgrid.recording import AnomalyError, detect_anomaly, no_grad
from microgrid.steps import Bucket, Loss


def check_functions(model: Any, loss: Any, accuracy: Any, compile: Any) -> None:  # noqa: A002 - what fit() calls it
    """Raise ``TypeError`` unless these can be called, and ``compile`` is ``True``, ``False`` or ``None``."""
    check_function("the model", model, "a module, or a function of one sample", 1)
    check_function("loss", loss, "a function of an output and a target, such as losses.mean_squared_error", 2)
    if accuracy is not None and accuracy != "auto":
        check_function("accuracy", accuracy, "'auto', None, or a function of an output and a target", 2)
    if compile is not None and not isinstance(compile, (bool, np.bool_)):
        raise TypeError(f"compile must be True, False or None; got {short_repr(compile)}")


def check_function(name: str, function: Any, expected: str, takes: int) -> None:
    """Raise ``TypeError`` unless something can be called with so many arguments."""
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{name} must be {expected}; got {short_repr(function)}")
    try:
        signature(function).bind(*range(takes))
    except ValueError:  # a function in C, without a signature
        pass
    except TypeError as error:
        raise TypeError(f"{name} must be {expected}; got {short_repr(function)}: {error}") from None


def check_learner(model: Any) -> None:
    """Raise an error unless there are parameters to be learned."""
    if isinstance(model, type) or not callable(getattr(model, "parameters", None)):
        raise TypeError(
            "fit() trains a module, such as MLP(2, [16, 1]), or a function whose parameters() are Values; got "
            f"{short_repr(model)}, which has no parameters()"
        )
    if not model.parameters():
        raise ValueError(f"the model has no parameters, so it cannot learn: {model!r:.80}")


def check_optimizer(optimizer: Any, model: Any) -> None:
    """Raise an error unless an optimiser moves parameters of the model."""
    if isinstance(optimizer, type) or not (hasattr(optimizer, "step") and hasattr(optimizer, "parameters")):
        raise TypeError(
            "optimizer must be one that was made for the parameters, such as Adam(model.parameters()); got "
            f"{short_repr(optimizer)}"
        )
    if not set(model.parameters()) & set(optimizer.parameters):
        raise ValueError(f"{optimizer!r} moves no parameter of this model: make it with model.parameters()")


def held_out(validation: Any) -> list[Bucket]:
    """Return the samples of a validation set."""
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(f"validation must be a pair of samples and targets, (X, y); got {short_repr(validation)}")
    return samples_of("validation ", *validation)


def samples_of(what: str, X: Any, y: Any) -> list[Bucket]:
    """Return the samples grouped by their shape and that of their targets, in the order of first appearance."""
    X, y = _each(f"{what}X", X, (2, 3)), _each(f"{what}y", y, (1, 2))
    if not (isinstance(X, list) or isinstance(y, list)):
        same_length(X, y)
        return [Bucket(X, y, np.arange(len(X)))]
    if len(X) != len(y):
        raise ValueError(f"{what}X and {what}y must have one row per sample; got {len(X)} and {len(y)} rows")
    places: dict[Any, list[int]] = {}
    for k, (x, target) in enumerate(zip(X, y, strict=True)):
        places.setdefault((x.shape, target.shape), []).append(k)
    return [
        Bucket(np.array([X[k] for k in mine]), np.array([y[k] for k in mine]), np.array(mine))
        for mine in places.values()
    ]


def _each(name: str, data: Any, dimensions: tuple[int, ...]) -> Any:
    """Return the data of each sample: as one array, or as a list of arrays if their lengths differ."""
    try:
        array = np.asarray(data)
    except ValueError:
        return [_of_one(f"{name}[{k}]", one, dimensions) for k, one in enumerate(data)]
    if array.ndim not in dimensions and array.dtype.kind in "biuf":
        expected = "one row of numbers" if 1 not in dimensions else "one number, or one row of numbers,"
        remedy = f"; samples of one number are the rows of np.reshape({name}, (-1, 1))" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have {expected} for each sample; got an array of shape {array.shape}{remedy}")
    return _numbers(name, array)


def _of_one(name: str, data: Any, dimensions: tuple[int, ...]) -> Any:
    """Return the row, or the rows, of numbers of one sample among samples of different lengths."""
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length: {error}") from None
    if not array.size or array.ndim == 0 or array.ndim + 1 not in dimensions:
        raise ValueError(
            f"{name} must be a row of numbers, since others differ from it in length; got {short_repr(data)}"
        )
    return _numbers(name, array)


def _numbers(name: str, array: Any) -> Any:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got an array of {array.dtype}: {str(array.tolist())[:60]}")
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name}{list(place)} is {array[place]}: there is nothing to learn from it; leave it out")
    return array.astype(int) if array.dtype.kind == "b" else array


def rehearse(model: Any, loss: Loss, samples: Sequence[Bucket], what: str = "") -> Any:
    """Return the output for the first sample, after trying the first of each shape with each different target."""
    output, *_ = [_rehearsed(model, loss, bucket, what) for bucket in samples]
    return output


def _rehearsed(model: Any, loss: Loss, bucket: Bucket, what: str) -> Any:
    targets, places = np.unique(bucket.y, axis=0, return_index=True)
    with no_grad(), mode(model, training=False):
        try:
            output = model(bucket.X[0].tolist())
        except Exception as error:
            error.add_note(f"The sample was {what}X[{bucket.places[0]}], of the shape {bucket.X[0].shape}.")
            raise
        for target, place in zip(targets[:10000].tolist(), bucket.places[places].tolist(), strict=False):
            try:
                result = loss(output, target)
            except (ValueError, TypeError, IndexError) as error:
                raise type(error)(f"the target {what}y[{place}] = {target!r} does not fit: {error}") from error
            if not isinstance(result, Value):
                raise TypeError(f"loss(output, target) must return one Value; got {result!r:.80}")
    return output


def first_fault(model: Any, loss: Loss, X: Any, y: Any) -> str:
    """Compute a minibatch again under ``detect_anomaly``; return the first fault."""
    for number, parameter in enumerate(model.parameters()):
        if not math.isfinite(parameter.data):
            return f"the last update made {parameter.label or 'the parameter'} (number {number}) {parameter.data}"
    try:
        with detect_anomaly():
            for x, target in zip(X.tolist(), y.tolist(), strict=True):
                loss(model(x), target).backward()
    except AnomalyError as error:
        return str(error)
    return "each sample alone is finite, only the sum over the minibatch is not"


def are_classes(loss: Loss, output: Any, samples: Sequence[Bucket]) -> bool:
    """Whether targets identify the right one of several outputs, by index or one-hot; or the sign of one."""
    return all(_say_which(loss, output, bucket.y) for bucket in samples)


def _say_which(loss: Loss, output: Any, y: Any) -> bool:
    if len(as_list(output)) == 1:
        return loss is binary_cross_entropy or bool((np.abs(y) == 1).all())
    if y.ndim == 1:
        return bool(y.dtype.kind in "iu")
    return bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
