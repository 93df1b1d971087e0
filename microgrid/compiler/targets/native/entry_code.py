"""The machine code of functions that CPython calls, as LLVM text: objects in, one run of a program, objects out.

``self`` of such a function is a tuple. Its first entry is a ``bytes``, the *block*: 8-byte words that say where the
program and its memory are. Its second is called with all arguments, as they are, if one of them does not fit. Its
third makes the array of the first output, if that is returned as an array.
"""

from collections.abc import Sequence
from string import Template

API = {
    "PyBuffer_Release": "void (ptr)",
    "PyBytes_AsString": "ptr (ptr)",
    "PyErr_Clear": "void ()",
    "PyErr_NoMemory": "ptr ()",
    "PyErr_Occurred": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
    "PyEval_SaveThread": "ptr ()",
    "PyFloat_AsDouble": "double (ptr)",
    "PyFloat_FromDouble": "ptr (double)",
    "PyMem_RawFree": "void (ptr)",
    "PyMem_RawMalloc": "ptr (i64)",
    "PyObject_GetAttrString": "ptr (ptr, ptr)",
    "PyObject_GetBuffer": "i32 (ptr, ptr, i32)",
    "PyObject_Vectorcall": "ptr (ptr, ptr, i64, ptr)",
    "PyThread_acquire_lock": "i32 (ptr, i32)",
    "PyThread_release_lock": "void (ptr)",
    "PyTuple_GetItem": "ptr (ptr, i64)",
    "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)",
    "Py_DecRef": "void (ptr)",
}
"""The functions of CPython that are called, all of its stable ABI, with their types."""

ON_STACK = 1024
"""A workspace of so many bytes is on the stack."""

ANY = -1
"""The length of an axis over samples."""

_WRITABLE, _FORMAT, _C_CONTIGUOUS = 0x1, 0x4, 0x38


def scalar_function(arguments: int, outputs: Sequence[int], workspace: int, real: str, yields: bool) -> str:
    """Return the text of ``call(a, b, …)``, which returns a number, or one and a tuple of the others.

    Its block: the program; theta; seed; the bytes of its workspace; three types of numbers, the third int.

    Args:
        arguments: how many numbers it takes.
        outputs: how many numbers each output of the program has.
        workspace: how many bytes the program needs.
        real: the program's numbers, ``double`` or ``float``.
        yields: whether other threads run meanwhile.
    """
    starts = [sum(outputs[:k]) for k in range(len(outputs))]
    places = [*[("x", k) for k in range(arguments)], *[("y", start) for start in starts]]
    lines = [f"%p{k} = getelementptr {real}, ptr %{name}, i64 {at}" for k, (name, at) in enumerate(places)]
    lines += ["%state = call ptr @PyEval_SaveThread()"] * yields
    lines += [_run([f"p{k}" for k in range(len(places))], "1")]
    lines += ["call void @PyEval_RestoreThread(ptr %state)"] * yields
    memory = _STACK if workspace <= ON_STACK else _HEAP
    text = _HEAD + _NUMBER + _BEGIN + _NUMBERS + memory + (_VALUE if sum(outputs) == 1 else _PAIR) + _END
    return _module(
        text,
        real,
        arguments=arguments,
        others=sum(outputs) - 1,
        begin="",
        stack=f"%x = alloca [{arguments} x {real}]\n  %y = alloca [{sum(outputs)} x {real}]"
        + f"\n  %workspace = alloca [{ON_STACK} x i8], align 64" * (workspace <= ON_STACK),
        run="\n  ".join(lines),
    )


def step(arguments: int, outputs: int, real: str, number: bool) -> str:
    """Return the text of ``call(X, Y, …)``, of arrays, which returns the program's first output.

    Its block: the program; theta; seed; its workspace; a lock; from how many samples on other threads run
    meanwhile; how many samples there are if it is not batched, else 0; where each output but the first is written;
    and for each argument how many axes it has, and how long each of them is, or ``ANY``.

    Args:
        arguments: how many arrays it takes.
        outputs: how many outputs the program has.
        real: the program's numbers, ``double`` or ``float``.
        number: whether its first output is a number; else it is an array, which is returned transposed.
    """
    lines = []
    for k in range(arguments):
        lines += [f"%view{k} = getelementptr [80 x i8], ptr %views, i64 {k}", f"%x{k} = load ptr, ptr %view{k}"]
    lines.append("%y0 = getelementptr i8, ptr %y, i64 0" if number else "%y0 = load ptr, ptr %y")
    lines += [f"%y{k} = call ptr @address(ptr %block, i64 {6 + k})" for k in range(1, outputs)]
    pointers = [*[f"x{k}" for k in range(arguments)], *[f"y{k}" for k in range(outputs)]]
    result = [_LOCKED, _FIRST] if number else [_MADE, _LOCKED, _TRANSPOSED]
    return _module(
        "".join([_HEAD, _FITS, _RELEASE, _BEGIN, _ARRAYS, *result, _END]),
        real,
        arguments=arguments,
        stack=f"%views = alloca [{arguments} x [80 x i8]], align 16\n  %y = alloca [80 x i8], align 16",
        begin="%samples = call i64 @word(ptr %block, i64 6)\n  "
        f"%sizes.first = getelementptr i64, ptr %block, i64 {6 + outputs}",
        pointers="\n  ".join(lines),
        run=_run(pointers, "%known"),
        format=ord({"double": "d", "float": "f"}[real]),
        mask={"double": 7, "float": 3}[real],
        any=ANY,
        flags=_C_CONTIGUOUS | _FORMAT,
        writable=_C_CONTIGUOUS | _WRITABLE,
        compute="locked" if number else "compute",
    )


def _run(pointers: Sequence[str], samples: str) -> str:
    taken = [f"ptr %{name}" for name in ("theta", "seed", *pointers, "workspace")]
    return f"call void %run({', '.join(taken)}, i64 {samples})"


def _module(text: str, real: str, **parts: object) -> str:
    declarations = []
    for name, kind in API.items():
        result, _, taken = kind.partition(" ")
        declarations.append(f"declare {result} @{name}{taken}")
    short = real == "float"
    return "\n".join(declarations) + Template(text).substitute(
        parts,
        real=real,
        widened="%y = fpext float %x to double\n  ret double %y" if short else "ret double %x",
        narrowed="%y = fptrunc double %x to float\n  ret float %y" if short else "ret double %x",
    )


_HEAD = """
define internal i64 @word(ptr %block, i64 %k) alwaysinline {
  %at = getelementptr i64, ptr %block, i64 %k
  %word = load i64, ptr %at
  ret i64 %word
}
define internal ptr @address(ptr %block, i64 %k) alwaysinline {
  %at = getelementptr ptr, ptr %block, i64 %k
  %address = load ptr, ptr %at
  ret ptr %address
}
define internal ptr @object($real %x) alwaysinline {
  %y = call double @widened($real %x)
  %object = call ptr @PyFloat_FromDouble(double %y)
  ret ptr %object
}
define internal double @widened($real %x) alwaysinline {
  $widened
}
define internal $real @narrowed(double %x) alwaysinline {
  $narrowed
}
"""

_NUMBER = """
; Convert an object to a number, unless that would run Python code: it is of one of three types.
define internal i1 @number(ptr %object, ptr %block, ptr %target) {
  %type = call ptr @address(ptr %object, i64 1)
  %type0 = call ptr @address(ptr %block, i64 4)
  %type1 = call ptr @address(ptr %block, i64 5)
  %type2 = call ptr @address(ptr %block, i64 6)
  %is0 = icmp eq ptr %type, %type0
  %is1 = icmp eq ptr %type, %type1
  %is2 = icmp eq ptr %type, %type2
  %is01 = or i1 %is0, %is1
  %is = or i1 %is01, %is2
  br i1 %is, label %convert, label %no
convert:
  %x = call double @PyFloat_AsDouble(ptr %object)
  %suspect = fcmp oeq double %x, -1.0
  br i1 %suspect, label %check, label %yes
check:
  %error = call ptr @PyErr_Occurred()
  %fine = icmp eq ptr %error, null
  br i1 %fine, label %yes, label %large
large:
  call void @PyErr_Clear()
  br label %no
yes:
  %real = call $real @narrowed(double %x)
  store $real %real, ptr %target
  ret i1 true
no:
  ret i1 false
}
"""

_BEGIN = """
define ptr @call(ptr %self, ptr %args, i64 %n, ptr %names) {
entry:
  $stack
  %bytes = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %block = call ptr @PyBytes_AsString(ptr %bytes)
  %run = call ptr @address(ptr %block, i64 0)
  %theta = call ptr @address(ptr %block, i64 1)
  %seed = call ptr @address(ptr %block, i64 2)
  %counted = icmp eq i64 %n, $arguments
  %unnamed = icmp eq ptr %names, null
  %take = and i1 %counted, %unnamed
  $begin
  br i1 %take, label %next, label %other
"""

_END = """
other:
  %function = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %answer = call ptr @PyObject_Vectorcall(ptr %function, ptr %args, i64 %n, ptr %names)
  ret ptr %answer
}
"""

_NUMBERS = """
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %taken ]
  %all = icmp eq i64 %i, $arguments
  br i1 %all, label %memory, label %argument
argument:
  %object = call ptr @address(ptr %args, i64 %i)
  %target = getelementptr $real, ptr %x, i64 %i
  %is.number = call i1 @number(ptr %object, ptr %block, ptr %target)
  br i1 %is.number, label %taken, label %other
taken:
  %i.next = add i64 %i, 1
  br label %next
"""

_STACK = """
memory:
  $run
  br label %result
"""

_HEAP = """
memory:
  %needed = call i64 @word(ptr %block, i64 3)
  %asked = add i64 %needed, 63
  %heap = call ptr @PyMem_RawMalloc(i64 %asked)
  %full = icmp eq ptr %heap, null
  br i1 %full, label %none, label %some
none:
  %failed = call ptr @PyErr_NoMemory()
  ret ptr null
some:
  %start = ptrtoint ptr %heap to i64
  %behind = sub i64 0, %start
  %gap = and i64 %behind, 63
  %workspace = getelementptr i8, ptr %heap, i64 %gap
  $run
  call void @PyMem_RawFree(ptr %heap)
  br label %result
"""

_VALUE = """
result:
  %first = load $real, ptr %y
  %value = call ptr @object($real %first)
  ret ptr %value
"""

_PAIR = """
result:
  %pair = call ptr @PyTuple_New(i64 2)
  %no.pair = icmp eq ptr %pair, null
  br i1 %no.pair, label %nothing, label %tuple
tuple:
  %others = call ptr @PyTuple_New(i64 $others)
  %no.others = icmp eq ptr %others, null
  br i1 %no.others, label %lost, label %fill
fill:
  %set.others = call i32 @PyTuple_SetItem(ptr %pair, i64 1, ptr %others)
  %y.first = load $real, ptr %y
  %first = call ptr @object($real %y.first)
  %no.first = icmp eq ptr %first, null
  br i1 %no.first, label %lost, label %set
set:
  %set.first = call i32 @PyTuple_SetItem(ptr %pair, i64 0, ptr %first)
  br label %each
each:
  %k = phi i64 [ 0, %set ], [ %k.next, %keep ]
  %done = icmp eq i64 %k, $others
  br i1 %done, label %full.pair, label %one
one:
  %k.next = add i64 %k, 1
  %y.at = getelementptr $real, ptr %y, i64 %k.next
  %y.k = load $real, ptr %y.at
  %value = call ptr @object($real %y.k)
  %no.value = icmp eq ptr %value, null
  br i1 %no.value, label %lost, label %keep
keep:
  %set.k = call i32 @PyTuple_SetItem(ptr %others, i64 %k, ptr %value)
  br label %each
full.pair:
  ret ptr %pair
lost:
  call void @Py_DecRef(ptr %pair)
  br label %nothing
nothing:
  ret ptr null
"""

_FITS = """
; Return how many samples there are if a view has the sizes of an argument, else 0. Before the first it is not known.
define internal i64 @fits(ptr %view, ptr %sizes, i64 %samples) {
  %data = load ptr, ptr %view
  %data.number = ptrtoint ptr %data to i64
  %off = and i64 %data.number, $mask
  %aligned = icmp eq i64 %off, 0
  %format.at = getelementptr i8, ptr %view, i64 40
  %format = load ptr, ptr %format.at
  %unsaid = icmp eq ptr %format, null
  br i1 %unsaid, label %no, label %said
said:
  %letters = load i16, ptr %format, align 1
  %right = icmp eq i16 %letters, $format
  %axes.at = getelementptr i8, ptr %view, i64 36
  %axes.short = load i32, ptr %axes.at
  %axes = zext i32 %axes.short to i64
  %want.axes = load i64, ptr %sizes
  %as.many = icmp eq i64 %axes, %want.axes
  %right.many = and i1 %right, %as.many
  %all.right = and i1 %right.many, %aligned
  %shape.at = getelementptr i8, ptr %view, i64 48
  %shape = load ptr, ptr %shape.at
  br i1 %all.right, label %axis, label %no
axis:
  %k = phi i64 [ 0, %said ], [ %k.next, %same ]
  %known = phi i64 [ %samples, %said ], [ %now, %same ]
  %done = icmp eq i64 %k, %axes
  br i1 %done, label %yes, label %compare
compare:
  %k.next = add i64 %k, 1
  %size = call i64 @word(ptr %shape, i64 %k)
  %want = call i64 @word(ptr %sizes, i64 %k.next)
  %any = icmp eq i64 %want, $any
  %first = icmp eq i64 %known, 0
  %learn = and i1 %any, %first
  %now = select i1 %learn, i64 %size, i64 %known
  %asked = select i1 %any, i64 %now, i64 %want
  %equal = icmp eq i64 %size, %asked
  br i1 %equal, label %same, label %no
same:
  br label %axis
yes:
  ret i64 %known
no:
  ret i64 0
}
"""

_RELEASE = """
@transposed = private constant [2 x i8] c"T\\00"
define internal void @release(ptr %views, i64 %n) {
entry:
  br label %next
next:
  %i = phi i64 [ %n, %entry ], [ %less, %one ]
  %done = icmp eq i64 %i, 0
  br i1 %done, label %end, label %one
one:
  %less = sub i64 %i, 1
  %view = getelementptr [80 x i8], ptr %views, i64 %less
  call void @PyBuffer_Release(ptr %view)
  br label %next
end:
  ret void
}
"""

_ARRAYS = """
next:
  %i = phi i64 [ 0, %entry ], [ %held.next, %taken ]
  %sizes = phi ptr [ %sizes.first, %entry ], [ %sizes.next, %taken ]
  %known = phi i64 [ %samples, %entry ], [ %B, %taken ]
  %all = icmp eq i64 %i, $arguments
  br i1 %all, label %$compute, label %argument
argument:
  %object = call ptr @address(ptr %args, i64 %i)
  %view = getelementptr [80 x i8], ptr %views, i64 %i
  %failed = call i32 @PyObject_GetBuffer(ptr %object, ptr %view, i32 $flags)
  %got = icmp eq i32 %failed, 0
  br i1 %got, label %check, label %refused
check:
  %held.next = add i64 %i, 1
  %B = call i64 @fits(ptr %view, ptr %sizes, i64 %known)
  %axes = load i64, ptr %sizes
  %words = add i64 %axes, 1
  %sizes.next = getelementptr i64, ptr %sizes, i64 %words
  %unfit = icmp eq i64 %B, 0
  br i1 %unfit, label %release, label %taken
taken:
  br label %next
refused:
  call void @PyErr_Clear()
  br label %release
release:
  %held = phi i64 [ %i, %refused ], [ %held.next, %check ]
  call void @release(ptr %views, i64 %held)
  br label %other
"""

_MADE = """
compute:
  %make = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %made = call ptr @PyObject_Vectorcall(ptr %make, ptr %args, i64 %n, ptr null)
  %unmade = icmp eq ptr %made, null
  br i1 %unmade, label %nothing, label %room
nothing:
  call void @release(ptr %views, i64 $arguments)
  ret ptr null
room:
  %no.room = call i32 @PyObject_GetBuffer(ptr %made, ptr %y, i32 $writable)
  %is.room = icmp eq i32 %no.room, 0
  br i1 %is.room, label %locked, label %lost
lost:
  call void @Py_DecRef(ptr %made)
  br label %nothing
"""

_LOCKED = """
locked:
  $pointers
  %lock = call ptr @address(ptr %block, i64 4)
  %enough = call i64 @word(ptr %block, i64 5)
  %workspace = call ptr @address(ptr %block, i64 3)
  %is.long = icmp sge i64 %known, %enough
  br i1 %is.long, label %wait, label %try
try:
  %free = call i32 @PyThread_acquire_lock(ptr %lock, i32 0)
  %is.free = icmp eq i32 %free, 1
  br i1 %is.free, label %short, label %wait
short:
  $run
  call void @PyThread_release_lock(ptr %lock)
  br label %finish
wait:
  %state = call ptr @PyEval_SaveThread()
  %waited = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  $run
  call void @PyThread_release_lock(ptr %lock)
  call void @PyEval_RestoreThread(ptr %state)
  br label %finish
finish:
  call void @release(ptr %views, i64 $arguments)
"""

_FIRST = """
  %first = load $real, ptr %y0
  %value = call ptr @object($real %first)
  ret ptr %value
"""

_TRANSPOSED = """
  call void @PyBuffer_Release(ptr %y)
  %value = call ptr @PyObject_GetAttrString(ptr %made, ptr @transposed)
  call void @Py_DecRef(ptr %made)
  ret ptr %value
"""
