"""A loop program as one file of C99, which needs <math.h> and nothing else.

The file has no state: what a call needs beyond its arguments stands in a workspace that the caller owns. So it runs
where there is no operating system, and in several threads or interrupts at once, each with its own workspace.
"""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from microgrid.compiler.ir import NUMBER, Form
from microgrid.compiler.signature import Floats, Signature
from microgrid.compiler.stages import Stages
from microgrid.compiler.targets.c_rows import Rows, Term, comment
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Name,
    Operand,
    Pack,
    Statement,
    Store,
)
from microgrid.compiler.targets.native.schedule import ScheduleError
from microgrid.compiler.targets.native.target import loop_program
from microgrid.compiler.targets.numpy import NumPy
from microgrid.compiler.task import Task

Real = Literal["double", "float"]
REALS: dict[str, Real] = {"float64": "double", "float32": "float"}

_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while linux unix main

NULL NAN INFINITY HUGE_VAL HUGE_VALF HUGE_VALL DOMAIN SING OVERFLOW UNDERFLOW PLOSS TLOSS X_TLOSS MAXFLOAT EOF BUFSIZ
FILENAME_MAX FOPEN_MAX L_tmpnam TMP_MAX FILE stdin stdout stderr errno signgam math_errhandling offsetof
isnan isinf isfinite isnormal signbit fpclassify isgreater isless isunordered ptrdiff_t size_t wchar_t printf abs
"""
_FUNCTIONS = """
acos asin atan atan2 cos sin tan acosh asinh atanh cosh sinh tanh exp exp2 expm1 frexp ilogb ldexp log log10 log1p log2
logb modf scalbn scalbln cbrt fabs hypot pow sqrt erf erfc lgamma tgamma gamma ceil floor nearbyint rint lrint llrint
round lround llround trunc fmod remainder remquo copysign nan nextafter nexttoward fdim fmax fmin fma j0 j1 jn y0 y1 yn
"""
RESERVED = {*_WORDS.split()} | {name + kind for name in _FUNCTIONS.split() for kind in ("", "f", "l")}
"""What no name in a file may be: the words of C, the names and macros of <math.h>, <stddef.h> and <stdio.h>."""

WIDTH = 110
COPIED = "number"
"""What a number is called that is copied from an argument to the workspace."""
NEUTRAL = {"sum": 0.0, "dot": 0.0, "largest": -math.inf, "smallest": math.inf}
"""What a reduction starts from that changes nothing."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An array that the function takes, for its numbers or for its results.

    Attributes:
        label: how it is called, in any letters.
        buffer: which buffer of the program it is; one of the same role and position, if the program uses it.
        meaning: what it holds, for the header.
    """

    label: str
    buffer: Buffer
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a self-test gives to the function, and what must come out.

    Attributes:
        arrays: the numbers of each parameter, in order; what comes out for those that are outputs.
        allowed: for each parameter, by how much each of its numbers may be off.
        samples: how many there are.
    """

    arrays: Sequence[NDArray[Any]]
    allowed: Sequence[float]
    samples: int = 1


def to_c(
    program: LoopProgram,
    name: str,
    parameters: Sequence[Parameter] | None = None,
    *,
    real: Real | None = None,
    tile: int = 1,
    recorded: Recorded | None = None,
    purpose: str = "",
) -> str:
    """Return a loop program as a file of C99 with one function.

    Args:
        program: the loop program.
        name: the name of the function, which begins all names that the file defines.
        parameters: what the function takes, in order; the buffers of the program under their own names unless given.
        real: the type of all numbers, ``"double"`` or ``"float"``; that of the program unless given.
        tile: how many samples are computed at a time: a larger tile may be faster, and takes more workspace.
        recorded: what a self-test compares, in a ``main`` that is compiled with ``-DNAME_TEST``.
        purpose: what the function computes, for the header.

    Raises:
        NotImplementedError: for a row that C has no form of, naming it.
        ValueError: for a name, a type or a tile that cannot be.
    """
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in RESERVED:
        raise ValueError(
            f"name must be a name in C that is no word or function of its own, such as 'model'; got {name!r}"
        )
    if real not in (None, "double", "float"):
        raise ValueError(f"real must be 'double' or 'float'; got {real!r}")
    if type(tile) is not int or tile < 1:
        raise ValueError(f"tile must be a whole number of samples, at least 1; got {tile!r}")
    if parameters is None:
        order = ("theta", "seed", "argument", "output")
        given = sorted((b for b in program.buffers if b.role in order), key=lambda b: (order.index(b.role), b.position))
        parameters = [Parameter(b.name, b) for b in given]
    return _File(program, name, parameters, real or REALS[program.dtype], tile, recorded, purpose).text()


def export(
    stages: Stages,
    task: Task,
    name: str,
    labels: Sequence[str],
    *,
    real: Real | None = None,
    tile: int = 1,
    recorded: tuple[Floats, Floats | None, Sequence[Any]] | None = None,
) -> str:
    """Return what computes a task as a file of C99: what ``Kernel.to_c`` returns.

    Args:
        stages: the function.
        task: what to compute of it.
        name: the name of the function in C.
        labels: what the user calls each parameter.
        real: the type of all numbers, ``"double"`` or ``"float"``; that of the function unless given.
        tile: how many samples are computed at a time.
        recorded: the parameters, the weights of the outputs if the task takes them, and a batch, for a self-test.

    Raises:
        NotImplementedError: for a function or a row that C has no form of, with the reason.
        TypeError: as ``to_c``, or if a batch is none.
        ValueError: as ``to_c``, or if a batch is none.
    """
    signature, sizes = stages.signature, stages.program.sizes
    names = [f"gradient_by_{x}" for x in signature.names] * task.by_arguments
    names = ["value"] * task.value + ["gradient"] * task.by_parameters + names
    forms = task.forms(signature, [len(labels), *sizes])
    seed = Buffer("seed", "seed", signature.outputs or 1, signature.per_sample)
    given = [Parameter("theta", Buffer("theta", "theta", len(labels)), _listed(labels))] * bool(labels)
    given += [Parameter("seed", seed, "the weight of each output in the sum that is differentiated")] * (
        task.takes_seed(signature)
    )
    for k, (x, shape, size) in enumerate(zip(signature.names, signature.shapes, sizes, strict=True)):
        what = f"an array of shape {shape}, row by row" if len(shape) > 1 else ""
        given.append(Parameter(x, Buffer(x, "argument", size, signature.batched, k), what))
    results = []
    for k, (x, (members, batched)) in enumerate(zip(names, forms, strict=True)):
        what = "the derivatives" if x.startswith("gradient") else "the output" + "s" * (signature.outputs is not None)
        results.append(Parameter(x, Buffer(x, "output", math.prod(members), batched, k), what))
    try:
        program = loop_program(stages, task, packs=tile != 1)
    except ScheduleError as error:
        raise NotImplementedError(f"this function has no loops, of which C is made: {error}") from error
    kind = real or REALS[signature.dtype]
    return to_c(
        program,
        name,
        [*given, *results],
        real=kind,
        tile=tile,
        recorded=None if recorded is None else _recorded(stages, task, given, forms, kind, *recorded),
        purpose=_purpose(signature, task),
    )


def _listed(labels: Sequence[str]) -> str:
    """Return what the parameters are."""
    if len(labels) > 16 or not all(labels):
        return "the parameters, in the order of kernel.parameters"
    return f"the parameters {', '.join(labels)}"


def _purpose(signature: Signature, task: Task) -> str:
    """Return in words what a function in C computes."""
    whole = {"mean": ", the mean over the samples", "sum": ", the sum over the samples", None: ", of each sample"}
    samples = whole[signature.reduce] if signature.batched else ""
    by = ["theta"] * task.by_parameters + [*signature.names] * task.by_arguments
    gradient = f", and its gradient by {', '.join(by)}" if by else ""
    return f"the value of a function of ({', '.join(signature.names)}){samples}{gradient}."


def _recorded(
    stages: Stages,
    task: Task,
    given: Sequence[Parameter],
    forms: Sequence[Form],
    real: Real,
    theta: Floats,
    seed: Floats | None,
    batch: Sequence[Any],
) -> Recorded:
    """Return what NumPy computes of a batch, and how far rounding may take C from that.

    The error of a computation in single precision is measured, as its distance from one in double precision; in double
    precision it is so many times less as the numbers are more precise. Another order of sums and other functions
    than NumPy's may make of it some times as much.
    """
    single = np.float32 if real == "float" else np.float64
    found: dict[str, list[Floats]] = {}
    for dtype in ("float64", "float32"):
        signature = replace(stages.signature, dtype=dtype)
        arrays, size = signature.arguments([np.asarray(x, single) for x in batch])
        parameters = signature.parameters(np.asarray(theta, single), stages.program.parameters)
        weights = np.empty(0, dtype)
        if task.takes_seed(signature):
            weights = np.empty(
                (signature.outputs or 1, size) if signature.per_sample else signature.outputs or 1, dtype
            )
            ones = np.ones(weights.shape[0]) if seed is None else np.asarray(seed, single)
            weights.T[...] = signature.seed(ones, weights.T.shape)
        outs = [np.empty((*shape, size) if batched else shape, dtype) for shape, batched in forms]
        NumPy().build(Stages(stages.program, signature), task).run(parameters, weights, arrays, outs)
        found[dtype] = outs
        if dtype == "float64":
            numbers = {"theta": [parameters], "seed": [weights], "argument": arrays}
    unit = float(np.finfo(single).eps)
    allowed = []
    for exact, rough in zip(found["float64"], found["float32"], strict=True):
        usual = np.isfinite(exact) & np.isfinite(rough)
        error = np.max(np.abs(exact - rough), initial=0.0, where=usual) / float(np.finfo(np.float32).eps)
        largest = np.max(np.abs(exact), initial=0.0, where=np.isfinite(exact))
        allowed.append(64.0 * unit * float(error + largest))
    inputs = [numbers[x.buffer.role][x.buffer.position] for x in given]
    return Recorded([*inputs, *found["float64"]], [0.0] * len(inputs) + allowed, size)


class _Names:
    """Names for C, each given once."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.taken = {*RESERVED, prefix}

    def new(self, label: str) -> str:
        """Return a name for a label that no other has here."""
        name = re.sub("_+", "_", re.sub("[^A-Za-z0-9]", "_", label)).strip("_") or "x"
        if not name[0].isalpha() or re.match(f"(M|FP|MATH|{self.prefix})_", name):
            name = f"x{name}"
        candidate, k = name, 2
        while candidate in self.taken:
            candidate, k = f"{name}_{k}", k + 1
        self.taken.add(candidate)
        return candidate


class _File:
    """One file, while it is written."""

    def __init__(
        self,
        program: LoopProgram,
        name: str,
        parameters: Sequence[Parameter],
        real: Real,
        tile: int,
        recorded: Recorded | None,
        purpose: str,
    ) -> None:
        self.program, self.name, self.real, self.recorded, self.purpose = program, name, real, recorded, purpose
        self.batched = any(x.buffer.batched for x in parameters) or any(b.batched for b in program.buffers)
        self.tile = tile if self.batched else 1
        self.rows = Rows(name, real)
        self.names = _Names(name)
        self.parameters = parameters
        self.given = [self.names.new(x.label) for x in parameters]
        self.workspace = self.names.new("w")
        self.samples = self.names.new("n")
        self.first = self.names.new("first" if self.tile > 1 else "sample")
        self.in_tile = self.names.new("z")
        self.in_tile_count = self.names.new("samples")
        self.needed = _needed(program)
        self.uses = Counter(x for statement in program.walk() for x in _reads(statement))
        self.uses[COPIED] = 1
        self.depth = 0
        self.lines: list[str] = []
        self.indent = "    "
        self.env: dict[Name, Term] = {}
        self._place_buffers()

    def _place_buffers(self) -> None:
        """Name what stands in memory; write the constants and the tables that say which members are read."""
        addresses = [
            x.address
            for x in self.program.walk()
            if isinstance(x, Store) or (isinstance(x, Load) and x.name in self.needed)
        ]
        read = {x.buffer.name for x in addresses}
        for x in self.program.walk():
            if isinstance(x, Pack):
                read |= {x.source.name, x.target.name}
        given: dict[tuple[str, int], str] = {
            (x.buffer.role, x.buffer.position): n for x, n in zip(self.parameters, self.given, strict=True)
        }
        stored = self._stored(given)
        fields = _Names(self.name)
        self.places: dict[Name, str] = {}
        self.locals: dict[Buffer, str] = {}
        self.head: list[str] = []
        for buffer in self.program.buffers:
            if max(buffer.members, 1) * self.tile >= 2**31:
                raise ValueError(f"buffer {buffer.name} has {buffer.members} members, more than C's int counts")
            if buffer.name not in read:
                continue
            if buffer.role == "constant" and buffer.values is not None:
                self.places[buffer.name] = self.names.new(buffer.name)
                self.head += self._array(self.places[buffer.name], buffer.values.ravel().tolist())
            elif buffer.role == "local":
                what = list(stored.get(buffer.name, {buffer.name: None}))
                field = fields.new(what[0] if len(what) == 1 else "shared")
                self.places[buffer.name] = f"{self.workspace}->{field}"
                self.locals[buffer] = f"{field}[{self._size(buffer)}];" + f" /* {comment(', '.join(what))} */" * (
                    len(what) > 1
                )
            else:
                self.places[buffer.name] = given[buffer.role, buffer.position]
        self.tables: dict[bytes, str] = {}
        for table in [x.table for x in addresses if x.table is not None]:
            if table.tobytes() not in self.tables:
                largest = int(table.max(initial=0))
                kind = "unsigned char" if largest < 2**8 else "unsigned short" if largest < 2**16 else "int"
                self.tables[table.tobytes()] = name = self.names.new("members")
                self.head += self._array(name, table.ravel().tolist(), kind)

    def _stored(self, given: dict[tuple[str, int], str]) -> dict[Name, dict[str, None]]:
        """Return for each buffer the rows, the kinds of sums and the arguments that are stored in it."""
        kinds: dict[Operand, str] = {}
        stored: dict[Name, dict[str, None]] = {}
        for x in self.program.walk():
            match x:
                case Let(name, op, (operand, *_)):
                    kinds[name] = kinds.get(operand, op.name) if op is NUMBER else op.name
                case For():
                    kinds |= {total.name: total.kind for total in x.carried}
                case Store(address, value) if value in kinds:
                    stored.setdefault(address.buffer.name, {})[kinds[value]] = None
                case Pack(source, target):
                    stored.setdefault(target.name, {})[given[source.role, source.position]] = None
        return stored

    # -- the file -------------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the file."""
        body = self._body()
        helpers = "".join(self.rows.functions.values())
        struct = [f"{self.real} {field}" for field in self.locals.values()]
        tag = f"struct {self.name}_workspace"
        declared = "\n".join([f"\n{tag} {{", *[f"    {line}" for line in struct], "};\n"]) if struct else ""
        prototype = _wrapped(f"void {self.name}(", self._signature(), ")")
        guard = f"{self.name.upper()}_HEADER"
        return (
            f"{self._header()}\n#include <stddef.h>\n{declared}\n{prototype};\n\n#ifndef {guard}\n\n#include <math.h>\n"
            f"{helpers}\n{prototype}\n{{\n{body}}}\n{self._test()}\n#endif\n"
        )

    def _size(self, buffer: Buffer) -> int:
        return max(buffer.members, 1) * (self.tile if buffer.batched else 1)

    def _signature(self) -> list[str]:
        arrays = [
            f"{'' if x.buffer.role == 'output' else 'const '}{self.real} *restrict {n}"
            for x, n in zip(self.parameters, self.given, strict=True)
        ]
        workspace = [f"struct {self.name}_workspace *restrict {self.workspace}"] if self.locals else []
        return [*arrays, *workspace, *[f"ptrdiff_t {self.samples}"] * self.batched] or ["void"]

    def _header(self) -> str:
        test = f"{self.name.upper()}_TEST"
        bytes_of_one = 4 if self.real == "float" else 8
        size = sum(map(self._size, self.locals)) * bytes_of_one
        rows = []
        for x, n in zip(self.parameters, self.given, strict=True):
            members = x.buffer.members
            count = f"{members} number{'s' * (members != 1)}"
            place = ""
            if x.buffer.batched and members == 1:
                place = f" of each sample i: {n}[i]"
            elif x.buffer.batched and x.buffer.role == "argument":
                place = f" of each sample i: {n}[{members} * i + k] is number k"
            elif x.buffer.batched:
                place = f" of each sample i: {n}[{self.samples} * k + i] is number k"
            rows.append((n, f"{comment(x.meaning)}{': ' if x.meaning else ''}{count}{place}"))
        if self.locals:
            rows.append((self.workspace, f"{size} bytes, which need no values; one for each call that runs at a time"))
        if self.batched:
            rows.append((self.samples, f"how many samples, at least 1; computed {self.tile} at a time"))
        width = max([len(n) for n, _ in rows], default=0)
        what = comment(self.purpose) or "A compiled function"
        paragraphs = [
            *textwrap.wrap(f"{self.name}: {what}", WIDTH),
            "",
            *textwrap.wrap(
                "Written by microgrid. C99; allocates nothing, keeps nothing from one call to the next. "
                "The arrays must not overlap.",
                WIDTH,
            ),
            "",
            f"    cc -std=c99 -O2 -c {self.name}.c     and link with -lm",
        ]
        if self.recorded:
            paragraphs.append(f"    cc -std=c99 -O2 -D{test} {self.name}.c -lm && ./a.out     tests itself")
        paragraphs += [
            f'    #define {self.name.upper()}_HEADER     before #include "{self.name}.c": declarations alone',
            "",
        ]
        for n, text in rows:
            paragraphs += textwrap.wrap(f"{n:{width}}  {text}", WIDTH, subsequent_indent=" " * (width + 2))
        return "/*\n" + "".join(f" * {line}".rstrip() + "\n" for line in paragraphs) + " */"

    def _test(self) -> str:
        """Return a ``main`` that compares what comes out with what was recorded."""
        if self.recorded is None:
            return ""
        name, real, suffix = self.name, self.real, self.rows.suffix
        names, lines, calls, checks = _Names(name), [], [], []
        for x, array, allowed in zip(self.parameters, self.recorded.arrays, self.recorded.allowed, strict=True):
            n = names.new(x.label)
            numbers = np.ravel(array).tolist()
            calls.append(n)
            if x.buffer.role == "output":
                expected = names.new(f"expected {x.label}")
                lines += self._array(expected, numbers)
                lines.append(f"static {real} {n}[{max(len(numbers), 1)}];")
                size, within = len(numbers), self.rows.number(allowed)
                checks.append(f'bad += {name}_disagrees("{n}", {n}, {expected}, {size}, {within});')
            else:
                lines += self._array(n, numbers)
        if self.locals:
            workspace = names.new("workspace")
            lines.append(f"static struct {name}_workspace {workspace};")
            calls.append(f"&{workspace}")
        calls += [str(self.recorded.samples)] * self.batched
        call = textwrap.wrap(f"{name}({', '.join(calls)});", WIDTH, subsequent_indent="    ")
        body = "\n".join(f"    {line}" for line in [*lines, "int bad = 0;", *call, *checks, "return bad;"])
        return f"""
#ifdef {name.upper()}_TEST

#include <stdio.h>

/* Returns 1, and prints why, unless all numbers are those that were recorded, up to rounding. */
static int {name}_disagrees(const char *what, const {real} *found, const {real} *expected, int size, {real} allowed)
{{
    int bad = 0;
    for (int i = 0; i < size; i++) {{
        const int same = found[i] == expected[i] || (found[i] != found[i] && expected[i] != expected[i]);
        if (same || fabs{suffix}(found[i] - expected[i]) <= allowed)
            continue;
        if (!bad)
            printf("{name}: %s[%d] is %.17g; expected %.17g, off by at most %g\\n", what, i, (double)found[i],
                   (double)expected[i], (double)allowed);
        bad = 1;
    }}
    if (!bad)
        printf("{name}: %s is as recorded\\n", what);
    return bad;
}}

int main(void)
{{
{body}
}}

#endif
"""

    def _array(self, name: str, numbers: Sequence[float], kind: str = "") -> list[str]:
        """Return the definition of a table of constants."""
        texts = [str(x) if kind else re.sub(r"^\((-.*)\)$", r"\1", self.rows.number(x)) for x in numbers] or ["0"]
        head = f"static const {kind or self.real} {name}[{len(texts)}] = {{"
        if len(head) + sum(len(x) + 2 for x in texts) < WIDTH:
            return [f"{head}{', '.join(texts)}}};"]
        return [head, *textwrap.wrap(", ".join(texts), WIDTH, initial_indent="    ", subsequent_indent="    "), "};"]

    # -- the function ---------------------------------------------------------------------------------

    def _body(self) -> str:
        n, first, program = self.samples, self.first, self.program
        count, weight = self.names.new(COUNT), self.names.new(WEIGHT)
        self.env = {COUNT: Term(count), WEIGHT: Term(weight)}
        self._statements(program.before, titled=True)
        if program.tile:
            step = f" += {self.tile}" if self.tile > 1 else "++"
            with self._block(f"for (ptrdiff_t {first} = 0; {first} < {n}; {first}{step})"):
                if self.tile > 1:
                    rest = f"{n} - {first}"
                    self._write(f"const int {self.in_tile_count} = {rest} < {self.tile} ? (int)({rest}) : {self.tile};")
                self._statements(program.tile, titled=True)
        self._statements(program.after, titled=True)
        words = {*re.findall(r"\w+", re.sub(r"/\*.*\*/|->\w+", "", "\n".join(self.lines)))}
        samples = f"({self.real}){n}" if self.batched else "1"
        head = [*self.head]
        head += [f"const {self.real} {count} = {samples};"] * bool(words & {count, weight})
        head += [f"const {self.real} {weight} = 1 / {count};"] * (weight in words)
        words |= {n} if words & {count, weight} else set()
        parameters = [*self.given, *[self.workspace] * bool(self.locals), *[n] * self.batched]
        head += [f"(void){x};" for x in parameters if x not in words]
        return "".join(f"{line}\n" for line in [*[f"    {line}" for line in head], *self.lines])

    def _write(self, line: str) -> None:
        self.lines.append(self.indent + line)

    @contextmanager
    def _block(self, head: str, *names: str) -> Iterator[None]:
        """Write a block; what is named in it is known in it only."""
        env, taken = self.env.copy(), self.names.taken.copy()
        self.names.taken |= {*names}
        self._write(f"{head} {{")
        self.indent += "    "
        self.depth += bool(names)
        yield
        self.depth -= bool(names)
        self.indent = self.indent[4:]
        self._write("}")
        self.env, self.names.taken = env, taken

    def _declare(self, name: Name, label: str, text: str, kind: str = "", mask: bool = False) -> str:
        known = self.names.new(label)
        self._write(f"{kind or f'const {self.real}'} {known} = {text};")
        self.env[name] = Term(known, mask)
        return known

    def _statements(
        self, statements: Sequence[Statement], carried: Sequence[Carried] = (), titled: bool = False
    ) -> None:
        for k, statement in enumerate(statements):
            match statement:
                case Load(name, address) if name in self.needed:
                    if self._is_read_next(name, statements[k + 1 :], carried):
                        self.env[name] = Term(self._place(address))
                    else:
                        self._declare(name, self.places[address.buffer.name].split(">")[-1], self._place(address))
                case Let(name, op, operands) if name in self.needed:
                    terms = [self._operand(x) for x in operands]
                    found = self.rows.apply(op, terms)
                    if op is NUMBER and terms[0].mask:
                        self.env[name] = terms[0]
                    else:
                        self._declare(name, op.name, found.text, "const int" * found.mask, found.mask)
                case Store(address, value, adds):
                    self._write(f"{self._place(address)} {'+=' if adds else '='} {self._number(value)};")
                case Pack(source, target):
                    at = Affine(0, (("member", 1),))
                    copy = (Load(COPIED, Address(source, at)), Store(Address(target, at), COPIED))
                    self._for(For("member", source.members, (For(SAMPLES, "samples", copy),)))
                case For() if any(x.name in self.needed for x in statement.carried) or self._stores(statement):
                    if titled:
                        self._write(f"/* {comment(self._summary(statement))} */")
                    self._for(statement)

    def _is_read_next(self, name: Name, rest: Sequence[Statement], carried: Sequence[Carried]) -> bool:
        """Whether a number in memory is read once, before anything is written: it needs no name."""
        if self.uses[name] != 1:
            return False
        for statement in rest:
            if name in _reads(statement):
                return not isinstance(statement, For)
            if not isinstance(statement, Load | Let):
                return False
        return any(name in x.values for x in carried)

    def _stores(self, loop: For) -> bool:
        return any(isinstance(x, Store | Pack) for x in self.program.walk(loop.body))

    def _summary(self, loop: For) -> str:
        """Return what a loop computes, and where to."""
        inside = [loop, *self.program.walk(loop.body)]
        stores = [x for x in inside if isinstance(x, Store)]
        places = dict.fromkeys(self.places[x.address.buffer.name] for x in stores)
        kinds: dict[str, None] = dict.fromkeys(x.kind for s in inside if isinstance(s, For) for x in s.carried)
        kinds |= dict.fromkeys(x.op.name for x in inside if isinstance(x, Let) and x.op is not NUMBER)
        moved = "a copy" if any(isinstance(x, Load) for x in inside) else "0"
        return f"{', '.join(places) or 'for what follows'}: {', '.join(kinds) or moved}"

    def _for(self, loop: For) -> None:
        if loop.when:
            with self._block(f"if ({self._operand(loop.when).text})"):
                self._statements(loop.body, ())
            return
        carried = [x for x in loop.carried if {x.name, x.before} & self.needed]
        if loop.extent == SAMPLES and self.tile == 1 and all(x.start == NEUTRAL.get(x.kind) for x in carried):
            self._one_sample(loop, carried)
            return
        totals = [self._declare(x.name, x.kind, self._number(x.start), kind=self.real) for x in carried]
        taken = self.names.taken.copy()
        if loop.extent == SAMPLES:
            index, last = self.in_tile, self.in_tile_count if self.tile > 1 else "1"
        else:
            index, last = self.names.new("ijklmopqr"[min(self.depth, 8)]), str(loop.extent)
        up, down = f"{index} = 0; {index} < {last}; {index}++", f"{index} = {last} - 1; {index} >= 0; {index}--"
        self.names.taken = taken
        with self._block(f"for (int {down if loop.backward else up})", index):
            self.env[loop.index] = Term(index)
            for x, total in zip(carried, totals, strict=True):
                if x.before in self.needed:
                    self._declare(x.before, "before", total)
            self._statements(loop.body, carried)
            for x, total in zip(carried, totals, strict=True):
                self._write(f"{total} {self._next(x, total)};")

    def _one_sample(self, loop: For, carried: Sequence[Carried]) -> None:
        """Write what is done for a tile of one sample, without a loop."""
        self._statements(loop.body, carried)
        values = [[self._number(value) for value in x.values] for x in carried]
        for x, factors in zip(carried, values, strict=True):
            self._declare(x.name, x.kind, " * ".join(factors))

    def _next(self, x: Carried, total: str) -> str:
        values = [self._number(value) for value in x.values]
        match x.kind:
            case "sum" | "dot":
                return f"+= {' * '.join(values)}"
            case "largest" | "smallest":
                return f"= {self.rows.call('maximum' if x.kind == 'largest' else 'minimum', [total, *values])}"
            case "state":
                return f"= {values[0]}"

    def _operand(self, x: Operand) -> Term:
        return self.rows.operand(x, self.env)

    def _number(self, x: Operand) -> str:
        return self.rows.real_term(self._operand(x))

    def _place(self, address: Address) -> str:
        """Return a number in memory, as ``Buffer`` says where it stands."""
        buffer = address.buffer
        member = _affine(address.member, self.env)
        if address.chosen is not None:
            name, stride = address.chosen
            member = _sum(_product(f"(int)({self._number(name)})", str(stride)), member)
        if address.table is not None:
            member = f"{self.tables[address.table.tobytes()]}[{member}]"
        in_tile = self.in_tile if self.tile > 1 else "0"
        sample = _sum(self.first, in_tile)
        if buffer.batched:
            match buffer.role:
                case "argument":
                    member = _sum(_product(sample, str(buffer.members)), member)
                case "local":
                    member = _sum(_product(member, str(self.tile)), in_tile)
                case _:
                    member = _sum(_product(member, self.samples), sample)
        return f"{self.places[buffer.name]}[{member}]"


def _reads(statement: Statement) -> list[Operand]:
    """Return the names that a statement reads, as often as it reads them; not those of a loop's body."""
    match statement:
        case Let(_, _, operands):
            return list(operands)
        case Load(_, address):
            return _chosen(address)
        case Store(address, value):
            return [value, *_chosen(address)]
        case For():
            return [statement.when, *[value for x in statement.carried for value in (*x.values, x.start)]]
    return []


def _chosen(address: Address) -> list[Operand]:
    """The number that chooses a member."""
    return [] if address.chosen is None else [address.chosen[0]]


def _needed(program: LoopProgram) -> set[Name]:
    """Return the names on which something depends that is stored."""
    reads: dict[Name, set[Operand]] = {}
    needed: set[Name] = set()
    todo: list[Operand] = []
    for statement in program.walk():
        match statement:
            case Let(name, _, operands):
                reads.setdefault(name, set()).update(operands)
            case Load(name, address):
                reads.setdefault(name, set()).update(_chosen(address))
            case Store(address, value):
                todo += [value, *_chosen(address)]
            case Pack():
                todo.append(COPIED)
            case For():
                todo += [statement.when] * bool(statement.when)
                for carried in statement.carried:
                    for name in (carried.name, carried.before):
                        reads.setdefault(name, set()).update((*carried.values, carried.start))
    while todo:
        x = todo.pop()
        if isinstance(x, str) and x not in needed:
            needed.add(x)
            todo += reads.get(x, ())
    return needed


def _affine(x: Affine, env: dict[Name, Term]) -> str:
    terms = [(stride, _product(env[name].text, str(abs(stride)))) for name, stride in x.terms if stride]
    terms += [(x.base, str(abs(x.base)))] * (x.base != 0)
    terms.sort(key=lambda term: term[0] < 0)  # what is added comes first
    text = "".join(f" {'-' if factor < 0 else '+'} {term}" for factor, term in terms) or " + 0"
    return text.removeprefix(" + ") if text[1] == "+" else f"-{text[3:]}"


def _product(x: str, factor: str) -> str:
    if x == "0" or factor == "1":
        return x
    return f"{factor} * {x}" if re.fullmatch(r"\w+(\[\w+\])?", x) else f"{factor} * ({x})"


def _sum(a: str, b: str) -> str:
    return a if b == "0" else b if a == "0" else f"{a} + {b}"


def _wrapped(head: str, parts: Sequence[str], tail: str) -> str:
    """Return a list of words, in which lines end behind commas only."""
    text = head + ", ".join(part.replace(" ", "\xa0") for part in parts) + tail
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="    ")).replace("\xa0", " ")
