"""How arguments and results are made of arrays: what is nested is taken apart, and put together again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from microgrid import engine, ops
from microgrid.calculus import flatten, made_of
from microgrid.compiler.signature import Floats, Shape
from microgrid.compiler.tracing import Traced
from microgrid.engine import Value


@dataclass(slots=True)
class Split:
    """An array of numbers, as it was given, as plain numbers, and the Values among them by their place."""

    name: str
    given: Any
    numbers: Any
    values: dict[int, Value] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def of(cls, name: str, argument: Any) -> "Split":
        """Take an argument apart; the name is for messages."""
        if type(argument) is float or (isinstance(argument, np.ndarray) and argument.dtype.kind != "O"):
            return cls(name, argument, argument)
        numbers, rebuild = flatten(argument)
        values = {k: x for k, x in enumerate(numbers) if isinstance(x, Value)}
        if not values and not isinstance(argument, np.ndarray):
            return cls(name, argument, argument)
        try:
            plain = [x._data if isinstance(x, Value) else ops.as_float(x) for x in numbers]
        except TypeError as error:
            raise TypeError(f"argument {name}: {error}") from None
        return cls(name, argument, rebuild(plain), values, len(numbers))

    def listed(self) -> Any:
        """What was given, an array as nested lists."""
        return self.given.tolist() if isinstance(self.given, np.ndarray) else self.given

    def samples(self, samples: int) -> dict[int, dict[int, Value]]:
        """The Values of each sample that has some, by their place in the sample."""
        step = self.size // samples
        found: dict[int, dict[int, Value]] = {}
        for at, x in self.values.items():
            found.setdefault(at // step, {})[at % step] = x
        return found


Structure = tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]
"""How arguments are made of arrays: of each one by position, and by name. ``None`` stands for an array; a ``Static``
for itself; and what holds others for a tuple of its type, its keys and the structures of its entries."""

_PLAIN = {float, int, bool, Value, Traced}
_NUMERIC = ("__float__", "__array__", "__len__")
"""What has none of these is no number, no array and no sequence."""


@dataclass(frozen=True, slots=True)
class Static:
    """An argument that is no numbers: a program is for one that is equal, of one type and written alike."""

    given: Any
    written: tuple[type, str]


def static(x: Any, name: str) -> Static:
    """Return an argument that is handed on as it is.

    Raises:
        TypeError: if it cannot be hashed, naming it.
    """
    try:
        hash(x)
    except TypeError as error:
        raise TypeError(
            f"argument {name} is static, so it must be hashable, as a text, a number, a tuple or a module is; {error}"
        ) from None
    return Static(x, (type(x), repr(x) if isinstance(x, (int, float, complex, tuple, frozenset)) else ""))


def parts(x: Any) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Return the keys and the entries of what holds others by name: a dict, a named tuple, an object of a dataclass."""
    if isinstance(x, dict):
        return tuple(x), tuple(x.values())
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return x._fields, x
    if is_dataclass(x) and not isinstance(x, type):
        names = tuple([each.name for each in fields(x)])
        return names, [getattr(x, name) for name in names]
    return None


def shape_of(x: Any, batch: bool) -> Shape | None:
    """Return the shape of an array or of nested lists like one, else ``None``: of dicts, of lists whose entries differ.

    In a batch entries are samples, so lists that differ are a mistake, which is reported when they become an array.
    """
    if type(x) is float or (not isinstance(x, (list, tuple)) and parts(x) is None):
        return tuple(getattr(x, "shape", ()))
    if not isinstance(x, (list, tuple)) or (not batch and parts(x) is not None):
        return None
    if {*map(type, x)} <= _PLAIN:
        return (len(x),)
    shapes = {shape_of(entry, batch) for entry in x}
    if len(shapes) == 1 or (batch and None not in shapes):
        first = shapes.pop()
        return first if first is None else (len(x), *first)
    return None


def take_apart(x: Any, name: str, leaves: list[Split], batch: bool) -> Any:
    """Return the structure of an argument; add its arrays to ``leaves``, also those that were lists of numbers.

    Raises:
        TypeError: if some of it is no number, nor holds any.
    """
    kind = type(x)
    if kind is float or kind is np.ndarray:
        leaves.append(Split.of(name, x))
        return None
    held = parts(x)
    if held is None and isinstance(x, (list, tuple)):
        if (array := _as_array(x, batch)) is not None or shape_of(x, batch) is not None:
            leaves.append(Split.of(name, x if array is None else array))
            return None
        held = range(len(x)), x
    if held is None:
        if isinstance(x, (str, bytes)) or not any(hasattr(kind, name) for name in _NUMERIC):
            raise TypeError(
                f"argument {name} must be made of numbers; got {x!r:.60} ({kind.__name__}). If it is to be taken as it "
                "is, and the function compiled for each such argument, name it: compile(f, static=…)"
            )
        leaves.append(Split.of(name, x))
        return None
    keys, entries = held
    in_brackets = isinstance(x, dict) or isinstance(keys, range)
    names = [f"{name}[{key!r}]" if in_brackets else f"{name}.{key}" for key in keys]
    within = [take_apart(entry, each, leaves, batch) for entry, each in zip(entries, names, strict=True)]
    return kind, tuple(keys), tuple(within)


def _as_array(x: Any, batch: bool) -> Floats | None:
    """Nested lists of numbers as an array; ``None`` for others: where there are Values, named tuples, texts."""
    first = x
    while type(first) in (list, tuple) and first:
        first = first[0]
    if not batch and parts(first) is not None:
        return None
    try:
        array: Floats = np.asarray(x)
    except ValueError:  # rows that differ in length
        return None
    return array if array.dtype.kind in "biuf" else None


def arrays_of(structure: Any) -> int:
    """Return how many arrays an argument is made of."""
    if structure is None:
        return 1
    return 0 if type(structure) is Static else sum(map(arrays_of, structure[2]))


def put_together(structure: Structure, leaves: Iterator[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments, by position and by name, with these in the place of the arrays."""
    positional, named = structure
    return [_rebuilt(x, leaves) for x in positional], {name: _rebuilt(x, leaves) for name, x in named}


def _rebuilt(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return next(leaves)
    if type(structure) is Static:
        return structure.given
    kind, keys, entries = structure
    return made_of(kind, keys, [_rebuilt(entry, leaves) for entry in entries])


def reached_by(structure: Structure) -> Iterator[Any]:
    """Yield what a function reaches through its arguments besides numbers: static ones, and the classes of others."""
    positional, named = structure
    stack = [*positional, *[x for _, x in named]]
    while stack:
        x = stack.pop()
        if type(x) is Static:
            yield x.given
        elif x is not None:
            yield x[0]
            stack += x[2]


def nested(numbers: Iterator[Any], shape: Shape) -> Any:
    """Return numbers in nested lists of a shape."""
    return [nested(numbers, shape[1:]) for _ in range(shape[0])] if shape else next(numbers)


def as_values(argument: Any) -> Any:
    """Return an array, or lists like one, as lists of Values, as the function gets them when it is traced."""
    numbers = [x if isinstance(x, Value) else engine.constant(x) for x in flatten(argument)[0]]
    return nested(iter(numbers), shape_of(argument, batch=False) or ())


Arrays = Callable[[Floats], Any]
"""Puts the results of a kernel, whose last axis counts them, into a structure."""


def arrays_in(template: Any) -> Arrays:
    """Return what puts numbers, a row of them for each sample, in the structure of a result.

    Nested lists of numbers are axes of one array; tuples, dicts and the like stay what they are, of arrays.

    Args:
        template: the result, with the place of each number in its place.
    """
    shape = _axes(template)
    if shape is not None:
        places = np.array(template, int).reshape(-1)
        start, stop = (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)
        chosen: Any = slice(start, stop) if places.tolist() == list(range(start, stop)) else places
        return lambda numbers: numbers[..., chosen].reshape((*numbers.shape[:-1], *shape))[()]
    held = parts(template) or (range(len(template)), template)
    within = [arrays_in(entry) for entry in held[1]]
    return lambda numbers: made_of(type(template), held[0], [each(numbers) for each in within])


def _axes(template: Any) -> Shape | None:
    """The shape of a number, or of nested lists of numbers, else ``None``."""
    if isinstance(template, np.ndarray):
        return tuple(template.shape)
    if not isinstance(template, list):
        return None if isinstance(template, tuple) or parts(template) is not None else ()
    shapes = {_axes(entry) for entry in template}
    first = shapes.pop() if len(shapes) == 1 else None
    return None if first is None else (len(template), *first)
