"""Names in pictures: of a Value that of its variable, of a module its class and place."""

from collections.abc import Iterable, Mapping
from typing import Any

from microgrid.engine import Value
from microgrid.ops import short_repr


def name(variables: Mapping[str, Any]) -> None:
    """Label Values by the names of their variables: ``mg.name(locals())``.

    >>> a = Value(2.0)
    >>> weights = [Value(0.5), Value(-1.0)]
    >>> name({"a": a, "weights": weights})
    >>> a.label, weights[1].label
    ('a', 'weights[1]')

    It also labels Values in lists, tuples and dicts. An existing label stays, so the first name of a Value wins.
    Names that begin with ``_`` are skipped.

    Args:
        variables: the result of ``locals()``, ``globals()`` or ``vars(object)``.

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
    """Return the title of a picture or a page.

    Raises:
        TypeError: if it is not text.
    """
    if not isinstance(title, str):
        raise TypeError(f"title must be text, the heading; got {short_repr(title)}: give title={str(title)[:60]!r}")
    return title


def one_of(name: str, given: Any, known: Iterable[str]) -> None:
    """Raise a ``ValueError`` unless ``given`` is one of the known names."""
    known = [*known]
    if not isinstance(given, str) or given not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {short_repr(given)}")
