"""What a function can reach outside of its arguments, and whether any of it has changed since.

A program repeats what a function did once. What the function read then (the numbers, flags, texts, leaves and
functions that its closure, its globals and its objects lead to) may change afterwards; a ``Capture`` remembers
all of it and is asked before each call whether it still holds.

It is found without running any code of the user: functions are walked by their closures, defaults and the names
in their code, objects by those of their attributes that some function on the way names. So a list of losses that
a training loop appends to is no change, unless the function itself names it.

To look costs some 20 ns for each thing that is reached, and 1 ms for each megabyte of arrays. Out of sight are the
state of extension types other than arrays, files, and what a function of an installed package reads by itself.
"""

import array
import collections
import contextlib
import dis
import functools
import gc
import hashlib
import operator
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, NamedTuple

import numpy as np

from microgrid.compiler.tracing import Traced, TraceError
from microgrid.engine import Value
from microgrid.nn import Module
from microgrid.ops import Op
from microgrid.recording import watch_reads

_NUMBERS = (int, float, complex, str, bytes, np.generic)
_PLAIN = {bool, int, float, complex, str, bytes, type(None)}
_ATOMS = _PLAIN | {range, slice, type(...), CodeType, Value, Traced}
_CONTAINERS = (list, set, collections.deque, tuple, frozenset)
_BUFFERS = (bytearray, memoryview, array.array)
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)
_ABSENT = object()
_ROOT = object()

_UNSTEADY = {"random", "numpy.random", "secrets", "time", "datetime", "os", "posix", "uuid", "_random", "_datetime"}
"""Modules whose functions give something else at every call."""

_READS_ANY = {"getattr", "hasattr", "vars", "dir", "__dict__", "attrgetter", "methodcaller", "asdict", "astuple"}
_READS_ANY |= {"getmembers", "__getattribute__"}
"""Code with one of these may read attributes that it does not name."""

_READS_PARAMETERS = {"parameters", "named_parameters", "state_dict", "modules"}
"""Code with one of these may read all of a module in which there may be parameters."""

_NOTES = frozenset({"_called_as"})
"""What modules note about themselves when they are called, for drawings."""

_SMALL = 1 << 16
"""Arrays of so many bytes are kept to compare; of larger ones a digest is."""

ADVICE = (
    "a program would repeat what this one run gave. To drop at random use mg.nn.Dropout, which draws anew for every "
    "sample and call; else draw, count or read outside of the function and hand the numbers in as an argument"
)


class Capture:
    """All that a function can reach, as it is now.

    Attributes:
        modules: what returns each module among it, outer ones first; ``None`` for one that lives no more.
        generators: the generators of random numbers among it, Python's and NumPy's global ones too.
        uncertain: whether it reaches something whose changes cannot be seen: an iterator, the clock.

    Args:
        function: any callable.
        root: an object that shall not be kept alive: the one that a method is bound to.
        others: what it reaches through its arguments.
    """

    def __init__(self, function: Any, root: Any = None, others: Iterable[Any] = ()) -> None:
        walk = _Walk(function, others)
        self._alone, self.generators, self.uncertain = walk.values, walk.generators, walk.uncertain
        modules = [x for x in walk.reached if isinstance(x, Module)]
        self.modules = [weakref.ref(x) if x is root else functools.partial(_itself, x) for x in modules]
        self._guards = walk.guards(root)
        tables = [guard for guard in self._guards if guard[0] is _looked_up]
        self._others = [guard for guard in self._guards if guard[0] is not _looked_up]
        self._lookups = (
            [get for _, (get, keys, _), _ in tables for _ in keys],
            [key for _, (_, keys, _), _ in tables for key in keys],
            [default for _, (_, _, defaults), _ in tables for default in defaults],
        )
        self._found = [x for _, _, expected in tables for x in expected]
        self._lists, self._members = walk.lists, [[*members] for members in walk.lists]

    @functools.cached_property
    def values(self) -> set[Value]:
        """The Values among it: few functions read the number of one, for which they are asked."""
        return self._alone.union(*self._members)

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def holds(self) -> bool:
        """Return whether all of it is as it was."""
        # All tables at once, in a few calls of C; what is not identical may yet be the same.
        same = all(map(operator.is_, map(operator.call, *self._lookups), self._found))
        for read, subject, expected in self._others if same else self._guards:
            if not _agree(read(subject), expected):
                return False
        return self._lists_hold()

    def _lists_hold(self) -> bool:
        """Whether the lists of Values have the members that they had.

        Lists compare what is identical in 1/20 of the time that Python takes for it. Values that are not would compare
        their numbers; but these are then read, which is noticed.
        """
        if not self._lists:
            return True
        read: list[Any] = []
        with contextlib.suppress(TraceError), watch_reads(read.append):
            if all(map(operator.eq, self._members, self._lists)) and not read:
                return True
        return all(_agree(now, tuple(was)) for now, was in zip(self._lists, self._members, strict=True))

    def changed(self) -> str:
        """Return where it first differs from what it was, as a user would name it."""
        lists = [(_itself, now, tuple(was)) for now, was in zip(self._lists, self._members, strict=True)]
        for read, subject, expected in (*self._guards, *lists):
            now = tuple(read(subject))
            if not _agree(now, expected):
                names = subject[1] if read is _looked_up else ()
                different = [
                    f"{name}, {was!r:.40} before and {is_!r:.40} after"
                    for name, was, is_ in zip(names, expected, now, strict=False)
                    if not _same(was, is_)
                ]
                return different[0] if different else f"{subject!r:.60}"
        return "something that cannot be seen from outside"


Guard = tuple[Callable[[Any], Any], Any, tuple[Any, ...]]
"""How to read the present state of a subject, the subject, and its state when it was captured."""


def _agree(now: Any, expected: tuple[Any, ...]) -> bool:
    return len(now) == len(expected) and (all(map(operator.is_, now, expected)) or all(map(_same, now, expected)))


def _same(a: Any, b: Any) -> bool:
    """Whether two things are one, or equal numbers or texts: by their repr, for which −0 is not 0 and nan is nan.

    Results of traces are all the same: what an object keeps of one is of no use to the next.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if issubclass(type(a), tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is Traced or (issubclass(type(a), _NUMBERS) and repr(a) == repr(b))


# -- reading without running code of the user -----------------------------------------------------------


def _itself(x: Any) -> Any:
    return x


def _members(x: Any) -> tuple[Any, ...]:
    base = next(base for base in _CONTAINERS if issubclass(type(x), base))
    return tuple(base.__iter__(x))


def _entries(x: Any) -> tuple[Any, ...]:
    keys = collections.OrderedDict.__iter__(x) if issubclass(type(x), collections.OrderedDict) else dict.__iter__(x)
    return (*keys, *dict.values(x))


def _attributes(there: Callable[[], Any]) -> tuple[Any, ...]:
    return _entries(_dict_of(there()))


def _with_parameters(table: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a module in which it looks for parameters; not those that are plain, or lists of numbers."""
    return {name: x for name, x in list(table.items()) if name[:1] != "_" and not _is_plain(x)}


def _is_plain(x: Any) -> bool:
    return type(x) in _PLAIN or (type(x) is list and len(x) > 0 and {*map(type, x)} <= _PLAIN)


def _modules(there: Callable[[], Any]) -> tuple[Any, ...]:
    return _entries(_with_parameters(_dict_of(there()) or {}))


def _attribute(there: Callable[[], Any], name: str, default: Any) -> Any:
    return (_dict_of(there()) or {}).get(name, default)


def _looked_up(table: tuple[Callable[..., Any], tuple[str, ...], tuple[Any, ...]]) -> tuple[Any, ...]:
    get, keys, defaults = table
    return tuple(map(get, keys, defaults))


def _slots(object_and_members: tuple[Callable[[], Any], Sequence[Any]]) -> tuple[Any, ...]:
    there, members = object_and_members
    return tuple([_slot(there(), member) for member in members])


def _slot(x: Any, member: Any) -> Any:
    try:
        return member.__get__(x)
    except AttributeError:
        return _ABSENT


def _parts(function: FunctionType) -> tuple[Any, ...]:
    cells = [_content(cell) for cell in function.__closure__ or ()]
    return (function.__code__, function.__defaults__, function.__kwdefaults__, *cells)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that is not assigned yet
        return _ABSENT


def _numbers_of(x: Any) -> tuple[Any, ...]:
    """The content of an array: its bytes, or of many a digest."""
    content = np.asarray(x.detach() if hasattr(x, "detach") else x)
    raw = (
        content.tobytes() if content.nbytes <= _SMALL else hashlib.blake2b(np.ascontiguousarray(content).data).digest()
    )
    return str(content.dtype), content.shape, raw


def _current(variable: "ContextVar[Any]") -> tuple[Any, ...]:
    return (variable.get(_ABSENT),)


def _gradients(values: Iterable[Value]) -> tuple[float, ...]:
    return tuple([value.grad for value in values])


def _types(objects: Iterable[Any]) -> tuple[type, ...]:
    return tuple(map(type, objects))


def _hidden(read_subject_and_root: Any) -> tuple[Any, ...]:
    """Read what holds the root itself, with a mark in its place."""
    read, subject, root = read_subject_and_root
    return tuple([_ROOT if x is root() else x for x in read(subject)])


def _class_table(kind: type) -> dict[str, Any]:
    return dict(vars(kind)) if kind.__module__ != "builtins" else {}


def _dict_of(x: Any) -> dict[str, Any] | None:
    base = threading.local if issubclass(type(x), threading.local) else object
    try:
        found = base.__getattribute__(x, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


# -- the walk ---------------------------------------------------------------------------------------------


class _Walk:
    """The search for all that a function reaches.

    Which attributes matter is known only when all functions are found, and functions are found among
    attributes: so objects, classes and modules are gone through again until no new name comes up.
    """

    def __init__(self, function: Any, others: Iterable[Any]) -> None:
        self.values: set[Value] = set()  # those that stand in no list of Values
        self.generators: list[Any] = []
        self.lists: list[list[Value]] = []
        self.uncertain = False
        self._names = {"__wrapped__", "__getattr__"}
        self._own_names: set[str] = set()
        self._reads_any = self._reads_parameters = False
        self._gradients = False
        self._seen: dict[int, Any] = {}
        self._stack: list[Any] = [*others, function]
        self._found: list[Guard] = []
        self._globals: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self._objects: list[tuple[Any, Mapping[str, Any] | None, dict[str, Any]]] = []
        self._classes: dict[type, None] = {}
        self._modules: list[ModuleType] = []
        module = str(getattr(function, "__module__", None) or "")
        self._home = module.partition(".")[0]
        before: Any = None
        while True:
            while self._stack:
                self._visit(self._stack.pop())
            holders = [*self._objects, *[(c, c.__dict__, {}) for c in self._classes]]
            holders += [(m, vars(m), {}) for m in self._modules]
            now = set(self._names), len(holders), self._reads_any, self._reads_parameters
            if now == before:
                break
            before = now
            for holder in holders:
                self._follow(holder, before[0])

    def _follow(self, holder: tuple[Any, Mapping[str, Any] | None, dict[str, Any]], names: set[str]) -> None:
        """Visit the attributes that are named."""
        x, table, members = holder
        foreign = isinstance(x, ModuleType) and self._is_foreign(x.__name__, getattr(x, "__file__", None))
        table = table or {}
        everything = self._reads_any and not foreign
        chosen = list(table) if everything else names.intersection(table)
        if self._reads_parameters and issubclass(type(x), Module):
            chosen = {*chosen, *_with_parameters(table)}
        for name in chosen:
            item = table[name]
            if not foreign or not isinstance(item, (FunctionType, type)):
                self._stack.append(item)
            if isinstance(x, type) and isinstance(item, FunctionType):
                self._code(item.__code__, self._is_user_function(item))
        for name in members if everything else names.intersection(members):
            self._stack.append(_slot(x, members[name]))

    @property
    def reached(self) -> Iterable[Any]:
        """All that was visited, in that order."""
        return self._seen.values()

    def guards(self, root: Any) -> list[Guard]:
        """Return what to look at before a call; the cheapest and the likeliest to change first."""
        found: list[Guard] = []
        inherited = {kind: dict(collections.ChainMap(*map(_class_table, kind.__mro__))) for kind in self._classes}
        free = self._own_names.difference(
            *[table or () for _, table, _ in self._objects], *inherited.values(), *map(vars, self._modules), _NOTES
        )
        for x, table, members in self._objects:
            there = weakref.ref(x) if x is root else functools.partial(_itself, x)
            if table is not None:
                live = x is root or issubclass(type(x), threading.local)  # each thread has a table of its own
                get = functools.partial(_attribute, there) if live else table.get
                if self._reads_any:
                    found.append((_attributes, there, _attributes(there)))
                elif self._reads_parameters and issubclass(type(x), Module):
                    found.append((_modules, there, _modules(there)))
                of_class = inherited.get(type(x), {})
                keys = self._names & {*of_class, *table}
                if self._is_user_class(type(x)):
                    keys |= free
                if keys:
                    found.append(_table(get, keys, of_class))
            chosen = [member for name, member in members.items() if self._reads_any or name in self._names]
            if chosen:
                found.append((_slots, (there, chosen), _slots((there, chosen))))
        found += [_table(table.get, keys) for table, keys in self._globals.values() if keys]
        for module in self._modules:
            keys = self._names.intersection(vars(module))
            if not self._is_foreign(module.__name__, getattr(module, "__file__", None)):
                keys |= free
            if keys:
                found.append(_table(vars(module).get, keys))
        for kind in self._classes:
            if str(kind.__module__).partition(".")[0] in sys.stdlib_module_names:
                continue
            keys = self._names & set(inherited[kind])
            if self._is_user_class(kind):
                keys |= free.union(filter(_is_special, inherited[kind]))
            if keys:
                found.append(_table(kind.__dict__.get, keys))
        objects = [x for x, _, _ in self._objects if x is not root]
        found += [(_types, objects, _types(objects))] if objects else []
        if self._gradients:
            found.append((_gradients, leaves := list(self.values.union(*self.lists)), _gradients(leaves)))
        found += self._found
        if root is None:
            return found
        return [
            (_hidden, (read, subject, weakref.ref(root)), tuple([_ROOT if x is root else x for x in expected]))
            if any(x is root for x in expected)
            else (read, subject, expected)
            for read, subject, expected in found
        ]

    def _visit(self, x: Any) -> None:
        kind = type(x)  # isinstance would ask an object of the user for its __class__
        if issubclass(kind, Value):
            self.values.add(x)
            return
        if kind in _ATOMS or issubclass(kind, (Op, np.generic)) or x is _ABSENT or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        if issubclass(kind, FunctionType):
            self._function(x)
        elif issubclass(kind, (MethodType, BuiltinFunctionType, MethodWrapperType)):
            self._stack.append(getattr(x, "__func__", None))
            if not isinstance(x.__self__, ModuleType):
                self._stack.append(x.__self__)
            self.uncertain |= getattr(x, "__module__", None) in _UNSTEADY
            self._reads_any |= x.__name__ in _READS_ANY
        elif issubclass(kind, (operator.attrgetter, operator.methodcaller)):
            self._reads_any = True
        elif issubclass(kind, ModuleType):
            self.uncertain |= x.__name__ in _UNSTEADY
            if x is not sys:
                self._modules.append(x)
        elif issubclass(kind, type):
            self.uncertain |= x.__module__ in _UNSTEADY
            if self._is_user_class(x):
                self._class(x)
                self._stack += [vars(base)[name] for base in x.__mro__[:-1] for name in _MAKING & vars(base).keys()]
        elif issubclass(kind, (property, staticmethod, classmethod)):
            self._stack.append(x.fget if issubclass(kind, property) else x.__func__)
        elif issubclass(kind, functools.partial):
            self._stack += [x.func, x.args, x.keywords]
        elif issubclass(kind, weakref.ref):
            self._stack.append(x())
        elif issubclass(kind, ContextVar):
            self._guard(_current, x)
        elif hasattr(kind, "_reaches"):
            self._stack += x._reaches()
        elif issubclass(kind, _GENERATORS) and not issubclass(kind, random.SystemRandom):
            self.generators.append(x)
        elif hasattr(kind, "__next__"):
            self.uncertain = True
        elif issubclass(kind, np.ndarray) and x.dtype == object:
            self._guard(_flat, x)
            self._stack += _flat(x)
        elif issubclass(kind, _BUFFERS) or (hasattr(kind, "__array__") and not self._is_user_class(kind)):
            self._guard(_numbers_of, x)
        else:
            self._members(x, kind)
            self._object(x, kind)

    def _members(self, x: Any, kind: type) -> None:
        if issubclass(kind, dict):
            self._guard(_entries, x)
            self._stack += _entries(x)
            if issubclass(kind, collections.defaultdict):
                self._stack.append(x.default_factory)
        elif issubclass(kind, _CONTAINERS):
            members: Any = x if type(x) is list else _members(x)
            kinds = set(map(type, members))
            if type(x) is list and kinds == {Value}:
                self.lists.append(x)
                return
            if not issubclass(kind, (tuple, frozenset)):
                self._guard(_itself if type(x) is list else _members, x)
            if not kinds <= _ATOMS:
                self._stack += members
            elif Value in kinds or Traced in kinds:
                self.values.update([member for member in members if isinstance(member, Value)])

    def _object(self, x: Any, kind: type) -> None:
        """Take an object for its attributes: those in its ``__dict__`` and those in slots."""
        members = {
            name: member
            for base in kind.__mro__
            for name, member in vars(base).items()
            if isinstance(member, MemberDescriptorType)
        }
        table = _dict_of(x)
        if table is None and not members and not issubclass(kind, (dict, *_CONTAINERS)):
            self._stack += gc.get_referents(x)  # as a view of a dict leads to the dict
        if table is not None or members or kind.__module__ != "builtins":
            self._objects.append((x, table, members))
            self._class(kind)

    def _class(self, kind: type) -> None:
        """Take a class and those it inherits from for their attributes; special methods are called without a name."""
        for base in kind.__mro__:
            if base.__module__ != "builtins" and base not in self._classes:
                self._classes[base] = None
                self._class(type(base))
                for name, item in vars(base).items():
                    if _is_special(name) and isinstance(item, FunctionType):
                        self._stack.append(item)
                        self._code(item.__code__, self._is_user_function(item))

    def _function(self, x: FunctionType) -> None:
        own = self._is_user_function(x)
        if own or x.__closure__:
            self._guard(_parts, x)
        self._stack += [x.__defaults__, x.__kwdefaults__, *_parts(x)[3:]]
        if x.__dict__:
            self._objects.append((x, x.__dict__, {}))
        self.uncertain |= x.__module__ in _UNSTEADY
        if own:
            self._code(x.__code__, own)
            names = _names_in(x.__code__)
            for name in names.globals & {"input", "open"} - set(x.__globals__):
                raise TraceError(f"{x.__name__} calls {name}(), and {ADVICE}")
            self._globals.setdefault(id(x.__globals__), (x.__globals__, set()))[1].update(names.globals)
            self._stack += [x.__globals__[name] for name in names.globals if name in x.__globals__]
            self._stack += [sys.modules[name] for name in names.modules if name in sys.modules]
            self._gradients |= any(not isinstance(x.__globals__.get(of), ModuleType) for of in names.gradients_of)

    def _code(self, code: CodeType, own: bool) -> None:
        """Note the names in a code."""
        names = _names_in(code)
        self._names |= names.attributes - _NOTES
        if own:
            self._own_names |= names.attributes
            self._reads_any |= not _READS_ANY.isdisjoint(names.attributes | names.globals)
            self._reads_parameters |= not _READS_PARAMETERS.isdisjoint(names.attributes)

    def _guard(self, read: Callable[[Any], Any], x: Any) -> None:
        self._found.append((read, x, tuple(read(x))))

    def _is_user_function(self, function: FunctionType) -> bool:
        return not self._is_foreign(function.__globals__.get("__name__"), function.__code__.co_filename)

    def _is_user_class(self, kind: type) -> bool:
        module = sys.modules.get(kind.__module__)
        return not self._is_foreign(kind.__module__, getattr(module, "__file__", None))

    def _is_foreign(self, module: Any, file: Any) -> bool:
        """Whether a module is Python's own, this package, or installed beside the user's: it has no state of theirs."""
        root = str(module).partition(".")[0]
        if root in sys.stdlib_module_names or root in ("microgrid", "builtins"):
            return True
        return root != self._home and any(place in str(file) for place in ("site-packages", "dist-packages"))


def _flat(x: Any) -> list[Any]:
    return list(x.flat)


def _table(get: Callable[..., Any], names: set[str], inherited: Mapping[str, Any] = MappingProxyType({})) -> Guard:
    """Guard what a table says of some names; where it says nothing, it is what is inherited."""
    keys = tuple(names)
    subject = get, keys, tuple([inherited.get(key, _ABSENT) for key in keys])
    return _looked_up, subject, _looked_up(subject)


def _is_special(name: str) -> bool:
    """Whether Python calls a method of this name by itself, on an object that is there already."""
    return name[:2] == name[-2:] == "__" and name not in _MAKING


_MAKING = {
    "__new__",
    "__init__",
    "__post_init__",
    "__del__",
    "__init_subclass__",
    "__set_name__",
    "__repr__",
    "__str__",
}
_MAKING |= {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__copy__", "__deepcopy__", "__sizeof__"}


class _Names(NamedTuple):
    """The names in a code, and in those of the functions that it makes; and which globals it takes ``.grad`` of."""

    globals: frozenset[str]
    attributes: frozenset[str]
    modules: frozenset[str]
    gradients_of: frozenset[str]


@functools.lru_cache(maxsize=1024)
def _names_in(code: CodeType) -> _Names:
    found: tuple[set[str], ...] = set(), set(), set(), set()
    owner = ""
    for instruction in dis.get_instructions(code):
        if instruction.argval == "grad":
            found[3].add(owner)  # of a module, as in mg.grad, or of anything else
        owner = instruction.argval if "GLOBAL" in instruction.opname else ""
        if instruction.opname == "MATCH_CLASS":
            found[1].add("getattr")  # it reads what the class says
        if instruction.opname == "IMPORT_NAME":
            found[2].add(instruction.argval)
        elif "GLOBAL" in instruction.opname or "NAME" in instruction.opname:
            found[0].add(instruction.argval)
        elif instruction.argval in code.co_names:
            found[1].add(instruction.argval)
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return _Names(*[frozenset(names).union(*more) for names, *more in zip(found, *inner, strict=True)])


# -- random numbers ---------------------------------------------------------------------------------------


class Generators:
    """Generators of random numbers: those given, and Python's and NumPy's global ones."""

    def __init__(self, generators: Iterable[Any] = ()) -> None:
        self._all = [random, np.random, *generators]

    def read(self) -> list[bytes]:
        """Return their states, to compare or to ``write`` again."""
        return [pickle.dumps(_state(x)) for x in self._all]

    def write(self, states: Iterable[bytes]) -> None:
        """Set them to states that ``read`` gave."""
        for x, state in zip(self._all, states, strict=True):
            _set_state(x, pickle.loads(state))

    @contextlib.contextmanager
    def kept(self, what: str, drawn: list[bytes] | None = None) -> Iterator[None]:
        """Leave them as they were before the block.

        Raises:
            TraceError: if the block draws: if it leaves other states than the given ones, or else than it found.
        """
        before = self.read()
        try:
            yield
            if self.read() != (drawn or before):
                raise TraceError(f"{what} draws random numbers, and {ADVICE}")
        finally:
            self.write(before)


def _state(x: Any) -> Any:
    if isinstance(x, np.random.Generator):
        x = x.bit_generator
    if isinstance(x, np.random.BitGenerator):
        return x.state
    return x.getstate() if hasattr(x, "getstate") else x.get_state(legacy=False)


def _set_state(x: Any, state: Any) -> None:
    if isinstance(x, np.random.Generator):
        x = x.bit_generator
    if isinstance(x, np.random.BitGenerator):
        x.state = state
    else:
        (x.setstate if hasattr(x, "setstate") else x.set_state)(state)
