"""LLVM's assembly as text: functions made of blocks, loops and arithmetic on vectors of any width.

A ``Module`` collects functions, the helpers and tables that they share and the declarations that they need. A
``Function`` is one under construction: names, blocks, loops, addresses. A ``Builder`` writes arithmetic into it, on
vectors of one width and one dtype; width 1 is scalars. It says no more than IEEE 754: nothing is reassociated, and a
product is only left unrounded where ``fma`` is asked for.
"""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Literal

Kind = Literal["number", "mask", "integer", "pointer"]
DType = Literal["float64", "float32"]
Comparison = Literal["<", "<=", ">", ">=", "==", "!="]
IntegerOperation = Literal["add", "sub", "mul", "and", "or", "xor", "shl", "ashr", "lshr"]

_COMPARE = {
    "number": {"<": "olt", "<=": "ole", ">": "ogt", ">=": "oge", "==": "oeq", "!=": "une"},
    "integer": {"<": "slt", "<=": "sle", ">": "sgt", ">=": "sge", "==": "eq", "!=": "ne"},
}


@dataclass(frozen=True, slots=True)
class Vector:
    """What a register or a constant holds: ``width`` numbers, masks (true or false) or integers; or one pointer.

    Attributes:
        text: its name in the assembly, or its value.
        kind: what each lane is.
        width: how many lanes; 1 for a scalar.
        bits: of a number or an integer, 64 or 32.
    """

    text: str
    kind: Kind = "number"
    width: int = 1
    bits: int = 64

    @property
    def element(self) -> str:
        """The type of a lane."""
        return _type(self.kind, 1, self.bits)

    @property
    def type(self) -> str:
        """Its type in the assembly."""
        return _type(self.kind, self.width, self.bits)

    @property
    def suffix(self) -> str:
        """Its type in the name of an intrinsic function, ``v4f64``."""
        letter = "f" if self.kind == "number" else "i"
        return ("" if self.width == 1 else f"v{self.width}") + f"{letter}{1 if self.kind == 'mask' else self.bits}"

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


@cache
def _type(kind: Kind, width: int, bits: int) -> str:
    """The type of so many numbers, masks or integers in the assembly."""
    number = "double" if bits == 64 else "float"
    element = {"number": number, "integer": f"i{bits}", "mask": "i1", "pointer": "ptr"}[kind]
    return element if width == 1 else f"<{width} x {element}>"


Index = int | Vector
"""A place in memory: known, or an integer of 64 bits."""


def pointer(text: str) -> Vector:
    """Return a pointer that a parameter or a global holds."""
    return Vector(text, "pointer")


def index(text: str) -> Vector:
    """Return an integer of 64 bits that a parameter holds."""
    return Vector(text, "integer")


@dataclass(slots=True)
class Module:
    """Functions, the helpers and tables that they share, the declarations that they need."""

    declarations: dict[str, None] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)

    def table(self, element: str, values: Sequence[int | float], align: int = 64) -> Vector:
        """Return a pointer to these constants, whose type is ``double``, ``float``, ``i64`` or ``i32``."""
        words = [str(x) if element[0] == "i" else hexadecimal(x, 64 if element == "double" else 32) for x in values]
        content = f"[{len(words)} x {element}] [{', '.join(f'{element} {word}' for word in words)}], align {align}"
        name = self.tables.setdefault(content, f"@table{len(self.tables)}")
        return pointer(name)

    def helper(self, name: str, parameters: Sequence[Vector], body: "Callable[[Function], Vector]") -> None:
        """Define a function of numbers that is called where they are rare, so it is never inlined; once."""
        if name in self.functions:
            return
        self.functions[name] = ""  # taken, should the body want it, too
        function = Function(self, name, [str(x) for x in parameters])
        result = body(function)
        function.finish(result, attributes="noinline cold nounwind willreturn", linkage="internal ")

    def text(self) -> str:
        """Return the module."""
        tables = [f"{name} = private unnamed_addr constant {content}" for content, name in self.tables.items()]
        return "\n".join([*self.declarations, *tables, *self.functions.values(), ""])


def hexadecimal(x: float, bits: int) -> str:
    """Return a number as the assembly has it, to the last bit."""
    if bits == 32 and math.isfinite(x):
        try:
            x = struct.unpack("<f", struct.pack("<f", x))[0]
        except OverflowError:
            x = math.copysign(math.inf, x)
    return f"0x{struct.unpack('<Q', struct.pack('<d', x if x == x else math.nan))[0]:016X}"


@dataclass(slots=True)
class Loop:
    """What a loop that is being written knows.

    Attributes:
        index: its counter.
        carried: what it carries, as the iteration sees it; behind the loop, the last values.
        following: the values that the next iteration sees, which the body must set.
    """

    index: Vector
    carried: tuple[Vector, ...]
    following: tuple[Vector, ...] = ()


class Function:
    """A function under construction.

    Attributes:
        module: what it will be part of.
        block: the name of the block that is being written.
    """

    def __init__(self, module: Module, name: str, parameters: Sequence[str], result: str = "void") -> None:
        """Begin a function with these parameters, each with its type and attributes: ``"ptr noalias %out"``."""
        self.module = module
        self.name = name
        self.parameters = list(parameters)
        self.block = "entry"
        self._lines = ["entry:"]
        self._count = 0

    def finish(self, result: Vector | None = None, *, attributes: str = "nounwind", linkage: str = "") -> None:
        """Return from it, and put it into the module."""
        self.emit("ret void" if result is None else f"ret {result}")
        head = f"define {linkage}{'void' if result is None else result.type} @{self.name}({', '.join(self.parameters)})"
        self.module.functions[self.name] = "\n".join([f"{head} {attributes} {{", *self._lines, "}"])

    def fresh(self, stem: str) -> str:
        """Return a name that is not taken."""
        self._count += 1
        return f"{stem}{self._count}"

    def emit(self, text: str) -> None:
        """Write an instruction without a result."""
        self._lines.append("  " + text)

    def let(self, like: Vector, text: str) -> Vector:
        """Write an instruction and return its result, of the kind, width and bits of ``like``."""
        name = "%" + self.fresh("x")
        self._lines.append(f"  {name} = {text}")
        return Vector(name, like.kind, like.width, like.bits)  # replace() takes a third of the time of a program

    def label(self, name: str) -> None:
        """Begin a block."""
        self._lines.append(f"{name}:")
        self.block = name

    def jump(self, name: str) -> None:
        """Go to a block."""
        self.emit(f"br label %{name}")

    def branch(self, condition: Vector, then: str, otherwise: str) -> None:
        """Go to one of two blocks."""
        self.emit(f"br {condition}, label %{then}, label %{otherwise}")

    def call(self, result: Vector, name: str, *arguments: Vector, intrinsic: bool = False) -> Vector:
        """Call a function that is defined elsewhere, which is declared, and return what it returns, like ``result``."""
        if name not in self.module.functions:
            types = ", ".join(x.type for x in arguments)
            pure = "" if intrinsic else " nounwind willreturn memory(none)"
            self.module.declarations[f"declare {result.type} @{name}({types}){pure}"] = None
        return self.let(result, f"call {result.type} @{name}({', '.join(map(str, arguments))})")

    # Places in memory

    def plus(self, a: Index, b: Index) -> Index:
        """Return the sum of two indices."""
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.let(index(""), f"add nsw i64 {_text(a)}, {_text(b)}")

    def times(self, a: Index, b: Index) -> Index:
        """Return the product of two indices."""
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if 0 in (a, b):
            return 0
        if 1 in (a, b):
            return b if a == 1 else a
        return self.let(index(""), f"mul nsw i64 {_text(a)}, {_text(b)}")

    def at(self, base: Vector, place: Index, element: str) -> Vector:
        """Return the pointer to element number ``place``."""
        if place == 0:
            return base
        return self.let(base, f"getelementptr inbounds {element}, ptr {base.text}, i64 {_text(place)}")

    def load_index(self, base: Vector, place: Index, bits: int = 64) -> Vector:
        """Return an entry of a table of integers of 64 or 32 bits."""
        where = self.at(base, place, f"i{bits}")
        found = self.let(index(""), f"load i{bits}, ptr {where.text}, align {bits // 8}")
        return found if bits == 64 else self.let(index(""), f"sext i{bits} {found.text} to i64")

    def pointer_at(self, base: Vector, place: Index) -> Vector:
        """Return an entry of a table of pointers."""
        return self.let(base, f"load ptr, ptr {self.at(base, place, 'ptr').text}, align 8")

    # What is not straight

    @contextmanager
    def loop(self, start: Index, stop: Index, step: int = 1, carried: Sequence[Vector] = ()) -> Iterator[Loop]:
        """Write ``for index in range(start, stop, step)``; the body sets ``following`` of what is carried.

        Of a sum: ``with f.loop(0, n, carried=[zero]) as loop: loop.following = (add(loop.carried[0], x),)``; after it
        ``loop.carried[0]`` is the sum.
        """
        head, body, end = self.fresh("head"), self.fresh("body"), self.fresh("end")
        before = self.block
        self.jump(head)
        self.label(head)
        counter = index("%" + self.fresh("i"))
        loop = Loop(counter, tuple([replace(x, text="%" + self.fresh("c")) for x in carried]))
        phis = len(self._lines)
        test = self.let(Vector("", "mask"), f"icmp {'slt' if step > 0 else 'sgt'} i64 {counter.text}, {_text(stop)}")
        self.branch(test, body, end)
        self.label(body)
        yield loop
        following = self.let(counter, f"add nsw i64 {counter.text}, {step}")
        latch = self.block
        self.jump(head)
        cycles = [(counter, _text(start), following.text)]
        cycles += [(c, x.text, y.text) for c, x, y in zip(loop.carried, carried, loop.following, strict=True)]
        self._lines[phis:phis] = [
            f"  {c.text} = phi {c.type} [ {first}, %{before} ], [ {then}, %{latch} ]" for c, first, then in cycles
        ]
        self.label(end)

    @contextmanager
    def only_if(self, condition: Vector) -> Iterator[None]:
        """Write what is done only if a condition holds."""
        then, end = self.fresh("then"), self.fresh("end")
        self.branch(condition, then, end)
        self.label(then)
        yield
        self.jump(end)
        self.label(end)

    def replaced(
        self, condition: Vector, values: Sequence[Vector], body: "Callable[[], Sequence[Vector]]"
    ) -> tuple[Vector, ...]:
        """Return the values, or those of the body if a condition holds."""
        before = self.block
        with self.only_if(condition):
            others = body()
            last = self.block
        return tuple(
            [
                self.let(x, f"phi {x.type} [ {x.text}, %{before} ], [ {y.text}, %{last} ]")
                for x, y in zip(values, others, strict=True)
            ]
        )


@lru_cache(4096)
def _everywhere(element: str, word: str, width: int) -> str:
    """A constant in all lanes."""
    return word if width == 1 else f"<{', '.join([f'{element} {word}'] * width)}>"


def _text(x: Index) -> str:
    return str(x) if isinstance(x, int) else x.text


class Builder:
    """Arithmetic on vectors of one width and dtype, written into a function.

    Attributes:
        function: where to.
        width: how many lanes vectors have.
        bits: of a number, 64 or 32; integers that stand for a number's bits have as many.
        fused: whether the processor multiplies and adds in one.
    """

    def __init__(self, function: Function, width: int, dtype: DType = "float64", *, fused: bool = True) -> None:
        self.function = function
        self.width = width
        self.bits = 64 if dtype == "float64" else 32
        self.fused = fused
        self.like = Vector("", "number", width, self.bits)
        self.mask_like = Vector("", "mask", width, self.bits)
        self.integer_like = Vector("", "integer", width, self.bits)
        self.scalar_like = Vector("", "number", 1, self.bits)

    @property
    def dtype(self) -> DType:
        """The dtype of numbers."""
        return "float64" if self.bits == 64 else "float32"

    def of(self, *, width: int | None = None, dtype: DType | None = None) -> "Builder":
        """Return a builder of another width or dtype that writes into the same function."""
        return Builder(self.function, width or self.width, dtype or self.dtype, fused=self.fused)

    # Constants

    def number(self, x: float) -> Vector:
        """Return a number in all lanes."""
        return Vector(
            _everywhere(self.scalar_like.type, hexadecimal(x, self.bits), self.width), "number", self.width, self.bits
        )

    def integer(self, x: int) -> Vector:
        """Return an integer in all lanes."""
        return Vector(_everywhere(f"i{self.bits}", str(x), self.width), "integer", self.width, self.bits)

    def truth(self, x: bool) -> Vector:
        """Return a mask whose lanes are all true, or all false."""
        return Vector(_everywhere("i1", str(x).lower(), self.width), "mask", self.width, self.bits)

    # Arithmetic

    def _binary(self, name: str, a: Vector, b: Vector) -> Vector:
        return self.function.let(a, f"{name} {a}, {b.text}")

    def add(self, a: Vector, b: Vector) -> Vector:
        """The sum a + b."""
        return self._binary("fadd", a, b)

    def sub(self, a: Vector, b: Vector) -> Vector:
        """The difference a − b."""
        return self._binary("fsub", a, b)

    def mul(self, a: Vector, b: Vector) -> Vector:
        """The product a · b."""
        return self._binary("fmul", a, b)

    def div(self, a: Vector, b: Vector) -> Vector:
        """The quotient a ÷ b."""
        return self._binary("fdiv", a, b)

    def rem(self, a: Vector, b: Vector) -> Vector:
        """C's fmod, lane by lane."""
        return self._binary("frem", a, b)

    def neg(self, a: Vector) -> Vector:
        """−a."""
        return self.function.let(a, f"fneg {a}")

    def intrinsic(self, name: str, *xs: Vector) -> Vector:
        """Return one of LLVM's functions of numbers: ``"fabs"``."""
        return self.function.call(xs[0], f"llvm.{name}.{xs[0].suffix}", *xs, intrinsic=True)

    def fma(self, a: Vector, b: Vector, c: Vector) -> Vector:
        """The sum a · b + c, rounded once if the processor can."""
        return self.intrinsic("fma", a, b, c) if self.fused else self.add(self.mul(a, b), c)

    def abs(self, a: Vector) -> Vector:
        """|a|."""
        return self.intrinsic("fabs", a)

    def sqrt(self, a: Vector) -> Vector:
        """√a."""
        return self.intrinsic("sqrt", a)

    def copysign(self, a: Vector, b: Vector) -> Vector:
        """|a| with the sign bit of b."""
        return self.intrinsic("copysign", a, b)

    def floor(self, a: Vector) -> Vector:
        """⌊a⌋."""
        return self.intrinsic("floor", a)

    def ceil(self, a: Vector) -> Vector:
        """⌈a⌉."""
        return self.intrinsic("ceil", a)

    def trunc(self, a: Vector) -> Vector:
        """The whole part of a."""
        return self.intrinsic("trunc", a)

    def rint(self, a: Vector) -> Vector:
        """The nearest whole number, of two the even one."""
        return self.intrinsic("roundeven", a)

    def maximum(self, a: Vector, b: Vector) -> Vector:
        """The larger, nan if either is, b of equals: NumPy's rule."""
        return self.select(self.either(self.compare("<=", a, b), self.is_nan(b)), b, a)

    def minimum(self, a: Vector, b: Vector) -> Vector:
        """The smaller, nan if either is, b of equals: NumPy's rule."""
        return self.select(self.either(self.compare(">=", a, b), self.is_nan(b)), b, a)

    # Masks

    def compare(self, how: Comparison, a: Vector, b: Vector) -> Vector:
        """Whether it holds, of numbers or integers; with nan only ``!=`` does."""
        word = "fcmp" if a.kind == "number" else "icmp"
        like = Vector("", "mask", a.width, a.bits)
        return self.function.let(like, f"{word} {_COMPARE[a.kind][how]} {a}, {b.text}")

    def is_nan(self, a: Vector) -> Vector:
        """Whether it is nan."""
        return self.function.let(replace(a, kind="mask"), f"fcmp uno {a}, {a.text}")

    def both(self, a: Vector, b: Vector) -> Vector:
        """Both a and b."""
        return self._binary("and", a, b)

    def either(self, a: Vector, b: Vector) -> Vector:
        """Either a or b."""
        return self._binary("or", a, b)

    def negated(self, a: Vector) -> Vector:
        """Not a."""
        return self._binary("xor", a, self.truth(True))

    def select(self, mask: Vector, a: Vector, b: Vector) -> Vector:
        """Take a where the mask is true, else b; of numbers, integers or masks."""
        return self.function.let(a, f"select {mask}, {a}, {b}")

    def as_number(self, mask: Vector) -> Vector:
        """1 where the mask is true, else 0."""
        return self.select(mask, self.number(1.0), self.number(0.0))

    def first(self, count: Index) -> Vector:
        """Return a mask of the first ``count`` lanes, which may be more than there are, or fewer than none."""
        if isinstance(count, int):
            lanes = [f"i1 {str(k < count).lower()}" for k in range(self.width)]
            return replace(self.mask_like, text=lanes[0][3:] if self.width == 1 else f"<{', '.join(lanes)}>")
        wide = Vector("", "integer", self.width, 64)
        lanes = [f"i64 {k}" for k in range(self.width)]
        steps = "0" if self.width == 1 else f"<{', '.join(lanes)}>"
        return self.function.let(self.mask_like, f"icmp sgt {self._splat(count, wide)}, {steps}")

    # Bits

    def to_bits(self, a: Vector) -> Vector:
        """The bits of numbers, as integers."""
        like = replace(a, kind="integer")
        return self.function.let(like, f"bitcast {a} to {like.type}")

    def from_bits(self, a: Vector) -> Vector:
        """The numbers of which these integers are the bits."""
        like = replace(a, kind="number")
        return self.function.let(like, f"bitcast {a} to {like.type}")

    def integers(self, operation: IntegerOperation, a: Vector, b: Vector) -> Vector:
        """An operation on integers."""
        return self._binary(operation, a, b)

    def converted(self, a: Vector, dtype: DType) -> Vector:
        """Numbers of the other dtype, rounded to nearest."""
        like = replace(a, bits=64 if dtype == "float64" else 32)
        if like == a:
            return a
        return self.function.let(like, f"{'fpext' if like.bits == 64 else 'fptrunc'} {a} to {like.type}")

    # Lanes

    def _splat(self, x: Vector, like: Vector) -> Vector:
        if like.width == 1:
            return x
        first = self.function.let(like, f"insertelement {like.type} poison, {x}, i64 0")
        text = f"shufflevector {first}, {like.type} poison, <{like.width} x i32> zeroinitializer"
        return self.function.let(like, text)

    def splat(self, x: Vector) -> Vector:
        """A scalar in all lanes."""
        return self._splat(x, replace(x, width=self.width))

    def lane(self, x: Vector, k: int) -> Vector:
        """Lane k as a scalar."""
        return x if x.width == 1 else self.function.let(Vector("", x.kind, 1, x.bits), f"extractelement {x}, i64 {k}")

    def vector(self, scalars: Sequence[Vector]) -> Vector:
        """A vector of these scalars."""
        like = replace(scalars[0], width=len(scalars))
        result = replace(like, text="poison")
        for k, x in enumerate(scalars):
            result = x if like.width == 1 else self.function.let(like, f"insertelement {result}, {x}, i64 {k}")
        return result

    def shuffle(self, a: Vector, b: Vector, lanes: Sequence[int]) -> Vector:
        """A vector of these lanes of a and b, whose lanes follow those of a."""
        chosen = ", ".join(f"i32 {k}" for k in lanes)
        like = replace(a, width=len(lanes))
        return self.function.let(like, f"shufflevector {a}, {b}, <{len(lanes)} x i32> <{chosen}>")

    def halves(self, x: Vector) -> tuple[Vector, Vector]:
        """The first and the second half of the lanes."""
        half = x.width // 2
        if half == 1:
            return self.lane(x, 0), self.lane(x, 1)
        return self.shuffle(x, x, range(half)), self.shuffle(x, x, range(half, x.width))

    def reduced(self, x: Vector, combine: Callable[[Vector, Vector], Vector]) -> Vector:
        """The lanes combined to a scalar: halves by halves, an order that nothing changes."""
        while x.width > 1:
            x = combine(*self.halves(x))
        return x

    def total(self, x: Vector) -> Vector:
        """The sum of the lanes, as a scalar."""
        return self.reduced(x, self.add)

    def largest(self, x: Vector) -> Vector:
        """The largest lane, as a scalar; nan if any is."""
        return self.reduced(x, self.maximum)

    def smallest(self, x: Vector) -> Vector:
        """The smallest lane, as a scalar; nan if any is."""
        return self.reduced(x, self.minimum)

    def every(self, mask: Vector) -> Vector:
        """Whether a mask is true in all lanes, as a scalar."""
        if mask.width == 1:
            return mask
        bits = Vector("", "integer", 1, mask.width)
        all_lanes = self.function.let(bits, f"bitcast {mask} to {bits.type}")
        return self.function.let(replace(mask, width=1), f"icmp eq {all_lanes}, -1")

    def each(self, function: Callable[..., Vector], *xs: Vector) -> Vector:
        """A function of scalars, lane by lane."""
        return self.vector([function(*[self.lane(x, k) for x in xs]) for k in range(xs[0].width)])

    def guarded(self, ok: Vector, fast: Sequence[Vector], full: Callable[[], Sequence[Vector]]) -> tuple[Vector, ...]:
        """Return what is fast where all lanes are ok; else what ``full`` writes, in a block of its own."""
        odd = self.of(width=1).negated(self.every(ok))
        return self.function.replaced(odd, fast, full)

    # Memory, whose alignment is that of one number unless given

    def load(self, base: Vector, place: Index, mask: Vector | None = None, align: int = 0) -> Vector:
        """The numbers from ``place`` on; 0 where a mask is false, and nothing is read there."""
        where = self.function.at(base, place, self.like.element)
        align = align or self.bits // 8
        if mask is None:
            return self.function.let(self.like, f"load {self.like.type}, ptr {where.text}, align {align}")
        zero = self.number(0.0)
        if self.width == 1:
            (found,) = self.function.replaced(mask, [zero], lambda: [self.load(where, 0, align=align)])
            return found
        alignment = Vector(str(align), "integer", 1, 32)
        name = f"llvm.masked.load.{self.like.suffix}.p0"
        return self.function.call(self.like, name, where, alignment, mask, zero, intrinsic=True)

    def store(self, x: Vector, base: Vector, place: Index, mask: Vector | None = None, align: int = 0) -> None:
        """Write the numbers from ``place`` on, but where a mask is false."""
        where = self.function.at(base, place, self.like.element)
        align = align or self.bits // 8
        if mask is None:
            self.function.emit(f"store {x}, ptr {where.text}, align {align}")
        elif self.width == 1:
            with self.function.only_if(mask):
                self.store(x, where, 0, align=align)
        else:
            name = f"llvm.masked.store.{self.like.suffix}.p0"
            self.function.module.declarations[f"declare void @{name}({x.type}, ptr, i32, {mask.type})"] = None
            self.function.emit(f"call void @{name}({x}, {where}, i32 {align}, {mask})")

    def load_scalar(self, base: Vector, place: Index) -> Vector:
        """One number."""
        where = self.function.at(base, place, self.like.element)
        return self.function.let(
            self.scalar_like, f"load {self.scalar_like.type}, ptr {where.text}, align {self.bits // 8}"
        )

    def store_scalar(self, x: Vector, base: Vector, place: Index) -> None:
        """Write one number."""
        where = self.function.at(base, place, self.like.element)
        self.function.emit(f"store {x}, ptr {where.text}, align {self.bits // 8}")

    def gather(self, base: Vector, places: Sequence[Index]) -> Vector:
        """The numbers at these places, one for each lane."""
        return self.vector([self.load_scalar(base, place) for place in places])

    def scatter(self, x: Vector, base: Vector, places: Sequence[Index]) -> None:
        """Write each lane to its place, in order."""
        for k, place in enumerate(places):
            self.store_scalar(self.lane(x, k), base, place)

    def load_strided(self, base: Vector, place: Index, stride: int, align: int = 0) -> Vector:
        """The numbers at ``place + k · stride`` for the lanes k."""
        if stride == 0:
            return self.splat(self.load_scalar(base, place))
        if stride == 1 or self.width == 1:
            return self.load(base, place, align=align)
        return self.gather(base, [self.function.plus(place, k * stride) for k in range(self.width)])

    def store_strided(self, x: Vector, base: Vector, place: Index, stride: int, align: int = 0) -> None:
        """Write lane k to ``place + k · stride``."""
        if stride == 1 or self.width == 1:
            self.store(x, base, place, align=align)
        else:
            self.scatter(x, base, [self.function.plus(place, k * stride) for k in range(self.width)])

    def load_table(self, base: Vector, table: Vector, place: Index, bits: int = 64) -> Vector:
        """The numbers at the places that a table of indices holds from ``place`` on."""
        places = [self.function.plus(place, k) for k in range(self.width)]
        return self.gather(base, [self.function.load_index(table, p, bits) for p in places])

    def store_table(self, x: Vector, base: Vector, table: Vector, place: Index, bits: int = 64) -> None:
        """Write each lane to the place that a table of indices holds from ``place`` on."""
        places = [self.function.plus(place, k) for k in range(self.width)]
        self.scatter(x, base, [self.function.load_index(table, p, bits) for p in places])
