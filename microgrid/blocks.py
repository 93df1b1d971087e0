"""Blocks that ``with`` opens, which also decorate functions, generators and coroutines."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar

from microgrid.ops import short_repr

Function = TypeVar("Function", bound=Callable[..., Any])


class Block(AbstractContextManager[None]):
    """A block that ``with`` opens. It also decorates a function, each call of which then runs in a block of its own.

    A generator runs in the block whenever it is resumed, the code that takes its items does not; a coroutine runs in
    it, other tasks that run while it waits do not.
    """

    def __init__(self, manager: Callable[[], AbstractContextManager[None]]) -> None:
        self._manager = manager

    def __enter__(self) -> None:
        self._open = self._manager()
        self._open.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.__exit__(*error)

    def __call__(self, function: Function) -> Function:
        """Decorate a function."""
        manager, name = self._manager, self._manager.__name__
        if not callable(function) or isinstance(function, type) or isasyncgenfunction(function):
            raise TypeError(
                f"@{name}() decorates a function, a generator or a coroutine; got {short_repr(function)}; write "
                f"with {name}(): around what it computes"
            )

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with manager():
                return await function(*args, **kwargs)

        def generator(*args: Any, **kwargs: Any) -> Any:
            within = function(*args, **kwargs)
            go_on, given = within.send, None
            while True:
                try:
                    with manager():
                        item = go_on(given)
                except StopIteration as end:
                    return end.value
                try:
                    go_on, given = within.send, (yield item)
                except BaseException as error:  # GeneratorExit too: it closes in the block
                    go_on, given = within.throw, error

        def plain(*args: Any, **kwargs: Any) -> Any:
            with manager():
                return function(*args, **kwargs)

        decorated: Callable[..., Any] = plain
        if iscoroutinefunction(function):
            decorated = coroutine
        elif isgeneratorfunction(function):
            decorated = generator
        return wraps(function)(decorated)  # type: ignore[return-value]


def block(manage: Callable[[], Iterator[None]]) -> Callable[[], Block]:
    """Like ``contextmanager``, but a decorated generator or coroutine is in the block as long as it runs."""
    manager = contextmanager(manage)
    return wraps(manage)(lambda: Block(manager))
