"""What pictures call things: a Value as the variable that holds it, a module by its class and place."""

from collections.abc import Iterable, Mapping
from typing import Any

from microgrid.engine import Value
from microgrid.ops import short_repr


def name(variables: Mapping[str, Any]) -> None:
    """Label the Values among variables by the names of these: ``mg.name(locals())``.

    >>> a = Value(2.0)
    >>> weights = [Value(0.5), Value(-1.0)]
    >>> name({"a": a, "weights": weights})
    >>> a.label, weights[1].label
    ('a', 'weights[1]')

    Lists, tuples and dicts are looked into. A label that is there stays, so the first name of a Value wins,
    and names that begin with ``_`` are passed over.

    Args:
        variables: what ``locals()``, ``globals()`` or ``vars(object)`` returns.

    Raises:
        TypeError: if it is not a mapping.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"name() takes the variables with their names, as in name(locals()); got {variables!r:.60}")
    stack = [(str(key), item) for key, item in reversed(list(variables.items())) if not str(key).startswith("_")]
    seen = {id(variables)}
    while stack:
        label, item = stack.pop()
        if isinstance(item, Value):
            item.label = item.label or label
        elif isinstance(item, (list, tuple, dict)) and id(item) not in seen:
            seen.add(id(item))
            inner = item.items() if isinstance(item, dict) else enumerate(item)
            stack.extend(reversed([(f"{label}[{key!r}]", each) for key, each in inner]))


def heading_text(title: Any) -> str:
    """Return the title of a picture or a page as it was given.

    Raises:
        TypeError: if it is not text.
    """
    if not isinstance(title, str):
        raise TypeError(f"title must be text, the heading; got {short_repr(title)}: give title={str(title)[:60]!r}")
    return title


def one_of(name: str, given: Any, known: Iterable[str]) -> None:
    """Raise a ``ValueError`` for what is not one of the known names."""
    known = [*known]
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {short_repr(given)}")
